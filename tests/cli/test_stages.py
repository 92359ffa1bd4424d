"""compress and every stage alone, on files, for people and machines."""

from __future__ import annotations

import shutil
import time

import joblib
import numpy as np
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from edgedistill.data import load, prepare
from edgedistill.io.files import read_json, sha256

pytestmark = pytest.mark.slow

STAGES = ("teacher", "student", "model", "variants", "result")
CLASS_NAMES = ("--set", "teacher.class_names=[1, 2]")  # of a teacher of few epochs, at chance


@pytest.fixture(scope="module")
def chain(invoke, recipe, tmp_path_factory):
    """Every stage by its own command: what each printed as JSON, and the folder."""
    out = tmp_path_factory.mktemp("chain")
    ran = {
        "train": invoke("train", recipe, "--out", out / "teacher", "--json"),
        "distill": invoke(
            *("distill", recipe, "--teacher", out / "teacher", "--out", out / "student", "--json")
        ),
        "export": invoke(
            *("export", recipe, "--student", out / "student", "--out", out / "model", "--json")
        ),
        "optimize": invoke(
            *("optimize", recipe, "--model", out / "model" / "student.onnx"),
            *("--out", out / "variants", "--json"),
        ),
        "bundle": invoke(
            *("bundle", recipe, "--teacher", out / "teacher", "--student", out / "student"),
            *("--variants", out / "variants", "--out", out / "result", "--json"),
        ),
    }
    return out, ran


@pytest.fixture(scope="module")
def series():
    """Real series as arrays."""
    source = load("ItalyPowerDemand")
    return source, prepare(source, length=None, sizing="resample", normalization="series", seed=0)


@pytest.fixture
def npz(series, tmp_path):
    """The same series as two files, the training and the test set."""
    source, _ = series
    paths = []
    for name, part in (("train", source.train), ("test", source.test)):
        path = tmp_path / f"{name}.npz"
        rows = slice(None) if name == "train" else slice(0, 64)
        np.savez(path, x=np.stack(part.series)[rows], y=np.array(part.labels)[rows])
        paths.append(path)
    return paths


def test_compress_prints_tables_and_paths(finished):
    """Tables on stdout, progress on stderr, paths that exist."""
    text = finished.ran.stdout

    assert "multiply-accumulates" in text
    assert "Models side by side" in text
    assert "verdict: kept, chosen: ort-" in text
    assert f"page: {finished.folder / 'result' / 'report.html'}" in text
    assert f"bundle: {finished.bundle}" in text
    assert finished.bundle.exists()
    assert "train teacher" in finished.ran.stderr
    assert "train teacher" not in text


def test_repeated_compress_runs_no_stage(invoke, recipe, finished):
    """Equal inputs: no stage runs, and stdout is one JSON document."""
    start = time.monotonic()
    ran = invoke("compress", recipe, "--out", finished.folder, "--json")
    seconds = time.monotonic() - start

    assert ran.code == 0
    assert ran.json["stages"] == dict.fromkeys(STAGES, False)
    assert ran.json["report"]["verdict"] == "kept"
    assert ran.json["bundle"] == str(finished.bundle)
    assert seconds < 3


def test_finished_run_is_reported_without_torch(execute, recipe, finished):
    """Nothing is trained or run, so nothing that trains is loaded."""
    before = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=out))"

    ran = execute(
        "compress", recipe, "--out", finished.folder, before=f"{before}; out = sys.stderr"
    )

    assert ran.code == 0, ran.stderr
    assert ran.stderr.splitlines()[-1] == "False"


def test_compress_of_the_recipe_it_wrote_changes_nothing(invoke, finished):
    """`recipe.yaml` of a run is complete."""
    written = finished.folder / "recipe.yaml"

    ran = invoke("compress", written, "--out", finished.folder, "--json")

    assert not any(ran.json["stages"].values())


