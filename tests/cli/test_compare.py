"""`compare` prints how far two models differ: exit code 0 if they are alike, 4 if not."""

from __future__ import annotations

import onnx
import pytest
from onnx import numpy_helper

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faulty(finished, tmp_path_factory):
    """The student's file with one weight of its second convolution changed, and that node."""
    model = onnx.load(finished.onnx)
    node = [node for node in model.graph.node if node.op_type == "Conv"][1]
    weight = next(i for i in model.graph.initializer if i.name == node.input[1])
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    path = tmp_path_factory.mktemp("faulty") / "faulty.onnx"
    onnx.save(model, path)
    return path, node.name


def test_export_is_like_its_student(invoke, finished):
    """Tables on stdout, progress on stderr, a verdict at the end."""
    ran = invoke("compare", finished.folder, finished.onnx)

    assert ran.code == 0, ran.stderr
    assert "B against A on 40 test series of ItalyPowerDemand" in ran.stdout
    assert "relative error of a logit, largest" in ran.stdout
    assert "Layers, in the order of A" in ran.stdout
    assert "No layer is beyond 1e-05." in ran.stdout
    assert ran.stdout.endswith("verdict: alike\n")
    assert "compare layers" in ran.stderr
    assert "ask B" in ran.stderr


def test_changed_weight_exits_4_and_names_the_node(invoke, finished, faulty):
    """The node whose weight was changed is in the table and in the text."""
    path, node = faulty

    ran = invoke("compare", finished.onnx, path, "--data", "ItalyPowerDemand", "--series", 20)

    assert ran.code == 4, ran.stderr
    assert f"The first layer beyond 1e-05 is {node} (Conv), with " in ran.stdout
    assert f"Most error is added by {node} (" in ran.stdout
    assert "verdict: they diverge: a logit differs by" in ran.stdout


def test_json_is_one_document(invoke, finished, faulty):
    """With the same exit code, first layer and reasons."""
    path, node = faulty

    ran = invoke("compare", finished.bundle, path, "--model-a", "ort-fp32", "--json")

    assert ran.code == 4, ran.stderr
    assert ran.json["a"] == str(finished.bundle)
    assert ran.json["origin"].startswith("8 golden series of ")
    assert ran.json["first"]["operator"] == "Conv"
    assert ran.json["first"]["tensor"] in {layer["tensor"] for layer in ran.json["layers"]}
    assert ran.json["alike"] is False
    assert ran.json["outputs"]["agreement"]["value"] <= 1
    assert ran.json["reasons"]
    assert node


def test_models_of_one_bundle_are_compared(invoke, finished):
    """INT8 against FP32: layers without a counterpart are listed; the bundle's contract judges."""
    ran = invoke(
        *("compare", finished.bundle, finished.bundle),
        *("--model-a", "ort-fp32", "--model-b", "ort-int8", "--memory", 1),
    )

    assert ran.code in (0, 4), ran.stderr
    assert "allowed in INT8 and the contract" in ran.stdout
    assert "0.0 % at least" in ran.stdout
    assert "layers of A have no counterpart: " in ran.stdout


def test_large_tolerance_makes_models_alike(invoke, finished, faulty):
    """The option wins over the tolerance of the precision."""
    path, _ = faulty
    words = ("compare", finished.onnx, path, "--data", "ItalyPowerDemand", "--tolerance")

    assert invoke(*words, 1e6).code == 0
    assert invoke(*words, 1e-9).code == 4


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, ("none.onnx", "{onnx}"), "There is no none.onnx. Check the path."),
        (2, ("{onnx}",), "Missing argument 'B'"),
        (2, ("{onnx}", "{onnx}"), "Name the data whose test series both are asked about"),
        (2, ("{bundle}", "{onnx}", "--model-b", "x"), "is no bundle, so it has no model 'x'"),
        (2, ("{bundle}", "{onnx}", "--tolerance", "0"), "give a number above 0"),
        (2, ("{bundle}", "{onnx}", "--set", "data.length=20"), "Name the data with --data too."),
        (3, ("{onnx}", "{onnx}", "--data", "GunPoint"), "these are (1, 150)"),
        (3, ("{onnx}", "{broken}", "--data", "ItalyPowerDemand"), "cut short"),
    ],
    ids=lambda value: str(value)[:40].replace("/", ""),
)
def test_failures_have_exit_codes_and_no_output(invoke, finished, tmp_path, code, arguments, says):
    """Each with its exit code and a next step, and nothing on stdout."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(finished.onnx.read_bytes()[:500])
    places = {"bundle": finished.bundle, "onnx": finished.onnx, "broken": broken}

    ran = invoke("compare", *(word.format(**places) for word in arguments))

    assert ran.code == code, ran.stderr
    assert says in ran.stderr
    assert ran.stdout == ""
