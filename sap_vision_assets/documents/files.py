"""Files of a split's folder: what is there, and reading it without following anything out of the folder.

Names come from annotation files and from whoever filled the folder, so nothing is opened before it is known
to be a regular file inside the folder: a FIFO would hang the reader, a device could be read for ever.
"""

import errno
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from sap_vision_assets.documents.reasons import DocumentError, RejectReason
from sap_vision_assets.errors import InputError

ANNOTATIONS = "annotations"
IMAGES = "images"
SPLITS = ("train", "val", "test")
MAX_ID_CHARS = 200
DOMAIN_RULE = "must be of a-z, 0-9, '-' and '_', start with one of a-z or 0-9, and be at most 63 long"


@dataclass(frozen=True)
class FileReasons:
    """How the ways in which a file cannot be read are called for one kind of file."""

    outside: RejectReason
    not_a_file: RejectReason
    missing: RejectReason
    unreadable: RejectReason
    empty: RejectReason
    too_large: RejectReason


ANNOTATION_REASONS = FileReasons(
    outside=RejectReason.ANNOTATION_OUTSIDE_FOLDER,
    not_a_file=RejectReason.ANNOTATION_NOT_A_FILE,
    missing=RejectReason.ANNOTATION_UNREADABLE,
    unreadable=RejectReason.ANNOTATION_UNREADABLE,
    empty=RejectReason.ANNOTATION_EMPTY,
    too_large=RejectReason.ANNOTATION_TOO_LARGE,
)
IMAGE_REASONS = FileReasons(
    outside=RejectReason.IMAGE_OUTSIDE_FOLDER,
    not_a_file=RejectReason.IMAGE_NOT_A_FILE,
    missing=RejectReason.IMAGE_MISSING,
    unreadable=RejectReason.IMAGE_UNREADABLE,
    empty=RejectReason.IMAGE_EMPTY,
    too_large=RejectReason.IMAGE_FILE_TOO_LARGE,
)


def list_names(folder: Path) -> list[str]:
    """Names in `folder`, sorted; empty when there is no such folder.

    Raises InputError when it cannot be listed: silence would look like an empty partition.
    """
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 (names only, surrogate escapes and all)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); fix the folder or its rights"
        ) from error


def is_domain_name(name: str) -> bool:
    """Whether a folder of this name can be a domain; DOMAIN_RULE says it in words.

    Dagster's keys break on "|" and ",", folders on "/" and upper case.
    """
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name) is not None


def is_annotation_name(name: str) -> bool:
    return name.lower().endswith(".json") and not name.startswith(".")


def document_id(name: str) -> str:
    """The id of the document that an annotation file of this name holds: its stem, in Unicode's form NFC.

    One name can be spelled in two ways (macOS writes NFD), and would be two ids that look alike.
    Raises DocumentError for a name that is no id.
    """
    stem = name[: -len(".json")]
    try:
        stem.encode()
    except UnicodeEncodeError:
        raise DocumentError(
            RejectReason.FILE_NAME, f"{name!r} is not UTF-8; rename the annotation file"
        ) from None
    if len(stem) > MAX_ID_CHARS or any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in stem):
        raise DocumentError(
            RejectReason.FILE_NAME,
            f"{name!r} has control characters or more than {MAX_ID_CHARS} characters; rename the file",
        )
    return unicodedata.normalize("NFC", stem)


def check_image_path(image_path: str) -> None:
    """Raises DocumentError unless `image_path` is the plain name of a file, leading nowhere else."""
    bad = (
        image_path in ("", ".", "..")
        or any(char in image_path for char in "/\\")
        or any(unicodedata.category(char) == "Cc" for char in image_path)
        or len(image_path.encode()) > 255
    )
    if bad:
        raise DocumentError(
            RejectReason.IMAGE_PATH_UNSAFE,
            f"image_path {image_path[:100]!r} is no plain name of a file in {IMAGES}/; give the name alone",
        )


def read_file(tree: Path, file: Path, *, limit: int, reasons: FileReasons) -> bytes:
    """The bytes of `file`, a regular file inside `tree` of 1 to `limit` bytes.

    Symbolic links are followed as long as they stay inside `tree` (which must be resolved). Raises
    DocumentError with one of `reasons`, before anything is opened wherever that can be told before.
    """
    shown = f"{file.parent.name}/{file.name}"
    try:
        size, descriptor = _open_regular(tree, file, shown, reasons)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        reason = reasons.missing if missing else reasons.unreadable
        raise DocumentError(reason, f"{shown}: cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as stream:
        if size == 0:
            raise DocumentError(reasons.empty, f"{shown}: has 0 bytes")
        # One byte more than allowed: a file can grow while it is read.
        try:
            content = stream.read(limit + 1) if size <= limit else b""
        except OSError as error:
            raise DocumentError(reasons.unreadable, f"{shown}: cannot be read ({error.strerror})") from error
    if size > limit or len(content) > limit:
        raise DocumentError(
            reasons.too_large, f"{shown}: has {max(size, len(content))} bytes, more than the limit of {limit}"
        )
    return content


def _open_regular(tree: Path, file: Path, shown: str, reasons: FileReasons) -> tuple[int, int]:
    real = Path(os.path.realpath(file, strict=True))
    if not real.is_relative_to(tree):
        raise DocumentError(
            reasons.outside, f"{shown}: is a link to {real}, outside of {tree}; put a copy there"
        )
    if not stat.S_ISREG(real.lstat().st_mode):
        raise DocumentError(reasons.not_a_file, f"{shown}: is not a regular file")
    # O_NONBLOCK: should a FIFO have taken the file's place since, opening it does not wait for a writer.
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise DocumentError(reasons.not_a_file, f"{shown}: is not a regular file")
    return status.st_size, descriptor
