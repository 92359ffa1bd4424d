"""External teachers: recognized when they have changed, and refused in a wrong class order."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError, ModelError, UsageError
from edgedistill.io.files import read_json
from edgedistill.pipeline.external_teacher import (
    _rounded_sums,
    load_external_teacher,
    probe_outputs,
)
from edgedistill.pipeline.keys import STAGES, stage_key, teacher_sections
from edgedistill.pipeline.objective_context import open_source
from edgedistill.pipeline.run import compress
from edgedistill.pipeline.single_stage import train
from edgedistill.pipeline.stages.data import prepare_data, read_source
from edgedistill.pipeline.stages.teacher import make_teacher, open_teacher
from edgedistill.recipe import recipe as config

NETS = """
from pathlib import Path
from torch import nn
from scaling import FACTOR

class Net(nn.Sequential):
    def __init__(self, classes, length):
        super().__init__(nn.Flatten(), nn.Linear(length, classes))

    def forward(self, x):
        return FACTOR * super().forward(x) + float(Path("shift.txt").read_text()) * x[:, 0, :2]
"""


def templates(data: Prepared, order: tuple[int, ...] = (0, 1)) -> dict[str, np.ndarray]:
    """Weights and biases of a linear classifier of the nearest class mean, in float32."""
    x, y = data.train.x[:, 0], data.train.y
    means = np.stack([x[y == label].mean(axis=0) for label in order])
    return {"weight": means, "bias": -(means**2).sum(axis=1) / 2}


def write_onnx(path: Path, values: dict[str, np.ndarray], *, external: bool = False) -> None:
    length, classes = values["weight"].shape[1], len(values["weight"])
    nodes = [
        helper.make_node("Flatten", ["series"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "templates",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ("batch", 1, length))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", classes))],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    location = f"{path.name}.data"
    path.with_name(location).unlink(missing_ok=True)  # or it would be appended to
    onnx.save_model(
        model, path, save_as_external_data=external, location=location, size_threshold=0
    )


def write_weights(values: dict[str, np.ndarray]) -> None:
    save_file({f"1.{n}": value.astype("f4") for n, value in values.items()}, "w.safetensors")


@pytest.fixture
def folder(data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a teacher in each of its forms."""
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "scaling"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "scaling.py").write_text("FACTOR = 1")
    (tmp_path / "shift.txt").write_text("0")
    write_weights(templates(data))
    write_onnx(tmp_path / "m.onnx", templates(data), external=True)
    return tmp_path


def with_teacher(recipe, *settings: str):
    return config.parse(config.dump(recipe), settings)


def factory(recipe, *settings: str):
    return with_teacher(
        recipe, "teacher.source=nets:Net", "teacher.weights=w.safetensors", *settings
    )


def keys(recipe) -> dict[str, str]:
    """Keys as a new command computes them: of series that it has prepared itself."""
    data = prepare_data(recipe)
    return {stage: stage_key(stage, recipe, data) for stage in STAGES}


