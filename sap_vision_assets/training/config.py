"""What a training is told: frozen settings, checked when they are made, and the job that names its files."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sap_vision_assets.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Tracker = Literal["none", "tensorboard", "wandb"]
Strategy = Literal["ddp", "fsdp"]
OptimizerName = Literal["adamw", "muon"]
NO_WEIGHTS = "none"
"""The initial_weights of a training from scratch."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """Sizes of the encoder. The defaults are LayoutLMv3-base's."""

    hidden_size: int = 768
    num_layers: int = 12
    num_heads: int = 12
    intermediate_size: int = 3072
    patch_size: int = 16
    """Side of an image patch, in pixels of the 224 x 224 page."""
    dropout: float = 0.1
    """Probability, of hidden states and of attention weights."""
    max_tokens: int = 512
    """Longest window that the position embeddings hold."""
    layer_norm_eps: float = 1e-5
    """Added to a variance before its root. Weights of others want theirs: BERT's have 1e-12."""

    def __post_init__(self) -> None:
        _require_positive(
            self,
            *("hidden_size", "num_layers", "num_heads", "intermediate_size", "patch_size", "max_tokens"),
            "layer_norm_eps",
        )
        if self.hidden_size % self.num_heads:
            raise InputError(
                f"hidden_size={self.hidden_size} must be a multiple of num_heads={self.num_heads}"
            )
        if self.hidden_size % 2:
            raise InputError(f"hidden_size={self.hidden_size} must be even: x and y share it")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} must be in 0..1, without 1")

    @property
    def coordinate_size(self) -> int:
        """Width of a box coordinate's embedding; 4 of these and 2 `shape_size` make a hidden state."""
        return round(self.hidden_size / 6)

    @property
    def shape_size(self) -> int:
        """Width of the embeddings of a box's width and height."""
        return (self.hidden_size - 4 * self.coordinate_size) // 2


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """All that decides what a training does, apart from its files. Raises InputError when fields disagree."""

    architecture: ArchitectureConfig | None
    """None: as in the initial checkpoint."""
    initial_weights: str = NO_WEIGHTS
    """What the weights start from. "none": nothing, they are random. "minilm": MiniLM, a pretrained text
    encoder, for the trunk. A directory: a checkpoint of this package, heads included, or LayoutLMv3 as
    published, for the trunk; the latter also by its hub id where the hub can be reached."""

    max_steps: int
    """Updates of the weights; each reads global_batch_size windows."""
    batch_size: int
    """Windows a process holds at once."""
    gradient_accumulation_steps: int = 1
    learning_rate: float = 5e-5
    """The highest one, reached after the warm-up; from there it falls linearly to 0."""
    warmup_steps: int = 0
    weight_decay: float = 0.01
    """AdamW's; biases, LayerNorms and the position biases have none."""
    optimizer: OptimizerName = "adamw"
    """muon: orthogonal updates for the layers' matrices, AdamW for the rest. From scratch it needed far
    fewer documents (docs/performance.md); published weights were made with AdamW and go on with it."""
    position_bias_rate_factor: float = 1.0
    """Learning rate of the relative position biases, as a multiple of learning_rate. Scores get them divided
    by sqrt(head size), so that from scratch they have far to go."""
    head_rate_factor: float = 1.0
    """Learning rate of the three heads, as a multiple of learning_rate: new ones have farther to go."""
    doc_type_loss_weight: float = 1.0
    """Of a page's document type in the loss that is minimised. A page's one label makes gradients many times
    as large and as noisy as its words', so that from scratch a small weight lets both learn sooner."""
    po_subtype_loss_weight: float = 1.0
    token_loss_weight: float = 1.0
    """Of the words' labels; 0 for documents that have none, so that the fields are not unlearned."""
    word_masking: float = 0.0
    """Share of a window's words that the model gets as unknown, others at each look. Against learning few
    documents by heart; 0 is off."""
    layout_jitter: float = 0.0
    """How far, 0..1, a page's boxes are shrunk and moved, anew at each look. As word_masking; 0 is off."""
    rare_label_exponent: float = 0.0
    """0 to 1: a word weighs in the loss as its label's frequency in the training shards to the power of minus
    this, scaled to a mean of 1, capped at 10. 0 counts words alike; 1 counts labels alike, up to the cap."""
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    """L2 norm of all gradients together, above which they are scaled down."""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes in it, else fp16 on a GPU and fp32 on a CPU."""
    seed: int = 0
    """Weights, order of the windows and dropout all follow from it."""

    log_every_steps: int = 10
    """Steps between points in the tracker, lines of output and reports to Dagster; log.jsonl has them all."""
    eval_every_steps: int = 500
    """Steps between scores on the validation shards; there is always one after the last step."""
    early_stopping_patience: int = 0
    """Scores in a row that are no better than the best one, after which the training ends; 0: max_steps alone
    ends it. The learning rate falls as if it did not end before."""
    save_every_steps: int = 500
    keep_checkpoints: int = 2
    """Newest checkpoint-N directories that stay, besides best/ and final/."""
    eval_batch_size: int = 16
    """Windows a process holds at once while it validates."""

    num_processes: int = 1
    """Of one machine: one a device; on a CPU each gets its share of the cores."""
    num_nodes: int = 1
    """Machines, each with num_processes. With more than one, `sap-vision join` runs on all but the first."""
    rendezvous_endpoint: str | None = None
    """host:port on the first machine, where the others find it. None: its name, and a port that is free."""
    strategy: Strategy = "ddp"
    """fsdp: each process holds its share of weights, gradients and optimizer state (FSDP2, fully_shard)."""
    cpu_offload: bool = False
    """fsdp alone: those shares wait in the host's memory, and the optimizer's step is done there."""
    gradient_checkpointing: bool = False
    """Forget what is inside the layers, and compute it again in the backward: less memory, more time."""
    max_restarts: int = 0
    """How often all processes are started again, from the newest checkpoint, after one has failed."""
    loader_workers: int = 0
    """Processes a rank reads batches with; 0 reads between the steps, which a CPU wants."""
    collective_timeout_s: float = 1800
    """Seconds a rank waits for the others before it gives up, and a machine for the other machines."""
    shutdown_grace_s: float = 60
    """Seconds between SIGTERM, which saves a checkpoint at the next step, and SIGKILL."""

    tracker: Tracker = "tensorboard"
    """Where numbers are shown, besides log.jsonl, which is always written."""
    wandb_project: str = "sap-vision"

    def __post_init__(self) -> None:
        self._require_ranges()
        if not self.doc_type_loss_weight + self.po_subtype_loss_weight + self.token_loss_weight > 0:
            raise InputError("all three loss weights are 0, so nothing would be learned; raise one")
        if self.warmup_steps >= self.max_steps:
            raise InputError(
                f"warmup_steps={self.warmup_steps} must be less than max_steps={self.max_steps}; "
                "lower the first or raise the second"
            )
        for name, choices in (
            *(("precision", Precision), ("tracker", Tracker), ("strategy", Strategy)),
            ("optimizer", OptimizerName),
        ):
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"{name}={getattr(self, name)!r} is unknown; use one of {get_args(choices)}")
        if self.cpu_offload and self.strategy != "fsdp":
            raise InputError(f"cpu_offload=true needs strategy='fsdp', not {self.strategy!r}")
        if not self.initial_weights:
            raise InputError(f"initial_weights is empty; say {NO_WEIGHTS!r} for random weights")
        if self.rendezvous_endpoint is not None and not _is_endpoint(self.rendezvous_endpoint):
            raise InputError(
                f"rendezvous_endpoint={self.rendezvous_endpoint!r} is no host:port, such as node1:29400"
            )

    def _require_ranges(self) -> None:
        _require_positive(
            self,
            *("max_steps", "batch_size", "gradient_accumulation_steps", "eval_batch_size"),
            *("learning_rate", "head_rate_factor", "max_grad_norm"),
            *("log_every_steps", "eval_every_steps", "save_every_steps", "keep_checkpoints"),
            *("num_processes", "num_nodes", "collective_timeout_s", "shutdown_grace_s"),
        )
        for name in (
            *("warmup_steps", "weight_decay", "max_restarts", "loader_workers", "seed"),
            *("position_bias_rate_factor", "early_stopping_patience"),
            *("doc_type_loss_weight", "po_subtype_loss_weight", "token_loss_weight"),
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("word_masking", "layout_jitter"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be in 0..1, without 1; 0 is off")
        if not 0 <= self.rare_label_exponent <= 1:
            raise InputError(f"rare_label_exponent={self.rare_label_exponent} must be in 0..1; 0 is off")
        if not 0 < self.adam_beta2 < 1:
            raise InputError(f"adam_beta2={self.adam_beta2} must be between 0 and 1")

    @property
    def global_batch_size(self) -> int:
        """Windows of one update, over all processes of all machines."""
        return self.batch_size * self.gradient_accumulation_steps * self.num_processes * self.num_nodes

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> "TrainingConfig":
        """The config that `to_json` gave. Raises InputError for fields that do not exist."""
        fields = dict(record)
        try:
            if fields.get("architecture") is not None:
                fields["architecture"] = ArchitectureConfig(**fields["architecture"])
            return TrainingConfig(**fields)
        except TypeError as error:
            raise InputError(f"training config: {error}") from error


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training: what it reads, where it writes, what it does. Holds no secrets: it is written to disk."""

    train_shards: Path
    val_shards: Path
    out: Path
    """Becomes checkpoint-N/, best/, final/, log.jsonl, tensorboard/. Given again, the training goes on."""
    config: TrainingConfig
    vocabulary_extension: Path | None = None
    initial_checkpoint: Path | None = None
    """A checkpoint directory of this package that the training starts from, as if initial_weights named it:
    the promoted general model's, which is an input of a domain's training and no choice of its config."""

    def __post_init__(self) -> None:
        has_weights = self.config.initial_weights != NO_WEIGHTS
        if self.config.architecture is None and self.initial_checkpoint is None and not has_weights:
            raise InputError("architecture=None means as in the initial checkpoint, but none is given")
        if has_weights and self.initial_checkpoint is not None:
            raise InputError(
                f"initial_weights={self.config.initial_weights!r} and an initial checkpoint are both given; "
                f"choose one: a domain's model starts from the promoted general one, with {NO_WEIGHTS!r} here"
            )

    def to_json(self) -> dict[str, Any]:
        paths = {
            field.name: None if getattr(self, field.name) is None else str(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "config"
        }
        return {**paths, "config": self.config.to_json()}

    @staticmethod
    def read(file: Path) -> "TrainingJob":
        """The job of a JSON file as `to_json` gives it. Raises InputError when it cannot be understood."""
        try:
            record = json.loads(file.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: is not a training job: {error}") from error
        return TrainingJob.from_json(file, record)

    @staticmethod
    def from_json(file: Path, record: Mapping[str, Any]) -> "TrainingJob":
        """The job that `to_json` gave, found in `file`. Raises InputError when it cannot be understood."""
        try:
            paths: dict[str, Any] = {
                name: None if value is None else Path(value)
                for name, value in record.items()
                if name != "config"
            }
            return TrainingJob(config=TrainingConfig.from_json(record["config"]), **paths)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: is not a training job: {error}") from error


def _is_endpoint(text: str) -> bool:
    """Whether torchrun can meet there: name:port, address:port, [IPv6 address]:port."""
    match = re.fullmatch(r"(?:[\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})", text)
    return match is not None and 0 < int(match[1]) < 2**16


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise InputError(f"{name}={getattr(config, name)} must be positive")
