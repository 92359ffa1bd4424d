"""INT8: calibration, and which ranges and nodes are quantized how."""
