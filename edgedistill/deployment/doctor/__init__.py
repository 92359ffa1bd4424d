"""What a board is, what it has, and what it still needs."""
