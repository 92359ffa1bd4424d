"""The way to the board: the program that travels, SSH, one board, a fleet."""
