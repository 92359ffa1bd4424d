"""The device's command line: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from onnxruntime import get_available_providers

from edgedistill import __version__, report
from edgedistill.bundle.reader import open_bundle
from edgedistill.device import telemetry_sampler as watch
from edgedistill.device.__main__ import main
from edgedistill.device.cli.models import _tuning_table
from edgedistill.device.sensors import Sensors
from edgedistill.device.tuning import Trial, Tuning
from edgedistill.errors import MachineError
from edgedistill.evaluation.metrics import Estimate
from edgedistill.runtimes import onnxruntime as ort
from edgedistill.runtimes.onnxruntime import PROVIDERS
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings

pytestmark = pytest.mark.slow

QUICK = ["--runs", "10"]


def test_validate_exits_0_if_the_contract_is_kept(italy, tmp_path, capsys):
    """A sound bundle: a table, a report, exit 0."""
    out = tmp_path / "facts" / "report.json"

    code = main(["validate", str(italy), "--out", str(out), *QUICK])

    printed = capsys.readouterr()
    assert code == 0
    assert "verdict: kept" in printed.out
    assert "saliency_pearson" in printed.out
    assert str(out) in printed.err
    assert report.from_json(json.loads(out.read_text())).verdict == "kept"


def test_validate_breaks_with_exit_4(
    world, tmp_path, capsys, swap_model, write_onnx, rng, monkeypatch
):
    """Another model in a bundle whose hashes fit: exit 4, and the clause is named."""
    monkeypatch.chdir(tmp_path)
    path = world.write(tmp_path / "b")
    swap_model(path, write_onnx(tmp_path / "other.onnx", world.student.noisy(5, rng)))

    code = main(["validate", str(path), *QUICK])

    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("saliency_pearson"))
    assert code == 4
    assert "BROKEN" in line
    assert "verdict: broken" in printed
    written = json.loads((tmp_path / "report.json").read_text())  # the default --out
    assert written["verdict"] == "broken"
    assert any("saliency_pearson" in reason for reason in written["reasons"])


def test_validate_prints_json(italy, tmp_path, capsys):
    """--json puts the report, and nothing else, on stdout."""
    out = tmp_path / "report.json"

    main(["validate", str(italy), "--json", "--out", str(out), *QUICK])

    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


def test_benchmark(italy, capsys):
    """A table for people, JSON for machines."""
    assert main(["benchmark", str(italy), *QUICK]) == 0
    assert "latency p95" in capsys.readouterr().out

    assert main(["benchmark", str(italy), "--json", *QUICK]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == 10
    assert found["p50_ms"]["value"] > 0


def test_benchmark_reports_costs(italy, capsys):
    """Throughput, memory and cold start from fresh processes; --no-costs leaves them out."""
    assert main(["benchmark", str(italy), "--json", *QUICK]) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert main(["benchmark", str(italy), "--no-costs", *QUICK]) == 0
    without = capsys.readouterr().out

    assert costs["peak_mib"] > costs["bare_mib"]
    assert costs["cold_start_ms"] > 0
    assert "10, as asked for; the p95's interval is" in without
    assert "cold start" not in without


def test_runs_auto_reports_why_it_stopped(italy, capsys):
    """By default the interval or the budget ends it, and the table says which."""
    assert main(["benchmark", str(italy), "--no-costs", "--budget", "0.3"]) == 0
    ended = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("runs"))

    assert "narrow enough" in ended or "until the time was up" in ended


def test_runs_must_be_a_number(italy, capsys):
    """A sentence, not a traceback."""
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", str(italy), "--runs", "many"])

    assert stopped.value.code == 2
    assert "'many' is no number; give one, or auto" in capsys.readouterr().err


def test_budget_must_be_positive(italy, capsys):
    """Nothing can be measured in it."""
    assert main(["benchmark", str(italy), "--budget", "0"]) == 2
    assert "give more than 0 for both" in capsys.readouterr().err


def test_validate_reports_costs_and_telemetry(sysfs, italy, tmp_path, monkeypatch, capsys):
    """What was asked for, and what the sensors said, are in the report and in the table."""
    sysfs.write(tmp_path, sysfs.ORIN_NANO)
    monkeypatch.setattr(watch, "Sensors", lambda: Sensors(tmp_path))
    out = tmp_path / "report.json"

    assert main(["validate", str(italy), "--costs", "--out", str(out), *QUICK]) == 0

    table, written = capsys.readouterr().out, report.from_json(json.loads(out.read_text()))
    assert written.telemetry.settings["power mode"] == "25W (1)"
    assert written.telemetry.throttling == ()
    assert written.candidates[0].costs.cold_start_ms > 0
    assert re.search(r"^power mode +25W \(1\)$", table, re.MULTILINE)
    assert re.search(r"^throttling +none was seen$", table, re.MULTILINE)
    assert re.search(r"^cold start +[\d.]+ m?s to the first answer$", table, re.MULTILINE)


def test_throttling_is_reported(sysfs, italy, tmp_path, monkeypatch, capsys):
    """A board that slows down while it is measured says so in the table and in the report."""
    hot = {"sys/class/thermal/cooling_device0/cur_state": "3"}
    sysfs.write(tmp_path, {**sysfs.ORIN_NANO, **hot})
    monkeypatch.setattr(watch, "Sensors", lambda: Sensors(tmp_path))
    out = tmp_path / "report.json"

    main(["validate", str(italy), "--out", str(out), *QUICK])

    assert "cpufreq-cpu0 slows the machine down" in capsys.readouterr().out
    (sign,) = json.loads(out.read_text())["telemetry"]["throttling"]
    assert "cpufreq-cpu0 slows the machine down" in sign


def test_tune_prints_and_stores(italy, tmp_path, capsys):
    """A table for people, JSON for machines; --out writes a bundle whose model runs as found."""
    tuned = tmp_path / "tuned.zip"

    assert main(["tune", str(italy)]) == 0
    shown = capsys.readouterr()
    assert main(["tune", str(italy), "--json", "--out", str(tuned)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["benchmark", str(tuned), "--json", *QUICK]) == 0

    assert "1 thread, spinning on, optimization all, sequential, memory arena on" in shown.out
    assert "times as fast as by default" in shown.out
    assert "Nothing was stored" in shown.err
    settings = SessionSettings.from_dict(found["settings"])
    assert json.loads(capsys.readouterr().out)["session"] == str(settings)
    with open_bundle(tuned) as stored, open_bundle(italy) as before:
        assert stored.model().session == settings
        assert before.model().session is None
    assert main(["validate", str(tuned), "--out", str(tmp_path / "report.json"), *QUICK]) == 0


def test_tuning_table_lists_refused_settings():
    """Settings that change the answers have no time."""
    two = SessionSettings(threads=2)
    trials = (
        Trial(settings=DEFAULT, logit_error=0.0, p50_ms=Estimate(2.0, 1.9, 2.1)),
        Trial(settings=two, logit_error=1.0, p50_ms=None),
    )

    table = _tuning_table(Tuning(model="m", trials=trials, settings=DEFAULT, gain=1.0))

    head, first, second, *_ = table.splitlines()
    assert head.endswith("outcome")
    assert first.endswith("2.0000 ms  1.9000 to 2.1000  taken")
    assert second.startswith("2 threads")
    assert second.endswith("changes the answers")


@pytest.mark.parametrize("command", ["validate", "benchmark"])
def test_a_provider_that_cannot_run_the_model_exits_5(
    italy, tmp_path, monkeypatch, capsys, command
):
    """No report, no figures under the wrong name."""
    monkeypatch.chdir(tmp_path)
    provider = next(
        (name for name in ("cuda", "tensorrt") if PROVIDERS[name] not in get_available_providers()),
        None,
    )
    if provider is None:
        pytest.skip("this ONNX Runtime has all providers")

    assert main([command, str(italy), "--provider", provider, *QUICK]) == 5

    printed = capsys.readouterr()
    assert f"has no {PROVIDERS[provider]}" in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_environment(capsys):
    """It says what machine this is."""
    assert main(["environment"]) == 0
    assert "cores" in capsys.readouterr().out

    assert main(["environment", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edgedistill"] == __version__


@pytest.mark.parametrize(
    "arguments",
    [[], ["validate"], ["nonsense"], ["validate", "b", "--runs", "many"]],
    ids=["nothing", "no bundle", "no such command", "no number"],
)
def test_wrong_command_line_exits_2(arguments, capsys):
    """argparse explains itself."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)

    assert stopped.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_and_version(capsys):
    """Help has an example and the exit codes."""
    for option, expected in (("--help", "exit codes:"), ("--version", __version__)):
        with pytest.raises(SystemExit) as stopped:
            main([option])

        assert stopped.value.code == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["absent.zip"], 2, "There is no bundle at absent.zip"),
        (["{bundle}", "--model", "other"], 2, "no model 'other'"),
        (["{bundle}", "--threads", "0"], 2, "threads is 0"),
        (["{bundle}", "--runs", "0"], 2, "runs is 0"),
        (["{text}"], 6, "is not a whole zip file"),
    ],
    ids=["absent", "model", "threads", "runs", "no zip"],
)
def test_errors_become_messages_and_codes(
    italy, tmp_path, monkeypatch, capsys, options, code, message
):
    """One line on stderr, no traceback, no report."""
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text.zip"
    text.write_text("no zip")

    got = main(["validate", *(o.format(bundle=italy, text=text) for o in options)])

    printed = capsys.readouterr()
    assert got == code
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert not (tmp_path / "report.json").exists()


