"""What a board lacks is found, with the commands that fit that board; what it has is left alone."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from pathlib import Path

import pytest

from edgedistill.deployment.connection import SshOptions, connect
from edgedistill.deployment.doctor import diagnosis as asking
from edgedistill.deployment.doctor.diagnosis import diagnose
from edgedistill.deployment.hosts import parse
from edgedistill.device import doctor
from edgedistill.errors import ConfigError, MachineError, UsageError

pytestmark = pytest.mark.slow


def test_complete_boards_are_ok(pi, orin):
    """Every finding is ok, and the family is recognized."""
    for facts, name in ((pi(), "aarch64"), (orin(), "jetson-orin-nano")):
        found = diagnose(facts)

        assert [each for each in found.findings if each.outcome != "ok"] == []
        assert (found.outcome, found.target.name) == ("ok", name)


def test_sample_facts_match_the_device_program(pi, orin, tmp_path):
    """Facts of the tests have the names that the device side gives them."""
    real = doctor.facts(tmp_path)

    for sample in (pi(), orin()):
        assert sample.keys() == real.keys()
        for name in ("python", "packages", "memory_mib", "cgroup", "disk", "clock"):
            assert sample[name].keys() == real[name].keys()


def test_a_diagnosis_can_be_written_as_json(orin):
    """Nothing of it is lost, and nothing in it is no JSON."""
    found = diagnose(orin(ssh_keygen=None)).to_dict()

    assert json.loads(json.dumps(found))["outcome"] == "missing"
    assert found["target"] == "jetson-orin-nano"
    assert found["facts"]["jetson_linux"] == "36.4.3"


CASES = {
    "another processor": (
        {"machine": "x86_64"},
        ("machine", "missing", "another family"),
    ),
    "an old C library": ({"glibc": "2.17"}, ("machine", "missing", "glibc 2.17")),
    "another C library": ({"glibc": ""}, ("machine", "missing", "glibc absent")),
    "an emulator": ({"emulated": True}, ("machine", "warn", "emulated")),
    "an old Python": ({"python__version": "3.9.2"}, ("Python", "missing", "--python")),
    "no NumPy": (
        {"packages__numpy": {"version": None, "works": False, "error": "No module"}},
        ("NumPy", "missing", "none, No module"),
    ),
    "an old ONNX Runtime": (
        {"packages__onnxruntime__version": "1.16.0"},
        ("ONNX Runtime", "missing", "1.16.0"),
    ),
    "an ONNX Runtime that dies": (
        {
            "packages__onnxruntime__works": False,
            "packages__onnxruntime__error": "it ended the process (SIGILL)",
        },
        ("ONNX Runtime", "missing", "SIGILL"),
    ),
    "no ssh-keygen": ({"ssh_keygen": None}, ("ssh-keygen", "missing", "openssh-client")),
    "little memory": ({"memory_mib__total": 128}, ("memory", "warn", "128 MiB")),
    "a tight container": (
        {"cgroup__memory_mib": 64},
        ("memory", "warn", "64 MiB, the container's limit"),
    ),
    "a full disk": ({"disk__free_mib": 10}, ("disk", "warn", "prune")),
    "a folder of root's": (
        {"disk__writable": False},
        ("disk", "missing", "sudo mkdir -p /home/pi/edgedistill && sudo chown $USER"),
    ),
    "a clock that nobody keeps": (
        {"clock__synchronized": False},
        ("clock", "warn", "nothing keeps it right"),
    ),
    "a clock of the past": ({"clock__seconds": 0}, ("clock", "warn", "1970-01-01")),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_parts_of_a_pi_are_found(pi, case):
    """One thing is wrong, and that thing alone is told."""
    changes, (what, outcome, told) = CASES[case]

    found = diagnose(pi(**changes), target="aarch64")

    bad = [each for each in found.findings if each.outcome != "ok"]
    assert [(each.what, each.outcome) for each in bad] == [(what, outcome)]
    text = " ".join((bad[0].seen, bad[0].needed, bad[0].advice, *bad[0].commands))
    assert told in text
    assert found.outcome == outcome


JETSON_CASES = {
    "no TensorRT, but ONNX Runtime": (
        {"packages__tensorrt__works": False, "packages__tensorrt__version": None},
        ("TensorRT", "warn", "python3-libnvinfer"),
    ),
    "an old JetPack": ({"jetson_linux": "35.4.1"}, ("JetPack", "warn", "JetPack 6.1 to 7.2")),
    "no JetPack": ({"jetson_linux": ""}, ("JetPack", "warn", "no /etc/nv_tegra_release")),
    "no access to the GPU": (
        {"gpu": None, "gpu_error": "CUDA's cuInit fails: no device (100)"},
        ("GPU", "warn", "CUDA's cuInit fails: no device (100) compute capability 8.7"),
    ),
    "outside of a group": (
        {"gpu": None, "groups": ["nvidia", "video"]},
        ("GPU", "warn", "usermod -aG render $USER"),
    ),
    "another GPU": (
        {
            "gpu": {
                "name": "Thor",
                "compute_capability": "11.0",
                "memory_mib": 1,
                "cuda": "13.0",
            }
        },
        ("GPU", "warn", "Name the board's own family"),
    ),
    "no power mode": ({"power_mode": ""}, ("power mode", "warn", "nvpmodel -q")),
}


@pytest.mark.parametrize("case", JETSON_CASES)
def test_missing_parts_of_a_jetson_are_found(orin, case):
    """One thing is wrong, and that thing alone is told."""
    changes, (what, outcome, told) = JETSON_CASES[case]

    found = diagnose(orin(**changes))

    bad = [each for each in found.findings if each.outcome != "ok"]
    assert [(each.what, each.outcome) for each in bad] == [(what, outcome)]
    text = " ".join((bad[0].seen, bad[0].needed, bad[0].advice, *bad[0].commands))
    assert told in text


def test_a_runtime_that_a_model_needs_has_no_stand_in(orin):
    """ONNX Runtime runs no model that was made for TensorRT."""
    facts = orin(packages__tensorrt__works=False)

    assert diagnose(facts).outcome == "warn"
    found = diagnose(facts, runtime="tensorrt")

    assert found.outcome == "missing"
    assert _finding(found, "TensorRT").outcome == "missing"
    assert "Python 3.10 alone" in _finding(found, "TensorRT").advice
    assert not [each for each in found.findings if each.what == "ONNX Runtime"]


def test_tensorrt_that_only_lacks_the_gpu_is_not_installed_again(orin):
    """Its version fits; what is to be mended is the GPU."""
    facts = orin(gpu=None, gpu_error="no device", packages__tensorrt__works=False)

    found = _finding(diagnose(facts, runtime="tensorrt"), "TensorRT")

    assert (found.outcome, found.commands) == ("missing", ())
    assert "mend that first" in found.advice


@pytest.mark.parametrize(
    ("clock", "told"),
    [
        ([306.0, 1020.0], "GPU 306 to 1020 MHz, free; sudo jetson_clocks locks it"),
        ([1020.0, 1020.0], "GPU locked at 1020 MHz (jetson_clocks)"),
    ],
)
def test_clocks_are_shown(orin, clock, told):
    """Governor and lock explain why two measurements differ; neither is a fault."""
    found = _finding(diagnose(orin(governor="schedutil", gpu_clock_mhz=clock)), "clocks")

    assert found.outcome == "ok"
    assert found.seen.startswith(f"CPU governor schedutil; {told}")


def test_a_jetson_without_any_runtime_cannot_run(orin):
    """No stand-in, no warning."""
    found = diagnose(orin(packages__tensorrt__works=False, packages__onnxruntime__works=False))

    assert _finding(found, "TensorRT").outcome == "missing"
    assert _finding(found, "ONNX Runtime").outcome == "missing"


@pytest.mark.parametrize(
    ("linux", "told"),
    [
        ("36.4.0", "6.1 (Jetson Linux 36.4.0): TensorRT 10.3, CUDA 12.6, Python 3.10"),
        ("36.4.7", "6.2.1 or newer (Jetson Linux 36.4.7)"),
        ("39.2.0", "7.2 (Jetson Linux 39.2.0): TensorRT 10.16, CUDA 13.2, Python 3.12"),
    ],
)
def test_jetpack_is_known_by_its_linux(orin, linux, told):
    """One that is newer than the last of its line counts as that one."""
    found = diagnose(orin(jetson_linux=linux))

    assert told in _finding(found, "JetPack").seen


@pytest.mark.parametrize(("linux", "said"), [("36.4.3", False), ("39.2.0", True)])
def test_missing_accelerators_are_said_where_there_are_any(orin, linux, said):
    """An Orin NX has deep learning accelerators, which not every TensorRT can use."""
    facts = orin(jetson_linux=linux, board="NVIDIA Jetson Orin NX Developer Kit")

    found = diagnose(facts)

    assert found.target.name == "jetson-orin-nx"
    assert ("no DLA" in _finding(found, "JetPack").seen) is said


def test_a_clock_may_differ_a_little(pi):
    """Half a minute is no reason to complain."""
    facts = pi()
    now = facts["clock"]["seconds"]

    assert _finding(diagnose(facts, now_s=now + 30), "clock").outcome == "ok"
    assert "400 s slow" in _finding(diagnose(facts, now_s=now + 400), "clock").seen


def test_unsigned_bundles_need_no_ssh_keygen(pi):
    """It is said all the same."""
    found = diagnose(pi(ssh_keygen=None), signed=False)

    assert (_finding(found, "ssh-keygen").outcome, found.outcome) == ("warn", "warn")


def test_facts_of_another_program_are_refused(pi):
    """An older program may mean something else by the same name."""
    with pytest.raises(MachineError, match=r"format 'edgedistill.facts/0'"):
        diagnose(pi(format="edgedistill.facts/0"))


def test_an_unknown_processor_needs_a_name(pi):
    """No family is guessed."""
    with pytest.raises(UsageError, match="No target fits a riscv64 machine"):
        diagnose(pi(machine="riscv64"))
    with pytest.raises(ConfigError, match="There is no target 'mars'"):
        diagnose(pi(), target="mars")


@pytest.fixture
def ask(ssh_server, tmp_path):
    """Ask the server, which is this machine, with another Python or none."""
    access = SshOptions(identity=ssh_server.key, known_hosts=ssh_server.known_hosts)

    def work(python=sys.executable):
        async def there():
            host = parse(ssh_server.address, root=str(tmp_path / "root"), python=str(python))
            async with connect(host, access) as connection:
                return await asking.collect_from_board(connection)

        return asyncio.run(there())

    return work


def test_facts_are_collected_from_a_board(ask, tmp_path):
    """The program is carried there for the question."""
    found = ask()

    assert found["machine"] == platform.machine()
    assert found["disk"]["folder"] == str(tmp_path / "root")
    assert found["packages"]["numpy"]["works"] is True
    assert diagnose(found).target.board.machine == platform.machine()


def test_nothing_stays_on_the_board(ask, tmp_path, monkeypatch):
    """Neither the program nor its folder; releases are not touched."""
    before = set(Path("/tmp").glob("tmp.*"))  # what mktemp makes

    ask()

    assert set(Path("/tmp").glob("tmp.*")) - before == set()
    assert not (tmp_path / "root").exists()


def test_facts_are_collected_here(tmp_path):
    """Without a connection."""
    assert asking.collect_here(str(tmp_path))["disk"]["folder"] == str(tmp_path)


def test_board_without_python_is_refused(ask):
    """With what installs it."""
    with pytest.raises(MachineError, match=r"has no python3\.99.*apt-get install.*--python"):
        ask("python3.99")


def test_old_python_is_refused_by_the_program(ask, tmp_path):
    """The program says what it needs, even to one that cannot run it."""
    old = tmp_path / "old"
    old.write_text(
        "#!/bin/sh\necho 'error: This is Python 3.8; it needs 3.10 or newer.' >&2\nexit 5\n"
    )
    old.chmod(0o755)

    with pytest.raises(MachineError, match=r"cannot tell what it has: error: This is Python 3\.8"):
        ask(old)


def test_an_interpreter_at_home_is_found(ask, tmp_path):
    """`~` is the board's home; a shell is not asked to expand anything else."""
    home = Path.home()
    link = home / f".edgedistill-test-{tmp_path.name}"
    link.symlink_to(sys.executable)
    try:
        found = ask(f"~/{link.name}")
    finally:
        link.unlink()

    assert found["python"]["executable"] == str(link)


def _finding(diagnosis, what):
    (found,) = [each for each in diagnosis.findings if each.what == what]
    return found
