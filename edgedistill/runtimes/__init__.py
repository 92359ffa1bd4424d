"""What runs a model: ONNX Runtime, and TensorRT where there is an NVIDIA GPU. NumPy only."""
