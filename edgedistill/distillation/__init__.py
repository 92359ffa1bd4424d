"""Distillation: the objectives of a student, and the features and views they compare."""
