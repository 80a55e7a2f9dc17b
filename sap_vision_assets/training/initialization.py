"""The model that a training starts with: new, on LayoutLMv3 as published, or on from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3, start_local
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training import checkpoint, folders
from sap_vision_assets.training.config import ArchitectureConfig, TrainingJob
from sap_vision_assets.vocabulary import Vocabulary

PAGE_SIZE = 224
PUBLISHED_FILES = ["config.json", "model.safetensors", "pytorch_model.bin"]
_HEADS = ("doc_type_head.", "po_subtype_head.", "token_head.")


def make_model(job: TrainingJob, *, tokenizer: Tokenizer, vocabulary: Vocabulary) -> MultiTaskLayoutLMv3:
    """The model at step 0, float32, on the CPU; what is new in it follows from the config's seed.

    Raises CheckpointError when the initial checkpoint does not fit, with the difference, and InputError when
    the published weights cannot be had.
    """
    torch.manual_seed(job.config.seed)
    if job.initial_checkpoint is not None:
        return _from_checkpoint(job.initial_checkpoint, job.config.architecture, tokenizer, vocabulary)
    assert job.config.architecture is not None  # TrainingJob has checked it
    config = encoder_config(job.config.architecture, tokenizer, vocabulary)
    if job.config.initial_weights is not None:
        return _from_published(job.config.initial_weights, config)
    model = MultiTaskLayoutLMv3(config)
    start_local(model.layoutlmv3.encoder)
    return model


def encoder_config(
    architecture: ArchitectureConfig, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> EncoderConfig:
    """The encoder's config of these sizes for this tokenizer and vocabulary."""
    return EncoderConfig(
        vocab_size=tokenizer.vocab_size,
        pad_token_id=tokenizer.pad_id,
        bos_token_id=tokenizer.cls_id,
        eos_token_id=tokenizer.sep_id,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        intermediate_size=architecture.intermediate_size,
        coordinate_size=architecture.coordinate_size,
        shape_size=architecture.shape_size,
        patch_size=architecture.patch_size,
        input_size=PAGE_SIZE,
        hidden_dropout_prob=architecture.dropout,
        attention_probs_dropout_prob=architecture.dropout,
        # Positions are counted from pad_token_id + 1.
        max_position_embeddings=architecture.max_tokens + tokenizer.pad_id + 1,
        num_doc_types=len(vocabulary.doc_types),
        num_po_subtypes=len(vocabulary.po_subtypes),
        num_token_labels=len(vocabulary.labels),
        vocabulary_digest=vocabulary.digest,
        tokenizer_digest=tokenizer.digest,
    )


def _from_checkpoint(
    directory: Path, architecture: ArchitectureConfig | None, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> MultiTaskLayoutLMv3:
    folders.verify(directory)
    config = checkpoint.read_config(directory)
    if config.tokenizer_digest != tokenizer.digest:
        raise CheckpointError(
            f"{directory}: knows the tokens of tokenizer {config.tokenizer_digest}, the shards have those of "
            f"{tokenizer.digest}; build the shards with the checkpoint's tokenizer"
        )
    if architecture is not None:
        _require_same_sizes(directory, config, encoder_config(architecture, tokenizer, vocabulary))
    if config.vocabulary_digest != vocabulary.digest:
        _require_extension(directory, config.vocabulary_digest, vocabulary)
    config.num_doc_types = len(vocabulary.doc_types)
    config.num_po_subtypes = len(vocabulary.po_subtypes)
    config.num_token_labels = len(vocabulary.labels)
    config.vocabulary_digest = vocabulary.digest
    model = MultiTaskLayoutLMv3(config)
    _load_growing(model, checkpoint.read_weights(directory), directory)
    return model


def _require_same_sizes(directory: Path, found: EncoderConfig, wanted: EncoderConfig) -> None:
    names = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size"),
        *("max_position_embeddings", "coordinate_size", "shape_size", "vocab_size"),
    )
    differences = [
        f"{name} {getattr(found, name)} there, {getattr(wanted, name)} in the config"
        for name in names
        if getattr(found, name) != getattr(wanted, name)
    ]
    if differences:
        raise CheckpointError(
            f"{directory}: has another architecture: {'; '.join(differences)}; "
            "set architecture=None to take the checkpoint's"
        )


def _require_extension(directory: Path, digest: str, vocabulary: Vocabulary) -> None:
    """Old ids must mean the same: every list of the checkpoint's names must start the vocabulary's."""
    for kind, old in checkpoint.read_class_names(directory).items():
        new = list(getattr(vocabulary, f"{kind}_names"))
        if new[: len(old)] != old:
            at = next(i for i, name in enumerate(old) if new[i : i + 1] != [name])
            now = repr(new[at]) if at < len(new) else "nothing"
            raise CheckpointError(
                f"{directory}: was trained under vocabulary {digest}, in use is {vocabulary.digest}, and "
                f"{kind} {at} is {old[at]!r} there and {now} here; use that vocabulary or one that extends it"
            )


def _load_growing(model: MultiTaskLayoutLMv3, weights: dict[str, Tensor], directory: Path) -> None:
    """Loads `weights`; heads with more classes than there keep the model's fresh rows behind the old ones."""
    own = model.state_dict()
    if own.keys() != weights.keys():
        raise CheckpointError(
            f"{directory}: tensors {sorted(own.keys() ^ weights.keys())[:5]} are on one side only; "
            "give a checkpoint of this release"
        )
    for name, tensor in weights.items():
        target = own[name]
        grows = (
            name.startswith(_HEADS) and target.shape[1:] == tensor.shape[1:] and len(target) >= len(tensor)
        )
        if target.shape != tensor.shape and not grows:
            raise CheckpointError(
                f"{directory}: {name} is {list(tensor.shape)} there and {list(target.shape)} here"
            )
        target[: len(tensor)] = tensor


def _from_published(name: str, config: EncoderConfig) -> MultiTaskLayoutLMv3:
    """The trunk as published, the heads new. Nothing but tensors is ever unpickled."""
    directory = Path(name) if Path(name).is_dir() else _from_hub(name)
    try:
        loaded: Any = MultiTaskLayoutLMv3.from_pretrained(
            directory, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"initial_weights {name!r}: cannot be loaded ({error}); give a directory that holds LayoutLMv3's "
            "config.json and weights, and an architecture of their sizes"
        ) from error
    model, info = loaded
    missing = [key for key in info["missing_keys"] if not key.startswith(_HEADS)]
    if missing:
        raise InputError(
            f"initial_weights {name!r}: is not LayoutLMv3: {len(missing)} tensors are missing, "
            f"such as {missing[:3]}"
        )
    assert isinstance(model, MultiTaskLayoutLMv3)
    return model


def _from_hub(name: str) -> Path:
    """The cached snapshot of hub repository `name`, downloaded where it is not cached and the hub answers."""
    reason: Exception | None = None
    # The cache first: a training started again begins with the same weights, whatever the hub says by then.
    for local_only in (True, False):
        try:
            return Path(snapshot_download(name, allow_patterns=PUBLISHED_FILES, local_files_only=local_only))
        except (OSError, HfHubHTTPError, HFValidationError) as error:
            reason = error
    raise InputError(
        f"initial_weights {name!r}: is no directory here, is not in the Hugging Face cache, and the hub did "
        f"not give it ({str(reason).splitlines()[0]}); on a connected machine run "
        f"`hf download {name} {' '.join(PUBLISHED_FILES)} --local-dir DIR`, copy DIR here, and give its path"
    )
