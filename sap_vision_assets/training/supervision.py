"""Ending with one's parent, and one writer a directory. Linux; no torch here."""

import ctypes
import errno
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sap_vision_assets.errors import InputError

STOPPED_STATUS = 75
"""Exit status of a rank that saved a checkpoint because it was told to end (EX_TEMPFAIL: run it again)."""
LOST_PEER_STATUS = 76
"""Exit status of a rank that only ended because another one did."""
LOCK_FILE = ".lock"
PARENT_ENV = "SAP_VISION_PARENT_PID"
"""Number of the process that started this one, as that one wrote it down."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_PR_SET_PDEATHSIG = 1
_LOCK_POLL_S = 0.2

_logger = logging.getLogger(__name__)


def end_with_parent(what: signal.Signals) -> None:
    """Has the kernel send this process `what` when its parent dies, even by SIGKILL: no orphan stays.

    The parent may have died before, while this process still imported torch: PARENT_ENV says which it was.
    """
    parent = int(os.environ.get(PARENT_ENV) or os.getppid())
    if what != signal.SIGKILL:
        signal.signal(what, signal.SIG_DFL)  # where the parent ignored it, this process would too
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, what.value) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(128 + what)
    os.environ[PARENT_ENV] = str(os.getpid())  # for children of this process


@contextmanager
def sole_writer(out: Path, lock_file: str = LOCK_FILE, *, wait_s: float = 0) -> Iterator[None]:
    """Holds `out` for this process. Raises InputError when another one still trains into it after `wait_s`
    (one whose starter was killed saves a checkpoint before it ends), or the file system keeps no locks.

    The kernel frees it when the process ends, however it ends. After a success the file goes too.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / lock_file
    deadline = time.monotonic() + wait_s
    descriptor = _locked(file)
    if descriptor is None and wait_s > 0:
        _logger.warning("%s: another training is writing here; waits %.0f s for its end", out, wait_s)
    while descriptor is None and time.monotonic() < deadline:
        time.sleep(_LOCK_POLL_S)
        descriptor = _locked(file)
    if descriptor is None:
        raise InputError(f"{out}: another training is writing here; wait for it or end it")
    try:
        yield
        file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _locked(file: Path) -> int | None:
    """A descriptor that holds the lock, or None while another process does."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Not a file that its last holder has just removed: the next one to come would lock another.
        if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise InputError(
            f"{file.parent}: its file system keeps no locks ({error.strerror}), so that two trainings could "
            "write here; mount it with locks (Lustre: -o flock; NFS: without nolock)"
        ) from error
    os.close(descriptor)
    return None
