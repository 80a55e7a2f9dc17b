"""What a checkpoint holds, and how it is read back without ever running a pickle."""

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import LayoutLMv3Config

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training import sharded
from sap_vision_assets.training.distributed import is_sharded, placed_like
from sap_vision_assets.vocabulary import Vocabulary

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
OPTIMIZER_FILE = "optimizer.pt"
OPTIMIZER_DIRECTORY = "optimizer"
"""Instead of the file, where ranks hold shards: each writes its own (torch.distributed.checkpoint)."""
SCHEDULER_FILE = "scheduler.pt"
VOCABULARY_FILE = "vocabulary.json"
CLASS_KINDS = ("doc_type", "po_subtype", "field")


def write_model(
    directory: Path,
    weights: Mapping[str, Tensor],
    *,
    config: LayoutLMv3Config,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
) -> None:
    """model.safetensors, config.json, the tokenizer's files, and the classes' names in vocabulary.json."""
    # Not save_pretrained: it draws a progress bar into the log at each checkpoint.
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    config.save_pretrained(directory)
    tokenizer.save(directory)
    names = {kind: list(getattr(vocabulary, f"{kind}_names")) for kind in CLASS_KINDS}
    (directory / VOCABULARY_FILE).write_text(json.dumps({**names, "digest": vocabulary.digest}, indent=1))


def read_class_names(directory: Path) -> dict[str, list[str]]:
    """Names of doc_type, po_subtype and field classes that the checkpoint's heads know, by their ids."""
    file = directory / VOCABULARY_FILE
    try:
        record = json.loads(file.read_bytes())
        return {kind: [str(name) for name in record[kind]] for kind in CLASS_KINDS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error}); give a checkpoint directory of this package"
        ) from error


def write_scheduler(directory: Path, scheduler: LRScheduler) -> None:
    """scheduler.pt."""
    torch.save(scheduler.state_dict(), directory / SCHEDULER_FILE)


def write_optimizer(directory: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """The optimizer's tensors by their parameter's name, for any number of ranks to go on with: optimizer.pt,
    or optimizer/ when `model` is sharded. Then every rank must call it."""
    tensors = {
        f"{name}.{kind}": value
        for name, parameter in model.named_parameters()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }
    if is_sharded(model):
        sharded.write(directory / OPTIMIZER_DIRECTORY, tensors)
    else:
        torch.save(tensors, directory / OPTIMIZER_FILE)


def load_optimizer(directory: Path, model: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Puts back what was written, however many ranks wrote it and read it now; every rank must call it.

    Raises CheckpointError for a file that cannot be used.
    """
    _apply(directory / SCHEDULER_FILE, scheduler.load_state_dict)
    for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
        group["lr"] = rate
    parameters = dict(model.named_parameters())

    def put(tensors: Mapping[str, Tensor]) -> None:
        for key, value in tensors.items():
            name, _, kind = key.rpartition(".")
            parameter = parameters[name]
            optimizer.state[parameter][kind] = placed_like(value, parameter)

    if (directory / OPTIMIZER_DIRECTORY).is_dir():
        put(sharded.read(directory / OPTIMIZER_DIRECTORY, parameters))
    else:
        _apply(directory / OPTIMIZER_FILE, put)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors. Raises CheckpointError when the file is missing or damaged."""
    file = directory / WEIGHTS_FILE
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error}); use a checkpoint directory of this package"
        ) from error


def is_of_this_package(directory: Path) -> bool:
    """Whether config.json says so; the rest may still be missing or damaged."""
    try:
        record = json.loads((directory / CONFIG_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("model_type") == EncoderConfig.model_type


def read_config(directory: Path) -> EncoderConfig:
    """The encoder's sizes. Raises CheckpointError when config.json is missing or is another model's."""
    file = directory / CONFIG_FILE
    try:
        record = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); give another checkpoint") from error
    if record.get("model_type") != EncoderConfig.model_type:
        raise CheckpointError(
            f"{file}: is not of a checkpoint of this package (model_type {record.get('model_type')!r}); "
            "LayoutLMv3 as published goes into initial_weights"
        )
    return EncoderConfig.from_dict(record)


def load_weights(directory: Path, model: MultiTaskLayoutLMv3) -> None:
    """Puts the weights of a checkpoint of the very same sizes back into `model`."""
    weights = read_weights(directory)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{directory / WEIGHTS_FILE}: does not fit the model: {error}") from error


def _apply(file: Path, use: Callable[[Any], object]) -> None:
    try:
        use(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file}: holds more than tensors and numbers, so it was not loaded and nothing in it ran; "
            f"it is not of this package: remove {file.parent}"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: cannot be used ({error}); remove {file.parent} to go on from an earlier checkpoint"
        ) from error
