"""Teachers: anything that gives logits, trained here or brought.

`load` finds out what a recipe names; the classes wrap what a program already holds.
"""

from edgedistill.teachers.classifier import ProbabilityTeacher, Teacher
from edgedistill.teachers.estimator import EstimatorTeacher
from edgedistill.teachers.loader import load
from edgedistill.teachers.onnx import OnnxTeacher
from edgedistill.teachers.table import TableTeacher
from edgedistill.teachers.torch import TorchClassifier

__all__ = [
    "EstimatorTeacher",
    "OnnxTeacher",
    "ProbabilityTeacher",
    "TableTeacher",
    "Teacher",
    "TorchClassifier",
    "load",
]
