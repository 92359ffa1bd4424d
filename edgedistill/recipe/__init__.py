"""The recipe: its keys, their defaults, presets and validation errors."""
