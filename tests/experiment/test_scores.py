"""Scores of a student equal slow measurements of its network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from edgedistill.experiment.jobs import map_scores
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.saliency.occlusion import Explanation
from edgedistill.training import networks

pytestmark = pytest.mark.slow


def test_predictions_are_measured_as_scikit_learn_does(tiny, finished):
    out, rows = finished
    row = next(r for r in rows if (r.set, r.method, r.seed) == ("GunPoint", "kd", 2))
    data = prepare_data(tiny.sets["GunPoint"])
    folder = out / "runs" / "GunPoint"
    model, facts = networks.open_network(folder / "kd-2")
    teacher = open_teacher_outputs(folder / "teacher")[0].splits["test"].logits

    with torch.no_grad():
        logits = model(torch.from_numpy(data.test.x)).double()

    chance, labels = logits.softmax(dim=1).numpy(), data.test.y
    top, log_q = chance.argmax(axis=1), np.log(chance)
    log_p = torch.from_numpy(teacher).double().log_softmax(dim=1).numpy()
    each = [(labels == k).astype(int) for k in range(2)]
    expected = {
        "accuracy": (top == labels).mean(),
        "agreement": (top == teacher.argmax(axis=1)).mean(),
        "kl": (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean(),
        "auc_prc": np.mean([average_precision_score(y, chance[:, k]) for k, y in enumerate(each)]),
        "roc_auc": np.mean([roc_auc_score(y, chance[:, k]) for k, y in enumerate(each)]),
        "teacher_accuracy": (teacher.argmax(axis=1) == labels).mean(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    assert {name: row.numbers[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert facts["cost"]["parameters"] == expected["parameters"]


def test_validation_scores_are_of_validation_series(tiny, finished):
    out, rows = finished
    row = next(r for r in rows if (r.set, r.method, r.seed) == ("GunPoint", "kd", 2))
    data = prepare_data(tiny.sets["GunPoint"])
    folder = out / "runs" / "GunPoint"
    model, _ = networks.open_network(folder / "kd-2")
    teacher = open_teacher_outputs(folder / "teacher")[0].splits["validation"].logits

    with torch.no_grad():
        logits = model(torch.from_numpy(data.validation.x)).double()

    log_q, log_p = (
        torch.from_numpy(np.asarray(scores)).double().log_softmax(dim=1).numpy()
        for scores in (logits, teacher)
    )
    expected = {
        "validation_accuracy": (logits.argmax(dim=1).numpy() == data.validation.y).mean(),
        "validation_kl": (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean(),
    }
    assert {name: row.numbers[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert row.numbers["validation_pearson"] != row.numbers["saliency_pearson"]


def test_maps_are_measured_series_by_series(rng):
    teacher, student = rng.normal(size=(2, 30, 20)).astype(np.float32)
    student[3] = teacher[3]
    nothing = np.zeros((30, 20), dtype=np.float32)

    found = map_scores(
        "unseen", Explanation(nothing, nothing, teacher), Explanation(nothing, nothing, student)
    )

    pairs = list(zip(teacher, student, strict=True))
    pearson = [stats.pearsonr(a, b)[0] for a, b in pairs]
    spearman = [stats.spearmanr(a, b)[0] for a, b in pairs]
    assert found["unseen_pearson"] == pytest.approx(np.mean(pearson), abs=1e-5)
    assert found["unseen_pearson_median"] == pytest.approx(np.median(pearson), abs=1e-5)
    assert found["unseen_pearson_p10"] == pytest.approx(np.percentile(pearson, 10), abs=1e-5)
    assert found["unseen_spearman"] == pytest.approx(np.mean(spearman), abs=1e-5)
    assert found["unseen_top_sign"] >= 1 / 30


def test_teacher_without_maps_has_no_map_scores(tmp_path, rng, in_process):
    """Rows of a table of logits have no measures of maps, no ceiling and no floor."""
    from edgedistill.experiment import plan
    from edgedistill.experiment import run as running

    x = rng.normal(size=(24, 1, 20)).astype(np.float32)
    y = np.arange(24) % 2
    np.savez(tmp_path / "set.npz", x=x, y=y)
    np.savez(tmp_path / "logits.npz", train=np.stack([1.0 - y, y + 0.0], axis=1))
    text = f"""
recipe:
  teacher: {{source: {tmp_path}/logits.npz}}
  student: {{width: 3, objectives: [{{name: kd}}], training: {{epochs: 1, accelerator: cpu}}}}
data: ["{tmp_path}/set.npz"]
methods: {{kd: {{}}}}
seeds: [1]
"""
    (row,) = running.run(plan.parse(text), tmp_path / "out")

    assert row.error is None
    assert row.numbers["teacher_accuracy"] == 1
    assert not [name for name in row.numbers if "pearson" in name or "unseen" in name]
