"""The bundle: reading, writing, signing, and what lies in it. NumPy only."""
