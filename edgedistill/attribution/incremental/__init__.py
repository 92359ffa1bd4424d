"""Exact perturbation saliency of torch networks at a small cost: only what a window changes."""
