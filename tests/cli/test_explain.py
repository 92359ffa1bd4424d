"""`explain` prints, draws and writes; a failure leaves no file behind."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_run_is_explained_in_tables(invoke, finished):
    """Predictions, strongest windows and agreement on stdout, progress on stderr."""
    ran = invoke("explain", finished.folder, "--index", 1)

    assert ran.code == 0, ran.stderr
    assert "test series 1 of ItalyPowerDemand, of class" in ran.stdout
    assert "Strongest windows, teacher" in ran.stdout
    assert "Strongest windows, student" in ran.stdout
    assert "Pearson of the two maps:" in ran.stdout
    assert "ask the student" in ran.stderr


def test_bundle_is_explained_as_json(invoke, finished):
    """One JSON document, without --data; it has the recorded teacher."""
    found = invoke("explain", finished.bundle, "--json").json

    assert found["model"] == str(finished.bundle)
    assert [model["who"] for model in found["models"]] == ["teacher", "student"]
    assert len(found["models"][0]["windows"]) == 5
    assert -1 <= found["pearson"] <= 1


def test_gradients_are_printed_without_kl(invoke, finished):
    """Gradients need the torch networks of the run."""
    ran = invoke("explain", finished.folder, "--method", "integrated-gradients")

    assert ran.code == 0, ran.stderr
    assert "another quantity than occlusion" in ran.stdout
    assert "KL" not in ran.stdout


def test_files_are_written_instead_of_tables(invoke, finished, tmp_path):
    """A picture and a page; stdout stays free."""
    png, html = tmp_path / "why.png", tmp_path / "new" / "why.html"

    ran = invoke(
        *("explain", finished.onnx, "--data", "ItalyPowerDemand", "--teacher"),
        *(finished.folder / "teacher", "--width", 4, "--stride", 1, "--baseline", "zero"),
        *("--png", png, "--html", html),
    )

    assert ran.code == 0, ran.stderr
    assert ran.stdout == ""
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "Windows of 4 steps, 1 apart, are covered by zeros." in html.read_text()
    assert f"Wrote {png}." in ran.stderr
    assert f"Wrote {html}." in ran.stderr


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (2, ("none.onnx",), "There is no none.onnx. Check the path."),
        (2, ("{bundle}", "--index", 99), "There is no series 99: 8 golden series"),
        (2, ("{bundle}", "--set", "data.length=20"), "Name the data with --data too."),
        (2, ("{bundle}", "--method", "gradient-input"), "Take --method occlusion."),
        (2, ("{onnx}",), "Name the data whose test series are explained"),
        (3, ("{onnx}", "--data", "GunPoint"), "takes series of shape (1, 24); these are (1, 150)"),
        (3, ("{onnx}", "--data", "GunPont"), "Did you mean 'GunPoint'?"),
        (3, ("{run}", "--width", 25), "A window of 25 steps does not fit a series of 24."),
        (3, ("{run}", "--teacher", "none.onnx"), "There is no file none.onnx"),
        (6, ("{broken}",), "is not a whole zip file"),
    ],
    ids=lambda value: str(value)[:40].replace("/", ""),
)
def test_failures_leave_no_file(invoke, finished, tmp_path, monkeypatch, code, arguments, says):
    """Each with its exit code and a next step, before a file is touched."""
    broken = tmp_path / "broken.zip"
    broken.write_bytes(finished.bundle.read_bytes()[:500])
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    places = {"bundle": finished.bundle, "onnx": finished.onnx, "run": finished.folder}
    words = [str(word).format(**places, broken=broken) for word in arguments]

    ran = invoke("explain", *words, "--png", "why.png", "--html", "why.html")

    assert ran.code == code, ran.stderr
    assert says in ran.stderr
    assert ran.stdout == ""
    assert list(work.iterdir()) == []


def test_unwritable_path_exits_5(invoke, finished, tmp_path):
    """A folder that is a file."""
    (tmp_path / "file").write_text("")

    ran = invoke("explain", finished.bundle, "--png", tmp_path / "file" / "why.png")

    assert ran.code == 5
    assert "Cannot write" in ran.stderr
