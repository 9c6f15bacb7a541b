"""Runs converted folders in vLLM without the plugin. Started by test_plain.py in vLLM's environment.

Reads a list of {"folder", "role", "dtype", "prompts"} as JSON, a prompt being a text or a list of ids; writes what
came of each prompt.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(asked: Path, answered: Path) -> None:
    import torch
    from vllm import LLM
    from vllm import _custom_ops as custom
    from vllm.distributed import cleanup_dist_env_and_memory

    if not hasattr(torch.ops._C, "cpu_gemm_wna16"):
        custom.cpu_gemm_wna16 = int4_product
    found = []
    for job in json.loads(asked.read_text("utf-8")):
        model = LLM(
            job["folder"],
            runner="generate" if job["role"] == "chat" else "pooling",
            dtype=job["dtype"],
            enforce_eager=True,
            max_model_len=512,
            block_size=32,
        )
        prompts = [
            one if isinstance(one, str) else {"prompt_token_ids": one} for one in job["prompts"]
        ]
        found.append(answers(model, job["role"], prompts))
        del model
        cleanup_dist_env_and_memory()
    used = [name for name in sys.modules if name.split(".")[0] in {"models", "pipeline", "app"}]
    answered.write_text(json.dumps({"found": found, "ours": used}), "utf-8")


def answers(model: Any, role: str, prompts: list[Any]) -> list[dict[str, Any]]:
    if role == "chat":
        from vllm import SamplingParams

        asked = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=0)
        done = model.generate(prompts, asked, use_tqdm=False)
        return [
            {
                "read": list(one.prompt_token_ids),
                "wrote": list(one.outputs[0].token_ids),
                "logprobs": [
                    step[token].logprob
                    for step, token in zip(
                        one.outputs[0].logprobs, one.outputs[0].token_ids, strict=True
                    )
                ],
            }
            for one in done
        ]
    if role == "rerank":
        done = model.classify(prompts, use_tqdm=False)
        return [
            {"read": list(one.prompt_token_ids), "scores": list(one.outputs.probs)} for one in done
        ]
    done = model.embed(prompts, use_tqdm=False)
    return [
        {"read": list(one.prompt_token_ids), "vector": list(one.outputs.embedding)} for one in done
    ]


def int4_product(
    input: Any,  # noqa: A002
    q_weight: Any,
    scales: Any,
    zeros: Any,
    bias: Any,
    pack_factor: int,
    isa_hint: str,
) -> Any:
    """Instead of vLLM's own int4 product, which its build for CPUs without AVX-512 lacks.

    `q_weight` is what vLLM made of the checkpoint's: for every 16 outputs the codes of each input, 8 a word.
    """
    import torch

    assert zeros is None, "symmetric weights have none"
    inputs, outputs = input.shape[-1], scales.shape[1]
    words = q_weight.view(outputs // 16, inputs, 16 // pack_factor, 1)
    codes = (words >> torch.arange(0, 32, 32 // pack_factor, dtype=torch.int32)) & 15
    rows = codes.reshape(outputs // 16, inputs, 16).permute(0, 2, 1).reshape(outputs, inputs)
    steps = scales.float().repeat_interleave(inputs // scales.shape[0], dim=0).t()
    product = input.float() @ ((rows - 8).float() * steps).t()
    return (product if bias is None else product + bias.float()).to(input.dtype)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
