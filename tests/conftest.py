"""Fixtures that every test may use."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

# Before NumPy, Numba and torch load: on networks this small, more threads only wait for each other.
# torch takes as many as Numba does, once a kernel of Numba has run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pytest

from edgedistill import set_library_defaults

set_library_defaults()  # before torch and ONNX Runtime load

# A job that a script put in the background ignores Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def series() -> np.ndarray:
    """Real series of one channel, (40, 1, 60), z-normalized as the set brings them."""
    from aeon.datasets import load_gunpoint

    found, _ = load_gunpoint(split="train")
    return found[:40, :, :60].astype(np.float32)


@pytest.fixture(scope="session")
def student(tmp_path_factory, series) -> Callable[[str], Path]:
    """Return the exported file of a student by its family; exported once a session."""
    import torch  # here, as what exports: the kernels' tests run without

    from edgedistill.export.export import export
    from edgedistill.models import ModelSpec, build

    specs = {
        "fcn": ModelSpec(family="fcn", width=16),
        "inception": ModelSpec(family="inception", width=4, depth=2),
        "lite": ModelSpec(family="lite", width=4),
        "lstm": ModelSpec(family="lstm", width=24, depth=1),
    }
    folder = tmp_path_factory.mktemp("students")

    @cache
    def exported(family: str) -> Path:
        torch.manual_seed(0)
        model = build(specs[family], channels=1, classes=2, length=series.shape[2])
        model.train()  # batch norms get statistics of the data, so that folding has work to do
        with torch.no_grad():
            for _ in range(5):
                model(torch.from_numpy(series))
        path = folder / f"{family}.onnx"
        export(model, path, series)
        return path

    return exported


_SATURATING = """
    <ir_version: 10, opset_import: ["" : 20]>
    net (float[N, 1, %d] series) => (float[N, 2] logits)
    <float scale = {0.02}, uint8 zero = {128}, int8[2] zeros = {0, 0}, float[2] scales = {0.1, 0.2}>
    {
        flat = Flatten(series)
        q = QuantizeLinear(flat, scale, zero)
        x = DequantizeLinear(q, scale, zero)
        w = DequantizeLinear<axis: int = 0>(weight, scales, zeros)
        logits = Gemm<transB: int = 1>(x, w)
    }
"""


@pytest.fixture(scope="session")
def write_saturating() -> Callable[[Path, int], Path]:
    """Write an INT8 model whose pairs of products leave 16 bits: 2 x 200 x 127 is 50,800."""
    from onnx import numpy_helper, parser

    def write(path: Path, steps: int) -> Path:
        model = parser.parse_model(_SATURATING % steps)
        weight = np.full((2, steps), 127, np.int8)
        weight[1, ::3] = -127
        model.graph.initializer.append(numpy_helper.from_array(weight, "weight"))
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def saturating_bundle(write_saturating: Callable[[Path, int], Path]) -> Callable[..., Path]:
    """Write a bundle whose chosen model is the .ort file of an INT8 model that saturates.

    Everything else is that of another bundle; `formats` are what it holds of the model.
    """
    from edgedistill.bundle import writer
    from edgedistill.bundle.reader import Model, Provenance, open_bundle
    from edgedistill.evaluation.contract import Contract
    from edgedistill.optimize.ort_format import to_ort

    def write(source: Path, out: Path, formats: tuple[str, ...] = ("onnx", "ort")) -> Path:
        with open_bundle(source) as bundle:
            golden = bundle.golden()
            onnx = write_saturating(out.parent / "ort-int8.onnx", golden.series.shape[2])
            to_ort(onnx, onnx.with_suffix(".ort"), golden.series)
            files = {"onnx": ("ort-int8", onnx), "ort": ("ort-int8-ort", onnx.with_suffix(".ort"))}
            contents = writer.BundleContents(
                name=bundle.name,
                created="2026-01-02T03:04:05+00:00",
                class_names=bundle.class_names,
                preprocessing=bundle.preprocessing,
                plan=bundle.plan,
                contract=Contract(),
                chosen="ort-int8-ort",
                models=[
                    Model(
                        name=files[kind][0],
                        path=files[kind][1],
                        runtime="onnxruntime",
                        precision="int8",
                        parameters=2,
                    )
                    for kind in formats
                ],
                golden=golden,
                provenance=Provenance(recipe={}, versions={}, seeds={}, data="0"),
            )
            writer.write(out, contents)
        return out

    return write


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """Skip for want of something, or fail where nothing may be wanting, as .ci/run demands."""

    def stop(reason: str) -> NoReturn:
        if os.environ.get("EDGEDISTILL_COMPLETE"):
            pytest.fail(f"{reason} (EDGEDISTILL_COMPLETE is set)")
        pytest.skip(reason)

    return stop


@pytest.fixture(scope="session")
def ssh_key(unavailable: Callable[[str], NoReturn]) -> Callable[..., Path]:
    """Make a private SSH key at a path; the public one lies beside it."""
    if shutil.which("ssh-keygen") is None:
        unavailable("ssh-keygen is not installed: apt-get install openssh-client")

    def make(path: Path, kind: str = "ed25519", *, passphrase: str = "") -> Path:
        command = ["ssh-keygen", "-q", "-C", "", "-t", kind, "-N", passphrase, "-f", path]
        subprocess.run(command, check=True)
        return path

    return make


@dataclass(frozen=True)
class SshServer:
    """OpenSSH's server on loopback, and what a user needs to log in."""

    folder: Path
    port: int
    user: str
    key: Path  # private, without a passphrase
    known_hosts: Path  # names the server's true key
    config: Path  # an SSH configuration in which the server is called `board`
    host_key: Path  # public
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """Return what `deploy` takes."""
        return f"{self.user}@{self.host}:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """Return the options with which a command reaches it."""
        return ("--identity", str(self.key), "--known-hosts", str(self.known_hosts))


@pytest.fixture(scope="session")
def ssh_server(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Iterator[SshServer]:
    """A real SSH server with a key of its own; it serves whoever runs the tests."""
    with _running_sshd(tmp_path_factory.mktemp("sshd"), unavailable) as server:
        yield server


@pytest.fixture
def other_ssh_server(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[Callable[..., SshServer]]:
    """Start an SSH server with lines of configuration of its own, before the usual ones."""
    with ExitStack() as stack:

        def start(*lines: str) -> SshServer:
            folder = tmp_path / f"sshd-{len(lines)}"
            folder.mkdir()
            return stack.enter_context(_running_sshd(folder, unavailable, *lines))

        yield start


@contextmanager
def _running_sshd(
    folder: Path, unavailable: Callable[[str], NoReturn], *lines: str
) -> Iterator[SshServer]:
    program = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if program is None:
        unavailable("sshd is not installed: apt-get install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # or it does not start
    server = _ssh_files(folder)
    config = folder / "sshd_config"
    config.write_text("".join(f"{line}\n" for line in lines) + config.read_text())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        _wait_for_port(server.port, process, folder / "log")
        yield server
    finally:
        process.terminate()
        process.wait()


def _ssh_files(folder: Path) -> SshServer:
    """Write the keys and the configuration of both sides."""
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = getpass.getuser()
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\nStrictModes no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxStartups 100\n"
    )
    (folder / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
        f"  IdentityFile {folder / 'user'}\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
    )
    return SshServer(
        folder=folder,
        port=port,
        user=user,
        key=folder / "user",
        known_hosts=folder / "known_hosts",
        config=folder / "config",
        host_key=folder / "host.pub",
    )


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    pytest.fail(f"sshd did not start: {log.read_text()}")
