"""Diagnosis of a board: its facts, compared with the needs of its target."""