def test_compress_after_set_redoes_what_depends_on_it(invoke, recipe, finished, tmp_path):
    """A looser contract is judged anew, and nothing is trained."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)

    ran = invoke("compress", recipe, "--set", "contract.max_kl=99", "--out", folder, "--json")

    assert ran.json["stages"] == {**dict.fromkeys(STAGES, False), "result": True}


def test_single_commands_equal_compress(chain, finished):
    """The same recipe gives the same networks, variants and choice, byte for byte."""
    out, ran = chain

    assert {name: one.code for name, one in ran.items()} == dict.fromkeys(ran, 0)
    for path in (
        *("teacher/weights.safetensors", "student/weights.safetensors", "model/student.onnx"),
        *(f"variants/ort-{precision}.onnx" for precision in ("fp32", "fp16", "int8")),
    ):
        assert sha256(out / path) == sha256(finished.folder / path), path
    whole = read_json(finished.folder / "result" / "report.json")
    assert ran["bundle"].json["report"]["chosen"] == whole["chosen"]


def test_compress_finds_the_stages_of_single_commands_done(chain, invoke, recipe, tmp_path):
    """Made by their own commands in the folder of a run, they are what the run needs."""
    folder = tmp_path / "run"
    shutil.copytree(chain[0], folder)

    ran = invoke("compress", recipe, "--out", folder, "--json")

    assert ran.code == 0
    assert ran.json["stages"] == dict.fromkeys(STAGES, False)


def test_compress_exports_anew_what_single_commands_exported_with_saliency(
    chain, invoke, recipe, tmp_path
):
    """A run has no explain.onnx; what comes after stays, because it has the same inputs."""
    folder = tmp_path / "run"
    shutil.copytree(chain[0], folder)
    out = folder / "model"
    invoke("export", recipe, "--student", folder / "student", "--out", out, "--with-saliency")

    ran = invoke("compress", recipe, "--out", folder, "--json")

    assert ran.json["stages"] == {**dict.fromkeys(STAGES, False), "model": True}


def test_single_commands_print_one_json_document(chain):
    """Facts are on stdout; progress is on stderr."""
    out, ran = chain

    for name, one in ran.items():
        assert one.json["out"].startswith(str(out)), name
        assert one.stderr.strip(), name
    assert {"parameters", "macs", "size_bytes"} <= set(ran["train"].json)
    assert {"kd", "tsd_maps"} == set(ran["distill"].json["weights"])
    assert ran["export"].json["max_rel_error"] < 1e-5
    assert ran["optimize"].json["ort-int8.onnx"]["size_bytes"] > 0


def test_single_commands_print_tables(invoke, recipe, chain, tmp_path):
    """No Python syntax, no long floats."""
    out, _ = chain

    ran = invoke("export", recipe, "--student", out / "student", "--out", tmp_path / "model")

    assert ran.code == 0
    assert str(tmp_path / "model") in ran.stdout
    assert "opset" in ran.stdout


def test_export_with_saliency(invoke, recipe, chain, tmp_path):
    """A second file; table and JSON have its largest error."""
    out, _ = chain
    command = ("export", recipe, "--student", out / "student", "--with-saliency", "--out")

    people = invoke(*command, tmp_path / "people", "--set", "saliency.baseline=local_mean")
    machine = invoke(*command, tmp_path / "machine", "--json")

    assert people.code == 0, people.stderr
    assert "explain.onnx" in people.stdout
    assert "nodes" in people.stdout
    facts = machine.json["explain.onnx"]
    assert facts["form"] in {"incremental", "general"}
    assert facts["max_abs_error"] < 1e-5
    assert facts["size_bytes"] == (tmp_path / "machine" / "explain.onnx").stat().st_size
    assert b"local_mean" in (tmp_path / "people" / "explain.onnx").read_bytes()
    assert b"local_mean" not in (tmp_path / "machine" / "explain.onnx").read_bytes()


def test_bundle_command_prints_the_report(invoke, recipe, chain, tmp_path):
    """The last stage ends as `compress` does."""
    out, _ = chain

    ran = invoke(
        *("bundle", recipe, "--teacher", out / "teacher", "--student", out / "student"),
        *("--variants", out / "variants", "--out", tmp_path / "result"),
    )

    assert ran.code == 0
    assert "verdict: kept" in ran.stdout
    assert f"wrote {tmp_path / 'result'}" in ran.stdout


def test_onnx_teacher_and_target(invoke, recipe, finished, npz, tmp_path, monkeypatch):
    """An external teacher, own files, a board; the recipe in the folder runs again."""
    train, test = npz
    monkeypatch.chdir(tmp_path)
    loose = _settings(recipe)

    first = invoke(
        *("compress", "--data", train, "--test", test, "--teacher", finished.onnx),
        *("--target", "aarch64", *loose, *CLASS_NAMES, "--json"),
    )
    folder = tmp_path / "runs" / "train"  # without --out, named after the data
    again = invoke("compress", folder / "recipe.yaml", "--json")

    assert first.code == 0, first.stderr
    assert all(first.json["stages"].values())
    names = [candidate["name"] for candidate in first.json["report"]["candidates"]]
    assert names == ["ort-fp32", "ort-int8"]  # what suits that board
    assert not any(again.json["stages"].values())


def test_table_of_logits_as_teacher(invoke, recipe, finished, series, npz, tmp_path):
    """Distilled and judged without saliency."""
    train, test = npz
    source, _ = series
    logits = np.linspace(-2, 2, 2 * len(source.train.series)).reshape(-1, 2).astype(np.float32)
    table = tmp_path / "logits.npz"
    np.savez(table, train=logits, test=logits[:64])
    settings = [s for s in _settings(recipe) if "saliency" not in s and "objectives" not in s]
    pairs = [pair for s in settings if s != "--set" for pair in ("--set", s)]

    ran = invoke(
        *("compress", "--data", train, "--test", test, "--teacher", table, *pairs, *CLASS_NAMES),
        *("--out", tmp_path / "run", "--json"),
    )

    assert ran.code == 0, ran.stderr
    clauses = {clause["name"] for clause in ran.json["report"]["contract"]}
    assert clauses == {"accuracy_drop", "agreement", "kl"}


def test_estimator_needs_trust(invoke, recipe, series, tmp_path):
    """A pickle runs code, so it is opened only with --trust."""
    _, data = series
    path = tmp_path / "teacher.joblib"
    flat = data.train.x.reshape(len(data.train.x), -1)
    joblib.dump(LogisticRegression().fit(flat, data.train.y), path)
    command = ("train", recipe, "--teacher", path, "--json", "--out")

    refused = invoke(*command, tmp_path / "no")
    trusted = invoke(*command, tmp_path / "yes", "--trust")

    assert refused.code == 2
    assert "--trust" in refused.stderr
    assert not (tmp_path / "no").exists()
    assert trusted.code == 0, trusted.stderr
    assert trusted.json["teacher"] == "teacher.joblib"
    assert trusted.json["can_explain"] is True


def test_recipe_options_win_over_the_file(invoke, recipe, tmp_path):
    """--data replaces the recipe's, --set wins over everything."""
    out = tmp_path / "teacher"

    ran = invoke(
        *("train", recipe, "--data", "UnitTest", "--set", "teacher.width=2"),
        *("--out", out, "--json"),
    )

    assert ran.code == 0, ran.stderr
    assert read_json(out / "model.json")["spec"]["width"] == 2
    assert ran.json["parameters"] < 346


