"""From a torch module to verified ONNX files."""
