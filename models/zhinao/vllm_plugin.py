"""vLLM's entry point (group `vllm.general_plugins`): it calls `register` in each of its processes.

Only names are registered here; vLLM imports the classes when a checkpoint needs them.
"""

ARCHITECTURES = {
    "ZhinaoForCausalLM": "models.zhinao.vllm_models:ZhinaoForCausalLM",
    "TextEncoderModel": "models.zhinao.vllm_models:TextEncoderModel",
}


def register() -> None:
    """Make the family's configuration, tokenizer and architectures known; more than once does no harm."""
    from transformers import AutoConfig
    from vllm import ModelRegistry  # type: ignore[import-not-found]

    from models.zhinao.auto_tokenizer import register as register_tokenizer
    from models.zhinao.config import ZhinaoConfig

    AutoConfig.register(ZhinaoConfig.model_type, ZhinaoConfig, exist_ok=True)
    register_tokenizer()
    known = ModelRegistry.get_supported_archs()
    for name, place in ARCHITECTURES.items():
        if name not in known:
            ModelRegistry.register_model(name, place)
