"""Ending with one's parent, and one writer a directory. Linux; no torch here."""

import ctypes
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sap_vision_assets.errors import InputError

STOPPED_STATUS = 75
"""Exit status of a rank that saved a checkpoint because it was told to end (EX_TEMPFAIL: run it again)."""
LOST_PEER_STATUS = 76
"""Exit status of a rank that only ended because another one did."""
LOCK_FILE = ".lock"
_PR_SET_PDEATHSIG = 1


def end_with_parent(what: signal.Signals) -> None:
    """Has the kernel send this process `what` when its parent dies, even by SIGKILL: no orphan stays."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, what.value) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died just before
        os.kill(os.getpid(), what)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Holds `out` for this process. Raises InputError when another one trains into it.

    The kernel frees it when the process ends, however it ends. After a success the file goes too.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / LOCK_FILE
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{out}: another training is writing here; wait for it or end it") from None
        yield
        file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
