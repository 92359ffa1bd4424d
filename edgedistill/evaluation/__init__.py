"""Metrics of a classifier and its explanations, and the contract that judges them. NumPy only."""
