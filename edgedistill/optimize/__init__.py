"""From one ONNX file to variants: graph passes, number formats, quantization, QAT."""
