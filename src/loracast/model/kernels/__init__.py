"""Triton kernels for a GPU, each beside what launches it. `qwen2.py` and `attention.py` hold their twins."""
