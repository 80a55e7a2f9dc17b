"""Ending with one's parent, and one writer a directory."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.training.supervision import LOCK_FILE, PARENT_ENV, sole_writer

PROGRAM = (
    "import os, signal\n"
    "from sap_vision_assets.training.supervision import PARENT_ENV, end_with_parent\n"
    "end_with_parent(signal.SIGTERM)\n"
    "print(os.environ[PARENT_ENV] == str(os.getpid()))\n"
)


@pytest.mark.parametrize("parent", ["gone", "this", None])
def test_a_parent_that_was_killed_before_the_child_could_ask_for_its_signal(parent: str | None) -> None:
    """A rank imports torch for seconds before it can ask; whoever started it may be gone by then."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    numbers = {"gone": {PARENT_ENV: str(ended.pid)}, "this": {PARENT_ENV: str(os.getpid())}, None: {}}
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **numbers[parent]},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if parent == "gone":
        assert (child.returncode, child.stdout) == (128 + signal.SIGTERM, "")
    else:
        assert (child.returncode, child.stdout) == (0, "True\n")


def test_two_trainings_never_write_one_directory(tmp_path: Path) -> None:
    with (
        sole_writer(tmp_path),
        pytest.raises(InputError, match="another training is writing here"),
        sole_writer(tmp_path, wait_s=0.3),
    ):
        pass
    with sole_writer(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_lock_that_its_last_holder_just_removes_is_none(
    is_removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if is_removed and len(calls) == 1:  # after this writer has opened it
            (tmp_path / LOCK_FILE).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with sole_writer(tmp_path, wait_s=60):
        assert (tmp_path / LOCK_FILE).exists()
        with pytest.raises(InputError), sole_writer(tmp_path):
            pass
    assert len(calls) == (3 if is_removed else 2)


@pytest.mark.parametrize("fails", [False, True])
def test_the_next_writer_waits_for_the_one_before(fails: bool, tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()
    order = []

    def write() -> None:
        # After a failure the file stays; else it goes while the next one waits for it.
        with suppress(ZeroDivisionError), sole_writer(tmp_path):
            entered.set()
            leave.wait()
            order.append("first")
            1 / int(not fails)

    first = threading.Thread(target=write)
    first.start()
    entered.wait()
    threading.Timer(0.5, leave.set).start()
    with sole_writer(tmp_path, wait_s=60):
        order.append("second")
        assert (tmp_path / LOCK_FILE).exists()
        with pytest.raises(InputError), sole_writer(tmp_path):
            pass
    first.join()
    assert order == ["first", "second"]


def test_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(InputError, match=r"keeps no locks \(No locks available\), .* mount it with locks"),
        sole_writer(tmp_path),
    ):
        pass
