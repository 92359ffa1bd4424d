"""The `predict` command: what it prints, how it exits, and which words do not go together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgedistill.device.__main__ import main
from edgedistill.runtimes.instructions import instruction_set

pytestmark = pytest.mark.slow

GOOD = ",".join(str(k % 7) for k in range(24)) + "\n"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A file with three series, of which one is none."""
    path = tmp_path / "x.csv"
    path.write_text(GOOD + "what\n" + GOOD)
    return path


def _device(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgedistill.device", *map(str, arguments)]


def _piped(content: str | bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    text = content.encode() if isinstance(content, str) else content
    return subprocess.run(_device(*arguments), input=text, capture_output=True)


def test_table(italy, series, capsys):
    """Rows for people, complaints on stderr, exit 3 because a line was bad."""
    code = main(["predict", str(italy), str(series), "--saliency"])

    printed = capsys.readouterr()
    assert code == 3
    assert [line.split()[0] for line in printed.out.splitlines()] == ["line", "1", "3"]
    assert "line 2: Value 1" in printed.err
    assert "Predicted 2, could not use 1." in printed.err


def test_exit_code_is_0_without_errors(italy, tmp_path, capsys):
    """JSON lines, nothing else on stdout."""
    (tmp_path / "x.csv").write_text(GOOD * 2)

    code = main(["predict", str(italy), str(tmp_path / "x.csv"), "--json"])

    assert code == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["line"] for answer in answers] == [1, 2]


def test_saturating_sums_are_reported(italy, saturating_bundle, tmp_path, capsys):
    """A profile of them would show drift that is none; beside its ONNX file a model is exact."""
    (tmp_path / "x.csv").write_text(GOOD)

    for formats in (("ort",), ("onnx", "ort")):
        path = saturating_bundle(italy, tmp_path / "-".join(formats), formats)
        assert main(["predict", str(path), str(tmp_path / "x.csv")]) == 0
        told = "ort-int8-ort.ort sums 8-bit products in 16 bits" in capsys.readouterr().err
        assert told == (formats == ("ort",) and instruction_set().saturates)


def test_csv(italy, series, capsys):
    """A header and a row a prediction."""
    main(["predict", str(italy), str(series), "--csv"])

    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "line,id,class,index,p(winter),p(summer)"
    assert len(rows) == 2


def test_the_file_may_follow_the_options(italy, series, capsys):
    """As it may with every other command."""
    assert main(["predict", str(italy), "--json", str(series)]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("name", [(), ("-",)])
def test_standard_input(name, italy):
    """Without a name, or with a dash."""
    ran = _piped(GOOD, "predict", italy, *name, "--json")

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["line"] == 1


def test_golden_series_give_the_recorded_classes(italy, world, tmp_path, capsys):
    """Preprocessed series from an NPZ file, as the student answered them on the workstation."""
    np.savez(tmp_path / "golden.npz", x=world.golden.series)

    code = main(["predict", str(italy), str(tmp_path / "golden.npz"), "--preprocessed", "--json"])

    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    expected = world.golden.student.logits.argmax(axis=1).tolist()
    assert [answer["index"] for answer in answers] == expected


def test_stream(italy):
    """Windows of the model's length every twelve steps; the rest is spoken of."""
    ran = _piped("\n".join(str(k % 5) for k in range(55)), "predict", italy, "--stream")
    hop = _piped(
        "\n".join(str(k % 5) for k in range(55)),
        *("predict", italy, "--stream", "--hop", 12, "--json"),
    )

    assert ran.returncode == hop.returncode == 0
    assert [line.split()[0] for line in ran.stdout.decode().splitlines()] == ["start", "0", "24"]
    assert b"7 of 55 steps came after the last window" in ran.stderr
    starts = [json.loads(line)["start"] for line in hop.stdout.decode().splitlines()]
    assert starts == [0, 12, 24]


def test_windows_of_another_length_are_resampled(italy):
    """A window is preprocessed like a recorded series."""
    steps = "\n".join(str(k % 5) for k in range(48))

    ran = _piped(steps, "predict", italy, "--stream", "--window", 48, "--json")

    assert [json.loads(line)["start"] for line in ran.stdout.decode().splitlines()] == [0]


def test_predictions_are_flushed_while_the_stream_goes_on(italy):
    """Each line is flushed, so that what follows in a pipe sees it at once."""
    command = _device("predict", italy, "--json")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for line in (1, 2):
            process.stdin.write(GOOD.encode())
            process.stdin.flush()

            assert json.loads(process.stdout.readline())["line"] == line
        process.stdin.close()

    assert process.returncode == 0


def test_closed_output_pipe_ends_quietly(italy):
    """`head` closes the pipe: no traceback, no error."""
    command = _device("predict", italy, "--json")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(GOOD.encode())
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(GOOD.encode() * 3)
        process.stdin.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (0, b"")


def test_release_folder_stands_for_its_bundle(italy, tmp_path, capsys):
    """Its folder stands for its bundle."""
    (tmp_path / "x.csv").write_text(GOOD)
    root = ["releases", "--root", str(tmp_path / "root")]
    main([*root, "install", str(italy), "--unsigned", "--json"])
    release = json.loads(capsys.readouterr().out)["path"]

    code = main(["predict", release, str(tmp_path / "x.csv"), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["line"] == 1


def test_no_standard_input(italy):
    """A closed one, as some daemons have it."""
    words = " ".join(_device("predict", italy))

    ran = subprocess.run(["sh", "-c", f"{words} <&-"], capture_output=True, text=True)

    assert ran.returncode == 3
    assert "There is no standard input" in ran.stderr


@pytest.mark.parametrize("words", [[], ["--stream"]])
def test_nothing_to_predict(words, italy, tmp_path, capsys):
    """An empty input is more likely a mistake than a wish."""
    (tmp_path / "x.csv").write_text("\n")

    code = main(["predict", str(italy), str(tmp_path / "x.csv"), *words])

    assert code == 3
    assert "Nothing came to predict" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["no.csv"], 3, "Cannot read no.csv: No such file"),
        (["--csv", "--json"], 2, "--csv and --json exclude each other"),
        (["--hop", "3"], 2, "Add --stream"),
        (["--window", "3"], 2, "Add --stream"),
        (["--stream", "--hop", "0"], 2, "give at least 1"),
        (["--listen", "h:1", "--folder", "d"], 2, "--listen and --folder exclude each other"),
        (["--listen", "h:1", "--json"], 2, "Leave out --json"),
        (["--folder", "d", "x.csv"], 2, "Leave out x.csv"),
        (["--listen", "nowhere", "--no-auth"], 2, "is no address"),
        (["--listen", "127.0.0.1:0"], 2, "Give --token FILE"),
        (["--listen", "127.0.0.1:0", "--no-auth", "--token", "t"], 2, "exclude each other"),
        (["--listen", "unix:s", "--no-auth"], 2, "are of a port"),
        (["--token", "t"], 2, "are of a port"),
        (["--listen", "127.0.0.1:0", "--token", "no-file"], 5, "cannot be read"),
        (["--topic", "t"], 2, "Give both"),
        (["--mqtt", "h"], 2, "Give both"),
        (["--subscribe", "t"], 2, "needs a broker"),
        (["--mqtt", "a b", "--topic", "t"], 2, "is no broker"),
        (["--model", "none"], 2, "holds no model"),
        (["--threads", "0"], 2, "threads"),
    ],
    ids=range(20),
)
def test_contradicting_options_are_refused(words, code, told, italy, tmp_path, monkeypatch, capsys):
    """Each has its message."""
    monkeypatch.chdir(tmp_path)

    assert main(["predict", str(italy), *words]) == code
    assert told in capsys.readouterr().err


def test_saliency_is_loaded_only_if_requested(italy, series):
    """A first answer comes sooner without: neither the golden set nor what explains is imported."""
    code = (
        "import sys\nfrom edgedistill.device.__main__ import main\n"
        f"main(['predict', {str(italy)!r}, {str(series)!r}, *sys.argv[1:]])\n"
        "slow = {'bundle.golden', 'saliency.occlusion', 'runtimes.tensorrt.runtime', "
        "'runtimes.tensorrt.engine_cache', 'device.predict.mqtt'}\n"
        "print([m for m in sorted(slow) if f'edgedistill.{m}' in sys.modules], file=sys.stderr)\n"
        "print('importlib.metadata' in sys.modules, 'asyncio' in sys.modules, file=sys.stderr)"
    )

    def loaded(*words: str) -> list[str]:
        run = [sys.executable, "-S", "-c", code, *words]
        path = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run(
            run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        return done.stderr.splitlines()[-2:]

    assert loaded() == ["[]", "False False"]
    assert loaded("--saliency")[0] == "['saliency.occlusion']", "otherwise this test shows nothing"
