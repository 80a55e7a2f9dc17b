"""One .npy file each: written row by row without knowing how many will come, read without loading."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sap_vision_assets.errors import ArtifactError

REMEDY = "delete the artefact and materialise tokenized_shards again"


class ArrayWriter:
    """Appends rows to a .npy file; `close` completes its header.

    Plain writes, no memory map: a full disk is an error here, and would be a killed process there.
    """

    def __init__(self, file: Path, *, dtype: str, row_shape: tuple[int, ...] = ()) -> None:
        self._file = file
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self.num_rows = 0
        self._stream = file.open("wb")
        self._write_header()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_rows, *self._row_shape)

    def append(self, rows: NDArray[Any]) -> None:
        assert rows.shape[1:] == self._row_shape
        self._stream.write(np.ascontiguousarray(rows, dtype=self._dtype).data)
        self.num_rows += len(rows)

    def close(self) -> None:
        """Completes the header; before that the file says that it has no rows."""
        with self._stream:
            self._stream.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        # NumPy pads the header so that a longer first dimension fits: its length never changes.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._stream, header)


def map_array(file: Path, *, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read-only view of a .npy file. Raises ArtifactError, naming the file, unless it is what is expected."""
    try:
        with file.open("rb") as stream:
            np.lib.format.read_magic(stream)
            found_shape, fortran_order, found_dtype = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: is no readable .npy file ({error}); {REMEDY}") from error
    if (found_shape, found_dtype) != (shape, np.dtype(dtype)) or fortran_order:
        raise ArtifactError(
            f"{file}: holds {found_dtype} {found_shape}, shards.json promises {dtype} {shape}; {REMEDY}"
        )
    expected = offset + found_dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if file.stat().st_size != expected:
        raise ArtifactError(f"{file}: has {file.stat().st_size} bytes, its header {expected}; {REMEDY}")
    if 0 in shape:  # nothing can be mapped
        return np.empty(shape, dtype=dtype)
    return np.memmap(file, mode="r", dtype=found_dtype, shape=shape, offset=offset)
