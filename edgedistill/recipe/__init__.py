"""The recipe: its keys, their defaults, and what is wrong with one."""
