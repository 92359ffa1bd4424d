"""What runs on the board: validate a bundle and time its model, on NumPy and a runtime alone."""
