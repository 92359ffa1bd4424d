"""One deployment at a time, and no lock outlives the one who holds it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from edgedistill.deployment import lock as module
from edgedistill.deployment.connection import connect
from edgedistill.deployment.lock import BUSY, Lease, board_lock
from edgedistill.errors import LostConnectionError, MachineError

pytestmark = pytest.mark.slow

KILL_SESSION = 'kill -9 $(cut -d " " -f 4 /proc/$PPID/stat); sleep 5'  # our parent's is sshd's


def _connected(board):
    return connect(board.host, board.access)


async def _is_free(board) -> bool:
    try:
        async with (
            _connected(board) as connection,
            board_lock(connection, str(board.root), Lease()),
        ):
            return True
    except MachineError as error:
        if not str(error).startswith(BUSY):
            raise
        return False


def test_the_second_waits_a_little_and_is_refused_by_the_holders_name(board):
    """Afterwards the board is free at once; nothing but the lock's file is left."""

    async def work():
        async with (
            _connected(board) as connection,
            board_lock(connection, str(board.root), Lease()),
        ):
            with pytest.raises(MachineError, match=r"is under way \(\S+@\S+, process \d+ there\)"):
                async with _connected(board) as other, board_lock(other, str(board.root), Lease()):
                    pass
        started = time.monotonic()
        assert await _is_free(board)
        return time.monotonic() - started

    assert asyncio.run(work()) < 3
    assert [path.name for path in board.root.iterdir()] == ["deploying"]


def test_lock_ends_with_a_killed_session(board):
    """As when the workstation dies: the server's process is gone, and so is the lock."""

    async def work():
        with suppress(LostConnectionError):
            async with (
                _connected(board) as connection,
                board_lock(connection, str(board.root), Lease()),
            ):
                await connection.run(["sh", "-c", KILL_SESSION])
        return await _is_free(board)

    assert asyncio.run(work())


def test_heartbeat_keeps_the_lock_and_silence_releases_it(board, monkeypatch):
    """A line that is dead without a word does not keep the board."""
    monkeypatch.setattr(module, "_SILENCE_S", 1)

    async def held(beat_s):
        monkeypatch.setattr(module, "_BEAT_S", beat_s)
        async with (
            _connected(board) as connection,
            board_lock(connection, str(board.root), Lease()),
        ):
            await asyncio.sleep(1.5)
            return not await _is_free(board)

    assert asyncio.run(held(0.2))
    assert not asyncio.run(held(60))


def test_holder_that_slept_loses_the_lock_to_who_came_after(board, monkeypatch):
    """It learns so at its next step; with its lease it may come back only if nobody else came."""
    monkeypatch.setattr(module, "_SILENCE_S", 1)
    root, lease = str(board.root), Lease()

    async def sleep_while(other):
        async with _connected(board) as connection, board_lock(connection, root, lease) as holder:
            await holder.check()
            other()
            with pytest.raises(LostConnectionError, match="this side was silent"):
                await holder.check()

    async def come_back():
        async with _connected(board) as connection, board_lock(connection, root, lease) as holder:
            await holder.check()

    def deploy_elsewhere():
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(asyncio.run, _is_free(board)).result()

    asyncio.run(sleep_while(lambda: time.sleep(3)))
    asyncio.run(come_back())
    asyncio.run(sleep_while(deploy_elsewhere))
    with pytest.raises(MachineError, match=r"\S+@\S+, process \d+ there took over .* was silent"):
        asyncio.run(come_back())


def test_a_board_without_flock_is_deployed_to(board, monkeypatch):
    """There the device program's own lock is the only one."""
    monkeypatch.setattr(module, "_HOLD", f"command() {{ false; }}; {module._HOLD}")

    async def work():
        async with (
            _connected(board) as connection,
            board_lock(connection, str(board.root), Lease()),
        ):
            return await _is_free(board)

    assert asyncio.run(work())


def test_a_root_that_cannot_be_made_is_explained(board):
    """With the board's own words."""
    board.root.write_text("in the way")

    with pytest.raises(MachineError, match=r"cannot be written on .*: .*(exists|directory)"):
        asyncio.run(_is_free(board))
