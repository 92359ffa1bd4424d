"""Teachers: classifiers trained here or elsewhere, and caches of their outputs.

`load` opens what a recipe names; the classes wrap objects of your program.
"""

from edgedistill import public_name
from edgedistill.saliency.classifier import Classifier

__all__ = [
    "UNLABELED",
    "Classifier",
    "EstimatorClassifier",
    "NoteCallback",
    "OnnxClassifier",
    "SoftmaxClassifier",
    "TableClassifier",
    "TeacherOutputs",
    "TorchClassifier",
    "WindowCache",
    "WindowCacheSpec",
    "affordable_windows",
    "check_class_order",
    "check_row_order",
    "compute_teacher_outputs",
    "describe_error",
    "draw_weighted_starts",
    "exact_session",
    "explicit_weights",
    "fill_weights",
    "fit_order",
    "fit_rows",
    "ignore_notes",
    "load",
    "load_module",
    "mean_maps",
    "open_maps",
    "open_window_cache",
    "source_hashes",
    "start_probabilities",
    "unwrapped",
    "write_maps",
    "write_window_cache",
]
_HOMES = {
    "classifier": ("NoteCallback", "SoftmaxClassifier", "describe_error", "ignore_notes"),
    "class_order": ("check_class_order", "fit_order"),
    "columns": ("unwrapped",),
    "estimator": ("EstimatorClassifier",),
    "exact_session": ("exact_session", "explicit_weights"),
    "factory": ("fill_weights", "load_module", "source_hashes"),
    "loader": ("load",),
    "map_cache": ("mean_maps", "open_maps", "write_maps"),
    "onnx": ("OnnxClassifier",),
    "outputs": ("UNLABELED", "TeacherOutputs", "compute_teacher_outputs"),
    "row_order": ("check_row_order", "fit_rows"),
    "table": ("TableClassifier",),
    "torch": ("TorchClassifier",),
    "window_cache": (
        "WindowCache",
        "WindowCacheSpec",
        "affordable_windows",
        "draw_weighted_starts",
        "open_window_cache",
        "start_probabilities",
        "write_window_cache",
    ),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
