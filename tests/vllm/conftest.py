"""Tests on vLLM: `make test-vllm` sets the variable; without it nothing here is collected."""

import os

VLLM = os.environ.get("ZHINAO_TEST_VLLM")
"""The environment that vLLM is installed in."""
collect_ignore_glob = [] if VLLM else ["test_*.py"]
