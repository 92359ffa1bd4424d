"""TensorRT: engines built where they run, and what is in them."""