def _settings(recipe) -> list[str]:
    """Return the tiny recipe, but for its data, as --set options."""
    values = yaml.safe_load(recipe.read_text())
    found = []
    for section, content in values.items():
        if section == "data":
            continue
        items = content.items() if isinstance(content, dict) else [(None, content)]
        for key, value in items:
            name = section if key is None else f"{section}.{key}"
            found += ["--set", f"{name}={yaml.safe_dump(value, default_flow_style=True).strip()}"]
    return [text.removesuffix("\n...") for text in found]


@pytest.fixture(scope="module")
def optimize(invoke, recipe, finished):
    """Return what runs `optimize` on the student of a finished run."""

    def run(*options: object):
        model = finished.folder / "model" / "student.onnx"
        return invoke("optimize", recipe, "--model", model, *options)

    return run


def test_search_prints_its_summary_as_json(optimize, finished, tmp_path):
    """stdout has the whole summary that the folder has."""
    out = tmp_path / "variants"

    ran = optimize("--search", "--teacher", finished.folder / "teacher", "--out", out, "--json")

    assert ran.code == 0
    assert ran.json["search"] == read_json(out / "search.json")
    assert ran.json["search"]["complete"]
    assert "search" in ran.stderr


def test_search_prints_tables(optimize, finished, tmp_path):
    """The recipe's settings apply beside the flag."""
    settings = "optimize={search: {agreement_loss: 0, saliency_loss: 0}, recover: {epochs: 1}}"

    ran = optimize(
        *("--search", "--teacher", finished.folder / "teacher", "--out", tmp_path / "variants"),
        *("--set", settings),
    )

    assert ran.code == 0
    assert "What each node gives back in float32" in ran.stdout
    assert "Front of size, latency and saliency agreement" in ran.stdout
    assert "Gemm_0" in ran.stdout
    assert "recovery" in ran.stdout
    assert "in float32 keeps the contract" in ran.stdout or "breaks the contract" in ran.stdout


def test_search_without_a_teacher_is_refused(optimize, tmp_path):
    ran = optimize("--search", "--out", tmp_path / "variants")

    assert ran.code == 2
    assert "Name the folder that `train` wrote with --teacher" in ran.stderr
    assert not (tmp_path / "variants").exists()
