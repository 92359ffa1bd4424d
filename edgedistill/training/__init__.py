"""The training loop: devices, checkpoints, pruning, and the search for weights."""
