"""Classifiers that can teach: trained here or brought, and caches of their outputs.

`load` opens what a recipe names; the classes wrap objects of your program.
"""

from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.classifier import SoftmaxClassifier
from edgedistill.teachers.estimator import EstimatorClassifier
from edgedistill.teachers.loader import load
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.table import TableClassifier
from edgedistill.teachers.torch import TorchClassifier

__all__ = [
    "Classifier",
    "EstimatorClassifier",
    "OnnxClassifier",
    "SoftmaxClassifier",
    "TableClassifier",
    "TorchClassifier",
    "load",
]
