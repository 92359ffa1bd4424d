"""Preprocessing of series, the same on workstation and board. NumPy only."""
