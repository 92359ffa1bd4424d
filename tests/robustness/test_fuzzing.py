"""A short campaign finds nothing; and it would: every kind of finding is planted once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzzing import campaign, commands, worker
from fuzzing.corpus import Corpus
from fuzzing.subject import Subject
from fuzzing.subjects import SUBJECTS
from fuzzing.watch import Trespass, Watch

from edgedistill.errors import DataError
from edgedistill.io.files import read_json

pytestmark = pytest.mark.slow

PLANTED = "planted"
SHORT = 25  # inputs of a subject


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """One sandbox: an audit hook cannot be taken away again."""
    found = Watch(tmp_path_factory.mktemp("sandbox"))
    before = tempfile.tempdir
    tempfile.tempdir = str(found.scratch)
    yield found
    tempfile.tempdir = before


def _subject(reads, *, makes=lambda random, _: random.randbytes(8)):
    return Subject(name=PLANTED, inputs=10, makes=makes, reads=reads, sound=lambda _: b"")


@pytest.mark.parametrize("name", [n for n, subject in SUBJECTS.items() if not subject.native])
def test_a_short_run_finds_nothing(name, material, watch):
    """Of every kind of input some dozens, read here."""
    subject, corpus = SUBJECTS[name], Corpus(material)

    outcomes = [worker.judge(subject, corpus, watch, "ci", index) for index in range(SHORT)]

    assert [o for o in outcomes if o != worker.READ and not o.startswith("refused ")] == []


@pytest.mark.parametrize("name", SUBJECTS)
def test_sound_inputs_are_read(name, material, tmp_path):
    """Or a campaign would find nothing because nothing gets past the first check."""
    subject, corpus = SUBJECTS[name], Corpus(material)

    subject.reads(subject.sound(corpus), tmp_path, corpus)


def test_models_are_read_in_a_process_of_their_own(material, tmp_path):
    """ONNX Runtime may die of what it reads: that is counted, and does not stop a campaign."""
    names = [name for name, subject in SUBJECTS.items() if subject.native]

    found = campaign.run(material, tmp_path, seed="ci", scale=SHORT / 5_000, names=names)

    for tally in found.values():
        assert tally.inputs == tally.read + sum(tally.refused.values()) + tally.crashed + tally.hung
        assert [finding for finding in tally.findings if not campaign.died(finding)] == []


def test_the_command_says_what_is_wrong(material, tmp_path):
    """The exit code of a real process fits the error, and there is no traceback."""
    found = commands.run_commands(material, tmp_path, "ci", 5)

    assert found.asked == sum(found.codes.values()) == 5
    assert found.findings == []


def test_the_script_counts_and_makes_an_input_again(material, tmp_path):
    """As a person starts it: a table, a JSON, and an input that lies there to be looked at."""
    (tmp_path / "corpus").symlink_to(material)
    name, out = "session settings", tmp_path / "fuzz.json"
    script = [sys.executable, str(Path(__file__).parents[2] / "benchmarks" / "fuzz.py")]
    asked = [*script, "--work", str(tmp_path), "--subject", name, "--commands", "0"]

    done = subprocess.run(
        [*asked, "--scale", "0.01", "--out", str(out)], capture_output=True, text=True
    )
    again = subprocess.run([*asked, "--replay", name, "3"], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    found = read_json(out)["subjects"][name]
    assert found["inputs"] == 60 == found["read"] + sum(found["refused"].values())
    assert "60 inputs, and 0 commands" in done.stdout
    sound = worker.made(SUBJECTS[name], Corpus(material), "1", 3)
    assert (tmp_path / "replay" / "input").read_bytes() == sound
    assert "Traceback" in again.stderr or again.returncode == 0


def _let_out(data, folder, corpus):
    int("no number")


def _write_outside(data, folder, corpus):
    (folder / ".." / "outside" / "evil").write_bytes(data)


def _follow_link(data, folder, corpus):
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "link" / "evil").write_bytes(data)


def _remove_outside(data, folder, corpus):
    shutil.rmtree(folder.parent / "outside" / "folder")


def _move_outside(data, folder, corpus):
    (folder / "f").write_bytes(data)
    (folder / "f").rename(folder.parent / "outside" / "f")


def _write_behind_python(data, folder, corpus):
    os.posix_spawn("/usr/bin/touch", ["touch", str(folder.parent / "outside" / "evil")], {})
    time.sleep(0.5)


def _start(data, folder, corpus):
    subprocess.run(["true"])


def _call_out(data, folder, corpus):
    with socket.socket() as one:
        one.connect(("127.0.0.1", 9))


def _unpickle(data, folder, corpus):
    np.save(folder / "f.npy", np.array([Path("x")], dtype=object))
    np.load(folder / "f.npy", allow_pickle=True)


def _leave_rubbish(data, folder, corpus):
    tempfile.mkstemp()


def _run_out_of_memory(data, folder, corpus):
    try:
        np.ones(1 << 50)
    except MemoryError as error:
        raise DataError("It is too large.") from error


def _say_nothing(data, folder, corpus):
    raise DataError


@pytest.mark.parametrize(
    ("reads", "outcome"),
    [
        (_let_out, "escaped\tValueError test_fuzzing.py"),
        (_write_outside, "trespass\topen"),
        (_follow_link, "trespass\topen"),
        (_remove_outside, "trespass\tos.rmdir"),
        (_move_outside, "trespass\tos.rename"),
        (_write_behind_python, "trespass\tfiles outside of the folder changed"),
        (_start, "trespass\tstarted true"),
        (_call_out, "trespass\tsocket.connect"),
        (_unpickle, "trespass\tpickle.find_class"),
        (_leave_rubbish, "trespass\tleft temporary files behind"),
        (_run_out_of_memory, "memory\tDataError"),
        (_say_nothing, "silent\tDataError"),
    ],
)
def test_planted_mistakes_are_found(reads, outcome, tmp_path, monkeypatch):
    """A parser that does what none of ours may do is caught, each in its own way."""
    watch = Watch(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(watch.scratch))

    found = worker.judge(_subject(reads), None, watch, "1", 0)

    assert found.startswith(outcome)


def test_what_may_be_done_is_no_finding(watch):
    """Writing inside, temporary files that go again, our own errors."""

    def reads(data, folder, _):
        (folder / "deep").mkdir()
        (folder / "deep" / "f").write_bytes(data)
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "f").write_bytes(data)
        raise DataError("It cannot be used.")

    assert worker.judge(_subject(reads), None, watch, "1", 0) == "refused DataError"


def test_trespass_stops_the_call(watch):
    """It is not only noted: what a parser would overwrite is still there."""
    kept = watch.inside.parent / "outside" / "kept.txt"

    with watch, pytest.raises(Trespass):
        kept.write_text("gone")

    assert kept.read_text() == "kept"


@pytest.fixture
def plant(monkeypatch, tmp_path):
    """Have workers find a subject that only this test knows, in a module of its own."""

    def put(body):
        (tmp_path / "sitecustomize.py").write_text(PLANT.format(body=body))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        subject = _subject(lambda *_: None)
        monkeypatch.setitem(SUBJECTS, PLANTED, subject)
        return subject

    return put


PLANT = """
import sys
if sys.argv[0] == "-m":
    import os, time
    from fuzzing import subjects
    from fuzzing.subject import Subject

    def reads(data, folder, corpus):
{body}

    subjects.SUBJECTS["planted"] = Subject(
        name="planted", inputs=10, makes=lambda random, _: bytes([random.randrange(256)]),
        reads=reads, sound=lambda _: b"",
    )
