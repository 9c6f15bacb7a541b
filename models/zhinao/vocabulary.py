"""The numbers of the published vocabulary; nothing is imported for them."""

ROWS = 158464
"""Rows of the published embedding: 158,323 ranks, 11 special tokens, and padding to a multiple of 128."""
RANKS = 158323
SPECIAL_TOKENS = (
    "<pad>", "<unk>", "<mask>", "<eod>", "<eop>",
    "[space2]", "[space3]", "[space4]", "[space8]", "<|im_start|>", "<|im_end|>",
)  # fmt: skip
"""In the order of their ids, which begin at the count of ranks."""
