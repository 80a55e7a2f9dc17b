"""Which code is at work."""

import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

from sap_vision_assets.errors import InputError


@cache
def code_version(*stations: str) -> str:
    """Digest of the source and data files of the named station folders: an edit there is a new version."""
    digest = hashlib.sha256()
    for station in sorted(stations):
        folder = Path(str(resources.files("sap_vision_assets"))) / station
        if not folder.is_dir():
            raise InputError(f"code_version: the package has no station {station!r}")
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{station}/{file.relative_to(folder).as_posix()}\0".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