EDITS = {
    "module": lambda folder: (folder / "nets.py").write_text(NETS.replace("FACTOR *", "2 *")),
    "imported module": lambda folder: (folder / "scaling.py").write_text("FACTOR = 2"),
    "comment": lambda folder: (folder / "scaling.py").write_text("FACTOR = 1  # no unit"),
    "file that only the module knows": lambda folder: (folder / "shift.txt").write_text("0.01"),
    "weights": lambda _: write_weights(
        {"weight": np.ones((2, 24), "f4"), "bias": np.zeros(2, "f4")}
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_changed_factory_changes_every_key(recipe, folder, edit):
    before = keys(factory(recipe))

    EDITS[edit](folder)

    after = keys(factory(recipe))
    assert not set(before.values()) & set(after.values())


def test_changed_external_data_changes_every_key(recipe, data, folder):
    """The .onnx file itself is the same, byte for byte."""
    onnx_recipe, file = with_teacher(recipe, "teacher.source=m.onnx"), folder / "m.onnx"
    before, content = keys(onnx_recipe), file.read_bytes()

    write_onnx(file, {**templates(data), "bias": np.zeros(2, "f4")}, external=True)

    assert file.read_bytes() == content
    assert not set(before.values()) & set(keys(onnx_recipe).values())


def test_external_data_in_a_probe_that_hides_it(recipe, data, folder):
    """A change too small for the probe is one of the hash."""
    onnx_recipe, file = with_teacher(recipe, "teacher.source=m.onnx"), folder / "m.onnx"
    before, outputs = keys(onnx_recipe), probe_outputs(onnx_recipe, prepare_data(recipe))
    values = templates(data)
    values["bias"] = np.nextafter(values["bias"], np.float32(1))

    write_onnx(file, values, external=True)

    assert probe_outputs(onnx_recipe, prepare_data(recipe)) == outputs
    assert not set(before.values()) & set(keys(onnx_recipe).values())


def test_class_order_changes_every_key(recipe, folder):
    orders = [[], ["teacher.class_names=[1, 2]"], ["teacher.class_names=[2, 1]"]]

    found = [keys(factory(recipe, *settings)) for settings in orders]

    assert len({key for each in found for key in each.values()}) == 3 * len(STAGES)


def test_unchanged_teachers_keep_their_keys(recipe, folder):
    for each in (factory(recipe), with_teacher(recipe, "teacher.source=m.onnx")):
        assert keys(each) == keys(each)


def test_changed_second_teacher_changes_the_student(recipe, data, folder):
    """One of an ensemble is noticed by the same signs."""
    ensemble = with_teacher(recipe, "student.objectives=[{name: ensemble, sources: ['nets:Net']}]")
    before = keys(ensemble)

    (folder / "scaling.py").write_text("FACTOR = 3")

    after = keys(ensemble)
    assert [stage for stage in STAGES if before[stage] != after[stage]] == list(STAGES[1:])


def test_keys_of_teachers_trained_here_are_those_of_earlier_versions(recipe):
    """A recipe key that is not set leaves them as they were."""
    assert "class_names" in recipe.to_dict()["teacher"]
    assert "class_names" not in teacher_sections(recipe)[0]


def test_rounded_sums_ignore_rounding_errors_and_no_more(rng):
    """What another number of threads does to float32, against a thousandth of the logits."""
    same = different = 0
    for _ in range(100):
        logits = rng.normal(size=(32, 3)) * 10 ** rng.uniform(-3, 3)
        noise = rng.normal(size=logits.shape) * np.abs(logits)
        first = _rounded_sums(logits.astype("f4"))
        same += first == _rounded_sums((logits + 3e-7 * noise).astype("f4"))
        different += first != _rounded_sums((logits + 2e-3 * noise).astype("f4"))

    assert same >= 97
    assert different >= 97
    assert _rounded_sums(np.zeros((4, 2), "f4")) == [0] * 9
    assert _rounded_sums(2 * logits) != _rounded_sums(logits)


def test_wrong_order_ends_with_the_order_that_fits(recipe, data, folder, tmp_path):
    write_weights(templates(data, (1, 0)))
    (tmp_path / "out").mkdir()

    with pytest.raises(ModelError, match=r'Write teacher\.class_names: \["2", "1"\]\.') as caught:
        make_teacher(factory(recipe), data, tmp_path / "out", tmp_path)

    assert caught.value.exit_code == 3
    assert list((tmp_path / "out").iterdir()) == []


def test_named_order_is_that_of_the_rightly_ordered_teacher(recipe, data, folder, tmp_path):
    right = open_teacher_of(factory(recipe), data, tmp_path / "right")
    write_weights(templates(data, (1, 0)))

    named = open_teacher_of(factory(recipe, "teacher.class_names=[2, 1]"), data, tmp_path / "named")

    np.testing.assert_allclose(named.logits(data.test.x), right.logits(data.test.x), atol=1e-5)
    assert read_json(tmp_path / "named" / "teacher.json")["notes"] == [
        "The columns of nets:Net are 2, 1."
    ]
    outputs = [(tmp_path / name / "knowledge.npz") for name in ("right", "named")]
    first, second = (np.load(path) for path in outputs)
    for name in ("train_logits", "test_kl", "test_signed"):
        np.testing.assert_allclose(first[name], second[name], atol=1e-4)


def open_teacher_of(recipe, data, folder: Path):
    folder.mkdir()
    make_teacher(recipe, data, folder, folder)
    return open_teacher(recipe, data, folder)


def test_names_of_other_classes_are_refused(recipe, data, folder, tmp_path):
    wrong = factory(recipe, "teacher.class_names=[walk, run]")

    with pytest.raises(UsageError, match="without 1, 2 and with the unknown walk, run"):
        make_teacher(wrong, data, tmp_path, tmp_path)


def test_names_for_a_teacher_that_is_trained_here_are_refused(recipe, data, tmp_path):
    named = with_teacher(recipe, "teacher.class_names=[1, 2]")

    with pytest.raises(ConfigError, match="and this one is trained here"):
        make_teacher(named, data, tmp_path, tmp_path)


def test_second_teacher_in_a_wrong_order_is_refused(recipe, data, folder):
    write_onnx(folder / "m.onnx", templates(data, (1, 0)))

    with pytest.raises(ModelError, match="Put its columns in the order of the classes where"):
        open_source("m.onnx", recipe=recipe, data=data, trust=False)


def test_notes_are_among_the_facts_of_train(recipe, data, folder, tmp_path):
    """How the teacher was understood is shown, and nothing where there was no choice."""
    half = {name: value[1:] - value[:1] for name, value in templates(data).items()}
    write_onnx(folder / "single.onnx", half)
    single = with_teacher(recipe, "teacher.source=single.onnx")
    two = with_teacher(recipe, "teacher.source=m.onnx")

    facts = train(single, tmp_path / "single", lambda *_: None)
    of_two = train(two, tmp_path / "two", lambda *_: None)

    assert facts["notes"] == [
        "The one column of single.onnx was taken for the logit of the class '2'."
    ]
    assert "notes" not in of_two
    assert facts["validation_accuracy"] == of_two["validation_accuracy"]


@pytest.mark.slow
def test_run_is_skipped_until_its_teacher_changes(recipe, data, folder, tmp_path):
    ran = []
    edits = (
        None,
        None,
        lambda: (folder / "scaling.py").write_text("FACTOR = 2"),
        None,
        lambda: (folder / "shift.txt").write_text("0.05"),
    )
    for edit in edits:
        if edit is not None:
            edit()
        settings = ("student.objectives=[{name: kd}]", "optimize.precisions=[fp32]")
        result = compress(factory(recipe, *settings), tmp_path / "run")
        ran.append([stage for stage, needed in result.stages.items() if needed])

    assert ran == [list(STAGES), [], list(STAGES), [], list(STAGES)]


def write_logits(
    recipe, data, path: Path, *, train=None, test=None, form=lambda rows: rows
) -> None:
    """Write a file of logits for all series, in the order of the files, or in another one."""
    source = read_source(recipe)
    assert source.test is not None
    weights = templates(data)
    arrays = {}
    for name, part, order in (("train", source.train, train), ("test", source.test, test)):
        x = data.preprocessing.apply(part.series)[:, 0]
        rows = (x @ weights["weight"].T + weights["bias"]).astype(np.float32)
        arrays[name] = form(rows if order is None else rows[order])
    np.savez(path, **arrays)


def make(recipe, data, folder: Path) -> dict:
    out = folder / "teacher"
    out.mkdir(parents=True)
    make_teacher(recipe, data, out, folder)
    return read_json(out / "teacher.json")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("seed", range(3))
def test_file_of_logits_with_shuffled_rows_is_refused(split, seed, recipe, tmp_path):
    path = tmp_path / "t.npz"
    whole = with_teacher(recipe, f"teacher.source={path}", "data.limit_per_class=null")
    data = prepare_data(whole)
    write_logits(whole, data, path)
    assert make(whole, data, tmp_path / "in order")["notes"] == []
    order = np.random.default_rng(seed).permutation({"train": 67, "test": 1029}[split])

    write_logits(whole, data, path, **{split: order})

    with pytest.raises(ModelError, match=r"random order|no more than chance"):
        make(whole, data, tmp_path / "shuffled")
    make(with_teacher(whole, "teacher.class_names=['1', '2']"), data, tmp_path / "as it is")


FORMS = {
    "float16": lambda rows: rows.astype(np.float16),
    "logarithms of probabilities": lambda rows: rows - np.logaddexp(*rows.T)[:, None],
    "probabilities": lambda rows: np.exp(rows - np.logaddexp(*rows.T)[:, None]),
    "one logit": lambda rows: rows[:, 1:] - rows[:, :1],
    "one probability": lambda rows: 1 / (1 + np.exp(rows[:, 0] - rows[:, 1])),
}


@pytest.mark.parametrize("form", FORMS)
def test_file_of_other_forms_gives_the_same_probabilities(form, recipe, data, tmp_path):
    path = tmp_path / "t.npz"
    with_file = with_teacher(recipe, f"teacher.source={path}")
    write_logits(recipe, data, path)
    expected = load_external_teacher(with_file, data).logits(data.test.x)

    write_logits(recipe, data, path, form=FORMS[form])

    actual = load_external_teacher(with_file, data).logits(data.test.x)
    differences = [each[:, 1] - each[:, 0] for each in (actual, expected)]
    shares = [1 / (1 + np.exp(-each)) for each in differences]
    np.testing.assert_allclose(*shares, atol=5e-3)


def test_file_of_sigmoids_of_each_class_is_refused(recipe, data, tmp_path):
    path = tmp_path / "t.npz"
    write_logits(recipe, data, path, form=lambda rows: 1 / (1 + np.exp(-rows)))

    with pytest.raises(
        ModelError, match=r"t\.npz \(train\) gives values .* a sigmoid of each class"
    ):
        load_external_teacher(with_teacher(recipe, f"teacher.source={path}"), data)
