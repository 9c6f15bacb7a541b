"""`model_type: zhinao`: Qwen2's configuration with this family's defaults."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import Qwen2Config


@strict
class ZhinaoConfig(Qwen2Config):  # type: ignore[misc]
    """A published config.json as it is: keys that inference does not read are kept and ignored.

    Omitted keys get the defaults of the published class. `attention_dropout` of the second generation's
    files is a leftover of training, and 0 here. `rope_theta` becomes `rope_parameters`.
    """

    model_type = "zhinao"

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        super().__post_init__(**kwargs)
        self.attention_dropout = 0.0
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if heads % (kv_heads or heads) or self.hidden_size % heads:
            raise ValueError(
                f"{self.hidden_size} hidden units, {heads} heads and {kv_heads} key/value heads do not "
                "divide: the config.json is not a 360Zhinao model's"
            )

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values a token takes in a 16-bit cache: 2 x layers x kv heads x head size x 2."""
        head_dim = self.hidden_size // self.num_attention_heads
        kv_heads = self.num_key_value_heads or self.num_attention_heads
        return int(2 * self.num_hidden_layers * kv_heads * head_dim * 2)
