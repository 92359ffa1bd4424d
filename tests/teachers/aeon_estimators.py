"""Print what aeon's convolutional estimators give, as teachers and themselves, as JSON."""

from __future__ import annotations

import json

import numpy as np
from aeon.classification.convolution_based import (
    HydraClassifier,
    MiniRocketClassifier,
    MultiRocketHydraClassifier,
)
from aeon.datasets import load_basic_motions

from edgedistill.teachers import EstimatorClassifier

ESTIMATORS = (
    HydraClassifier(n_kernels=2, n_groups=4, random_state=0),
    MiniRocketClassifier(n_kernels=84, random_state=0),
    MultiRocketHydraClassifier(n_kernels=2, n_groups=4, random_state=0),
)


def main() -> None:
    """Fit each on half of some short real series; predict the other half."""
    series, labels = load_basic_motions(split="train")
    series, labels = series[::2, :, :24].astype(np.float32), labels[::2]
    classes = np.unique(labels)
    outputs = {}
    for estimator in ESTIMATORS:
        estimator.fit(series[::2], labels[::2])
        teacher = EstimatorClassifier(estimator, class_names=list(classes))
        outputs[type(estimator).__name__] = {
            "classes": classes.tolist(),
            "logits": teacher.logits(series[1::2]).tolist(),
            "predictions": estimator.predict(series[1::2]).tolist(),
            "probabilities": estimator.predict_proba(series[1::2]).tolist(),
        }
    print(json.dumps(outputs))


if __name__ == "__main__":
    main()
