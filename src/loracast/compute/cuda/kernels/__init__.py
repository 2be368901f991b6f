"""Triton kernels for a GPU, each beside what launches it. `loracast.model` holds their twins."""