"""


def _piece(subject, stop=10):
    return campaign.Piece(subject, "1", 0, stop)


def _values(stop=10):
    return [Random(f"1/{PLANTED}/{index}").randrange(256) for index in range(stop)]


def test_a_crash_is_counted_and_the_rest_is_read(plant, material, tmp_path):
    """The worker dies of some inputs; each of the others is read all the same."""
    subject = plant("        if data and data[0] % 3 == 0: os.abort()")
    log = tmp_path / "log"

    campaign.read_all(_piece(subject), material, log)
    found = campaign.tally(log)

    deaths = sum(value % 3 == 0 for value in _values())
    assert 0 < deaths < 10
    assert (found.inputs, found.crashed, found.read) == (10, deaths, 10 - deaths)
    assert all(f"signal {int(signal.SIGABRT)}" in finding for finding in found.findings)


def test_a_hang_is_ended_and_counted(plant, material, tmp_path):
    """An input that is read for ever costs its limit and no more."""
    first = _values(1)[0]
    subject = plant(f"        if data and data[0] == {first}: time.sleep(600)")
    log = tmp_path / "log"

    campaign.read_all(_piece(subject, 2), material, log, limit_s=3.0)

    assert campaign.tally(log).hung == 1
    assert campaign.tally(log).inputs == 2


def test_memory_is_bounded(plant, material, tmp_path):
    """What asks for more than its share does not get it."""
    subject = plant("        if data: bytes(1 << 30)")
    log = tmp_path / "log"

    campaign.read_all(_piece(subject, 1), material, log)

    assert "memory\tMemoryError" in campaign.tally(log).findings[0]


def test_a_worker_that_fails_by_itself_stops_the_campaign(plant, material, tmp_path):
    """A mistake in the harness is not counted as one of the parser."""
    subject = plant("        if not data: raise ValueError('sound inputs are not read')")

    with pytest.raises(RuntimeError, match="sound inputs are not read"):
        campaign.read_all(_piece(subject), material, tmp_path / "log")


def test_what_is_done_is_not_done_again(plant, material, tmp_path):
    """A second run on the same folder takes the counts of the first."""
    subject = plant("        pass")
    work = tmp_path / "work"
    first = campaign.run(material, work, seed="1", names=[PLANTED])
    plant("        os.abort()")

    again = campaign.run(material, work, seed="1", names=[PLANTED])

    assert first == again
    assert again[PLANTED].read == subject.inputs
    assert again[PLANTED].refused == {}


def test_two_campaigns_share_a_folder(plant, material, tmp_path):
    """Each input is read once, whoever reads it; both know all counts."""
    subject = plant("        pass")
    work = tmp_path / "work"

    found = campaign.run(material, work, seed="1", names=[PLANTED, PLANTED], jobs=2)

    assert found[PLANTED].inputs == 2 * subject.inputs
    assert len(list(work.glob("*.json"))) == 1


def test_the_same_number_is_the_same_input(material):
    """In every process: or a finding could not be looked at again."""
    corpus = Corpus(material)
    code = (
        "import sys; from pathlib import Path; from hashlib import sha256\n"
        "from fuzzing.corpus import Corpus; from fuzzing.subjects import SUBJECTS\n"
        "from fuzzing.worker import made\n"
        "corpus = Corpus(Path(sys.argv[1]))\n"
        "for subject in SUBJECTS.values():\n"
        "    print(sha256(made(subject, corpus, '1', 5)).hexdigest())"
    )
    place = str(Path(campaign.__file__).parents[1])

    done = subprocess.run(
        [sys.executable, "-c", code, str(material)],
        env={**os.environ, "PYTHONPATH": place},
        capture_output=True,
        text=True,
        check=True,
    )

    from hashlib import sha256

    here = [sha256(worker.made(s, corpus, "1", 5)).hexdigest() for s in SUBJECTS.values()]
    assert done.stdout.split() == here
