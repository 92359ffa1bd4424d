"""Presets: named settings that a recipe starts from; its own settings win."""

from __future__ import annotations

from typing import Any, Final

_PAPER_TRAINING: Final = {
    "epochs": 500,
    "batch_size": 32,
    "learning_rate": 0.005,
    "weight_decay": 1e-5,
    "schedule": "constant",
    "select": "cross_entropy",
    "patience": 50,
    "clip": None,
    "freeze_norm_from": None,
}

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    # The protocol of arXiv:2601.04263, with its weight chosen on validation data, not on test
    # data. Adam's L2 penalty is decoupled here (AdamW), our own choice.
    "paper": {
        "data": {"max_length": 100, "sizing": "resample"},
        "teacher": {"family": "lstm", "width": 100, "depth": 3, "training": _PAPER_TRAINING},
        "student": {
            "family": "lstm",
            "width": 16,
            "depth": 1,
            "objectives": [
                {"name": "cross_entropy", "weight": 1.0},
                {
                    "name": "tsd",
                    "weight": [0.1, 0.5, 1.0, 10.0, 100.0],
                    "windows": 50,
                    "width": 10,
                    "temperature": 8.0,
                    "form": "summed",
                    "bank": 0,
                },
            ],
            "training": _PAPER_TRAINING,
        },
    },
}
