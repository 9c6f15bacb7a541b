"""The 360Zhinao models on transformers and vLLM, without remote code. Imports nothing else of this project."""
