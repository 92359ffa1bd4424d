"""Perturbation saliency: what it is, for any classifier. NumPy only."""
