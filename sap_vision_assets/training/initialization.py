"""The model that a training starts with: new, on weights of others, or on from a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sap_vision_assets.encoder import EncoderConfig, MultiTaskLayoutLMv3, start_local
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards.minilm import MINILM
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training import checkpoint, folders
from sap_vision_assets.training.config import NO_WEIGHTS, ArchitectureConfig, TrainingJob
from sap_vision_assets.training.published import load_layoutlmv3, put_minilm, require_tokenizer
from sap_vision_assets.vocabulary import Vocabulary
from sap_vision_assets.vocabulary.vocabulary import labels_of

PAGE_SIZE = 224
_KINDS_BY_HEAD = {
    **{"doc_type_head.out_proj": "doc_type", "po_subtype_head.out_proj": "po_subtype"},
    "token_head": "token label",
}
_NAMES_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Start:
    """A model at step 0, and where it comes from."""

    model: MultiTaskLayoutLMv3
    weights: str
    """"none", "minilm", or the directory or hub id."""
    new_classes: dict[str, list[str]] = field(default_factory=dict)
    """By kind, the names whose rows in the heads a checkpoint did not have; no kind without one."""

    def describe(self) -> str:
        """One line for a person."""
        told = "starts from random weights" if self.weights == NO_WEIGHTS else f"starts from {self.weights}"
        grown = [f"{len(names)} {kind} ({', '.join(names)})" for kind, names in self.new_classes.items()]
        return f"{told}; new in its heads: {'; '.join(grown)}" if grown else told


def start_model(job: TrainingJob, *, tokenizer: Tokenizer, vocabulary: Vocabulary) -> Start:
    """The model at step 0, float32, on the CPU; what is new in it follows from the config's seed.

    Raises CheckpointError when a checkpoint does not fit, with the difference, and InputError when weights of
    others cannot be had or do not fit.
    """
    torch.manual_seed(job.config.seed)
    weights, architecture = job.config.initial_weights, job.config.architecture
    checkpoint_directory = job.initial_checkpoint
    if weights not in (NO_WEIGHTS, MINILM):
        directory = Path(weights)
        if checkpoint.is_of_this_package(directory):
            checkpoint_directory = directory
        elif (directory / folders.BEST).is_dir():
            best = directory / folders.BEST
            raise InputError(f"initial_weights {weights!r}: holds a whole training; give {best}")
    if checkpoint_directory is not None:
        return _from_checkpoint(checkpoint_directory, architecture, tokenizer, vocabulary)
    if architecture is None:
        raise InputError(
            f"initial_weights {weights!r}: no checkpoint of this package, so its sizes must be named; use a "
            "recipe that does not end in _finetune, or set architecture"
        )
    return _new(weights, encoder_config(architecture, tokenizer, vocabulary))


def _new(weights: str, config: EncoderConfig) -> Start:
    if weights not in (NO_WEIGHTS, MINILM):
        return Start(model=load_layoutlmv3(weights, config), weights=weights)
    model = MultiTaskLayoutLMv3(config)
    start_local(model.layoutlmv3.encoder)
    if weights == MINILM:
        put_minilm(model)
    return Start(model=model, weights=weights)


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
        layer_norm_eps=architecture.layer_norm_eps,
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
) -> Start:
    folders.verify(directory)
    config = checkpoint.read_config(directory)
    require_tokenizer(
        config.tokenizer_digest, tokenizer.digest, what=str(directory), setting=str(directory.absolute())
    )
    if architecture is not None:
        _require_same_sizes(directory, config, encoder_config(architecture, tokenizer, vocabulary))
    before, now = _class_names(checkpoint.read_class_names(directory)), _class_names_of(vocabulary)
    if config.vocabulary_digest != vocabulary.digest:
        _require_extension(directory, config.vocabulary_digest, before, vocabulary)
    config.num_doc_types = len(vocabulary.doc_types)
    config.num_po_subtypes = len(vocabulary.po_subtypes)
    config.num_token_labels = len(vocabulary.labels)
    config.vocabulary_digest = vocabulary.digest
    model = MultiTaskLayoutLMv3(config)
    rows = {kind: [now[kind].index(name) for name in names] for kind, names in before.items()}
    _load_growing(model, checkpoint.read_weights(directory), rows, directory)
    new = {kind: [name for name in names if name not in before[kind]] for kind, names in now.items()}
    return Start(
        model=model,
        weights=str(directory),
        new_classes={kind: names for kind, names in new.items() if names},
    )


def _require_same_sizes(directory: Path, found: EncoderConfig, wanted: EncoderConfig) -> None:
    names = (
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size"),
        *("max_position_embeddings", "coordinate_size", "shape_size", "vocab_size", "layer_norm_eps"),
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


def _class_names(names: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Classes of the three heads, by their rows, of a vocabulary with these names."""
    return {
        "doc_type": list(names["doc_type"]),
        "po_subtype": list(names["po_subtype"]),
        "token label": list(labels_of(names["field"])),
    }


def _class_names_of(vocabulary: Vocabulary) -> dict[str, list[str]]:
    return _class_names({kind: getattr(vocabulary, f"{kind}_names") for kind in checkpoint.CLASS_KINDS})


def _require_extension(
    directory: Path, digest: str, before: Mapping[str, Sequence[str]], vocabulary: Vocabulary
) -> None:
    """No class that the checkpoint knows may be gone; their order may be another."""
    now = _class_names_of(vocabulary)
    gone = [f"{kind} {name!r}" for kind, names in before.items() for name in names if name not in now[kind]]
    if gone:
        shown = ", ".join(gone[:_NAMES_SHOWN]) + (", ..." if len(gone) > _NAMES_SHOWN else "")
        raise CheckpointError(
            f"{directory}: was trained under vocabulary {digest}, in use is {vocabulary.digest}, which has "
            f"no {shown} ({len(gone)} removed or renamed); use that vocabulary or one that extends it"
        )


def _load_growing(
    model: MultiTaskLayoutLMv3,
    weights: Mapping[str, Tensor],
    rows: Mapping[str, Sequence[int]],
    directory: Path,
) -> None:
    """Loads `weights`; a head's row r goes to row `rows[kind][r]`, and the model's other rows stay fresh."""
    own = model.state_dict()
    if own.keys() != weights.keys():
        raise CheckpointError(
            f"{directory}: tensors {sorted(own.keys() ^ weights.keys())[:5]} are on one side only; "
            "give a checkpoint of this release"
        )
    for name, tensor in weights.items():
        target = own[name]
        kind = _KINDS_BY_HEAD.get(name.rpartition(".")[0])
        places = None if kind is None else rows[kind]
        num_rows = len(target) if places is None else len(places)
        if target.shape[1:] != tensor.shape[1:] or len(tensor) != num_rows:
            raise CheckpointError(
                f"{directory}: {name} is {list(tensor.shape)} there and {list(target.shape)} here"
            )
        if places is None:
            target.copy_(tensor)
        else:
            target[list(places)] = tensor
