"""The device program over SSH: its JSON, its errors, its death."""

from __future__ import annotations

import pytest

from edgedistill.deployment.board import Program
from edgedistill.errors import (
    ContractError,
    DataError,
    IntegrityError,
    LostConnectionError,
    MachineError,
    UsageError,
)


@pytest.fixture
def call(board, tmp_path):
    """Call a script of Python that stands in for the device program; `-m` shows its arguments."""

    def run(script: str, *arguments: str, **options):
        path = tmp_path / "program.py"
        path.write_text(script)

        async def work(connection):
            program = Program(connection, board.host.python, str(path))
            return await program.call(*arguments, **options)

        return board.run(work)

    return run


def test_json_comes_back_and_arguments_go_there(call):
    """--json is added; words with spaces stay whole."""
    echo = "import json, sys; print(json.dumps({'arguments': sys.argv[1:]}))"

    assert call(echo, "list", "a b") == {"arguments": ["list", "a b", "--json"]}


@pytest.mark.parametrize(
    "error", [UsageError, DataError, ContractError, MachineError, IntegrityError]
)
def test_an_error_there_is_the_same_error_here(call, error):
    """Of all that stands on stderr the program's own message counts, with the board's name."""
    script = (
        "import sys; sys.stderr.write('[W] a runtime speaks\\nerror: it is so. Do that.\\n'); "
        f"sys.exit({error.exit_code})"
    )

    with pytest.raises(error, match=r"127\.0\.0\.1:\d+: it is so\. Do that\.$"):
        call(script, "validate")


def test_a_verdict_comes_with_an_exit_code_that_is_expected(call):
    """`validate` prints its report with exit code 4 as well."""
    script = 'import sys; print(\'{"verdict": "broken"}\'); sys.exit(4)'

    assert call(script, "validate", also=(4,)) == {"verdict": "broken"}
    with pytest.raises(ContractError):
        call(script, "validate")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("raise RuntimeError('oh')", r"exit code 1: .*RuntimeError: oh\. Run"),
        ("import sys; sys.exit(9)", "exit code 9: it printed nothing"),
        ("print('no json')", "exit code 0: it printed nothing"),
        ("print('[1]')", "exit code 0"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9 ended it.*dmesg"),
    ],
)
def test_crashes_and_missing_json_are_errors(call, script, told):
    """A crash, a death, or no JSON where there should be some."""
    with pytest.raises(MachineError, match=f"(?s)`doctor` ended with .*{told}"):
        call(script, "doctor")


END_CONNECTION = """
import os, time
from pathlib import Path

above = os.getppid()
while not Path(f"/proc/{above}/comm").read_text().startswith("sshd"):  # shells stand between
    above = int(Path(f"/proc/{above}/stat").read_text().rpartition(")")[2].split()[1])
os.kill(above, 9)
time.sleep(3)
"""


def test_lost_connection_is_no_result(call):
    """Whoever is cut off knows nothing of the command's end."""
    with pytest.raises(LostConnectionError):
        call(END_CONNECTION, "doctor")


def test_stderr_lines_are_reported_as_they_come(call):
    """A long build speaks on stderr."""
    told = []
    script = "import sys; sys.stderr.write('layer 1\\nlayer 2\\n'); print('{}')"

    call(script, "build", on_line=told.append)

    assert told == ["layer 1", "layer 2"]
