"""Teachers: anything that gives logits, trained here or brought.

`load` finds out what a recipe names; the classes wrap what a program already holds.
"""

from edgedistill.teachers.estimator import EstimatorTeacher
from edgedistill.teachers.loading import load
from edgedistill.teachers.network import TorchTeacher
from edgedistill.teachers.onnx_file import OnnxTeacher
from edgedistill.teachers.table import TableTeacher
from edgedistill.teachers.teacher import ProbabilityTeacher, Teacher

__all__ = [
    "EstimatorTeacher",
    "OnnxTeacher",
    "ProbabilityTeacher",
    "TableTeacher",
    "Teacher",
    "TorchTeacher",
    "load",
]
