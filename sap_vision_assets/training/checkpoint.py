"""What a checkpoint holds, and how it is read back without ever running a pickle."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.vocabulary import Vocabulary

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
OPTIMIZER_FILE = "optimizer.pt"
SCHEDULER_FILE = "scheduler.pt"
VOCABULARY_FILE = "vocabulary.json"
CLASS_KINDS = ("doc_type", "po_subtype", "field")


def write_model(
    directory: Path, model: MultiTaskLayoutLMv3, *, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> None:
    """model.safetensors, config.json, the tokenizer's files, and the classes' names in vocabulary.json."""
    # Not save_pretrained: it draws a progress bar into the log at each checkpoint.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    model.config.save_pretrained(directory)
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


def write_optimizer(directory: Path, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """optimizer.pt and scheduler.pt."""
    torch.save(optimizer.state_dict(), directory / OPTIMIZER_FILE)
    torch.save(scheduler.state_dict(), directory / SCHEDULER_FILE)


def load_optimizer(directory: Path, optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Puts back what `write_optimizer` wrote. Raises CheckpointError for a file that cannot be used."""
    for name, target in ((OPTIMIZER_FILE, optimizer), (SCHEDULER_FILE, scheduler)):
        _apply(directory / name, target.load_state_dict)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors. Raises CheckpointError when the file is missing or damaged."""
    file = directory / WEIGHTS_FILE
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error}); use a checkpoint directory of this package"
        ) from error


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
