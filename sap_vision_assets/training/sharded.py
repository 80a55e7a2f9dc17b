"""Tensors of several ranks on disk and back (torch.distributed.checkpoint), and no pickle gets to run."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sap_vision_assets.errors import CheckpointError, TrainingError

METADATA_FILE = ".metadata"
_METADATA_TYPES = {
    "torch.distributed.checkpoint.metadata": {
        *("Metadata", "StorageMeta", "MetadataIndex", "TensorStorageMetadata", "TensorProperties"),
        *("ChunkStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", "float32"},
    "pathlib": {"PosixPath"},
}
"""What a listing of float32 tensors is made of: torch reads it with plain pickle, which runs anything."""


def write(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Every rank calls it, with its shards (DTensors), and with whole tensors, which one rank writes.

    Raises TrainingError on every rank when one cannot write.
    """
    try:
        save(dict(tensors), storage_writer=FileSystemWriter(directory))
    except CheckpointException as error:  # a BaseException: it would end the rank without a word of the cause
        rank, (cause, _) = next(iter(error.failures.items()))
        raise TrainingError(f"{directory}: rank {rank} could not write it ({cause!r})") from error


def read(directory: Path, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `write` wrote, sharded as `parameters` are; a key is its parameter's name, a dot, and a kind.

    Every rank must call it. Raises CheckpointError when it does not fit or cannot be read.
    """
    reader = _Reader(directory)
    found: dict[str, Any] = {}
    for key, entry in reader.read_metadata().state_dict_metadata.items():
        parameter = parameters.get(key.rpartition(".")[0])
        if parameter is None or not isinstance(entry, TensorStorageMetadata):
            raise CheckpointError(f"{directory}: {key} belongs to no parameter of the model")
        found[key] = torch.empty_like(parameter) if entry.size == parameter.shape else torch.empty(entry.size)
    try:
        with warnings.catch_warnings():
            # One process reads as well as several do, and is told so each time.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(found, storage_reader=reader)
    except (CheckpointException, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{directory}: cannot be read ({error}); "
            f"remove {directory.parent} to go on from an earlier checkpoint"
        ) from error
    return found


class _Reader(FileSystemReader):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._file = directory / METADATA_FILE

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        try:
            with self._file.open("rb") as stream:
                metadata = _MetadataUnpickler(stream).load()
        except (OSError, EOFError, ValueError, AttributeError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{self._file}: was not read, and nothing in it ran ({error}); "
                f"remove {self._file.parent.parent}"
            ) from error
        if not isinstance(metadata, Metadata):
            raise CheckpointError(
                f"{self._file}: is no listing of tensors; remove {self._file.parent.parent}"
            )
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _METADATA_TYPES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a listing of tensors")
        return super().find_class(module, name)
