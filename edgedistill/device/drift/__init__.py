"""Drift of inputs, predictions and saliency from the bundle's reference."""
