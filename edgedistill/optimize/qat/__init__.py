"""Quantization-aware training of an INT8 student."""
