"""Files and archives that are written whole or not at all. NumPy only."""