def test_unusable_model_exits_3(world, tmp_path, capsys, replace_file):
    """Half a model with a fitting hash."""
    path = world.write(tmp_path / "b")
    name = "models/student-fp32.onnx"
    whole = (path / name).read_bytes()
    replace_file(path, name, whole[: len(whole) // 2])

    code = main(["validate", str(path), "--out", str(tmp_path / "report.json")])

    assert code == 3
    assert "student-fp32.onnx is no ONNX file that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["onnxruntime", "numpy"])
def test_missing_package_exits_5(italy, tmp_path, module):
    """The message has the command that installs it."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from edgedistill.device.__main__ import main\n"
        f"sys.exit(main(['validate', {str(italy)!r}]))"
    )

    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    assert ran.returncode == 5, ran.stderr
    assert f"python -m pip install {module}" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_tampered_bundle_exits_6(italy, tmp_path, capsys):
    """One byte of the model changed on the way."""
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(italy) as source, zipfile.ZipFile(changed, "w") as sink:
        for member in source.infolist():
            content = bytearray(source.read(member))
            if member.filename.endswith(".onnx"):
                content[-1] ^= 1
            sink.writestr(member, bytes(content))

    code = main(["validate", str(changed), "--out", str(tmp_path / "report.json")])

    assert code == 6
    assert "models/student-fp32.onnx in" in capsys.readouterr().err


def test_full_disk_exits_5_and_leaves_nothing(italy, full_disk, capsys):
    """The report that does not fit is not there by half."""
    code = main(["validate", str(italy), "--out", str(full_disk / "report.json"), *QUICK])

    assert code == 5
    assert "The disk is full while writing" in capsys.readouterr().err
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_bundle_that_does_not_fit_leaves_nothing(world, full_disk, name):
    """A bundle on a full disk is not there by half either."""
    with pytest.raises(MachineError, match="The disk is full while writing"):
        world.write(full_disk / name)

    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_other_disk_errors_exit_5(italy, tmp_path, capsys):
    """A file where the report's folder should be is explained, not shown as a traceback."""
    (tmp_path / "file").write_text("")

    code = main(["validate", str(italy), "--out", str(tmp_path / "file" / "report.json"), *QUICK])

    assert code == 5
    assert "error: " in capsys.readouterr().err


def test_ctrl_c_inside_an_import_exits_130(italy, monkeypatch, capsys):
    """An extension module that is interrupted while it loads reports an ImportError."""

    def interrupted(*_):
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr(ort, "_onnxruntime", interrupted)

    assert main(["benchmark", str(italy)]) == 130
    assert capsys.readouterr().err == "Interrupted; nothing half written was kept.\n"


def test_ctrl_c_exits_130_and_leaves_nothing(italy, tmp_path):
    """Interrupted while it measures: a sentence, no report, no unpacked bundle."""
    scratch, here = tmp_path / "scratch", tmp_path / "here"
    scratch.mkdir()
    here.mkdir()
    command = [sys.executable, "-m", "edgedistill.device", "validate", italy, "--runs", "100000000"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # the device side must set it by itself
    running = subprocess.Popen(
        command, cwd=here, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 20
    while not list(scratch.glob("*/bundle/manifest.json")) and time.monotonic() < until:
        time.sleep(0.02)

    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)

    assert running.returncode == 130
    assert errors.decode() == "Interrupted; nothing half written was kept.\n"
    assert list(here.iterdir()) == []
    assert list(scratch.iterdir()) == []
