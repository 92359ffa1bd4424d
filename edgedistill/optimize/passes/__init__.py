"""Graph passes: rewriting an ONNX file without changing what it computes."""
