"""Releases on a board: installed beside each other, switched, rolled back."""
