"""One training's moving parts, and how they go to disk and come back."""

import hashlib
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sap_vision_assets.encoder import MultiTaskLayoutLMv3
from sap_vision_assets.errors import CheckpointError, InputError
from sap_vision_assets.shards.reader import Shards, open_shards
from sap_vision_assets.shards.tokenizer import Tokenizer
from sap_vision_assets.training import checkpoint, distributed, folders
from sap_vision_assets.training.batches import LengthGroupedSampler
from sap_vision_assets.training.config import TrainingJob
from sap_vision_assets.training.distributed import World
from sap_vision_assets.training.initialization import Start, start_model
from sap_vision_assets.training.label_weights import rare_label_weights
from sap_vision_assets.training.optim import make_optimizer, make_scheduler
from sap_vision_assets.training.precision import Resolved, make_autocast, make_scaler, resolve
from sap_vision_assets.training.tracking import Scalars
from sap_vision_assets.training.validation import ValidationScore
from sap_vision_assets.vocabulary import Vocabulary, load_vocabulary

MAY_CHANGE_ON_RESUME = frozenset(
    # How windows are split over processes does not move which ones a step reads: the product is compared.
    {"batch_size", "gradient_accumulation_steps", "num_processes", "num_nodes", "rendezvous_endpoint"}
    | {"log_every_steps", "save_every_steps", "keep_checkpoints", "tracker", "wandb_project"}
    | {"max_restarts", "loader_workers", "collective_timeout_s", "shutdown_grace_s"}
    | {"strategy", "cpu_offload", "gradient_checkpointing"}
)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one update did, summed over the ranks."""

    losses: tuple[float, float, float]
    """Document type, subtype, token: mean over the targets of the whole batch, in nats."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    skipped: bool
    """fp16 only: gradients overflowed, the weights stayed."""
    stop: bool
    """A rank was asked to end."""
    documents: int
    tokens: int
    seconds: float


@dataclass(kw_only=True)
class Interval:
    """Sums over a few steps."""

    steps: int = 0
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    documents: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, result: StepResult) -> "Interval":
        """Takes the step in; returns itself."""
        self.steps += 1
        self.losses = [a + b for a, b in zip(self.losses, result.losses, strict=True)]
        self.documents += result.documents
        self.tokens += result.tokens
        self.seconds += result.seconds
        return self

    def means(self) -> Scalars:
        doc_type, po_subtype, token = (total / self.steps for total in self.losses)
        return {
            "loss": doc_type + po_subtype + token,
            "doc_type_loss": doc_type,
            "po_subtype_loss": po_subtype,
            "token_loss": token,
            "documents_per_s": self.documents / self.seconds,
            "tokens_per_s": self.tokens / self.seconds,
        }


@dataclass(kw_only=True)
class Progress:
    """How far a training has come; all of it is in training_state.json."""

    step: int = 0
    """Steps taken, skipped ones included. It also is the sampler's position."""
    skipped_steps: int = 0
    interval: Interval = field(default_factory=Interval)
    """Since numbers were last shown."""
    train_loss: float | None = None
    """Mean of the last interval that was shown."""
    documents: int = 0
    seconds: float = 0.0
    """In steps alone, over all starts."""
    best_step: int | None = None
    best: ValidationScore | None = None
    scores_since_best: int = 0

    def advance(self, result: StepResult) -> None:
        self.step += 1
        self.skipped_steps += result.skipped
        self.documents += result.documents
        self.seconds += result.seconds
        self.interval.add(result)

    def take_interval(self) -> Scalars:
        """Means of the interval, which begins anew."""
        means, self.interval = self.interval.means(), Interval()
        self.train_loss = means["loss"]
        return means

    @staticmethod
    def from_json(record: dict[str, Any]) -> "Progress":
        best = record["best"]
        return Progress(
            **{
                **record,
                "interval": Interval(**record["interval"]),
                "best": None if best is None else ValidationScore(**best),
            }
        )


class Run:
    """Data, model, optimizer and progress of one training on this rank, at step 0 or where it was left."""

    def __init__(self, job: TrainingJob, world: World) -> None:
        """Raises InputError, VocabularyMismatchError or ArtifactError for the job's files, CheckpointError
        for what is in `job.out` already or for the initial checkpoint."""
        config = job.config
        self.job, self.world = job, world
        self.vocabulary: Vocabulary = load_vocabulary(job.vocabulary_extension)
        self.train_shards, self.val_shards = (
            open_shards(path, self.vocabulary) for path in (job.train_shards, job.val_shards)
        )
        self.tokenizer: Tokenizer = self.train_shards.load_tokenizer()
        self.precision: Resolved = resolve(config.precision, world.device)
        self.autocast = make_autocast(self.precision, world.device)
        self.sampler = LengthGroupedSampler(
            self.train_shards.window_lengths,
            global_batch_size=config.batch_size * config.gradient_accumulation_steps * world.size,
            batch_size=config.batch_size,
            seed=config.seed,
        )
        if world.size > 1:
            _require_agreement(world, self._identity())
        # Rank 0's answer: another machine may still see the directory as it was a minute ago.
        resumed = world.gather(folders.newest(job.out) if world.is_main else None)[0]
        # A resumed training has its weights already; where they first came from may be gone by now.
        self.start: Start | None = None
        """None when it was resumed."""
        if resumed is None:
            self.start = start_model(job, tokenizer=self.tokenizer, vocabulary=self.vocabulary)
            self.raw_model = self.start.model
        else:
            self.raw_model = MultiTaskLayoutLMv3(checkpoint.read_config(resumed))
        _require_usable(self.train_shards, self.val_shards, self.tokenizer, self.raw_model)
        state = None if resumed is None else self._verified(resumed)
        if config.gradient_checkpointing:
            self.raw_model.gradient_checkpointing_enable(  # type: ignore[no-untyped-call]
                {"use_reentrant": False}
            )
        self.token_label_weights_C: Tensor | None = None
        """On the CPU; the same on every rank and in every start, since only the shards decide."""
        if config.rare_label_exponent > 0:
            counts_C = self.train_shards.label_counts(self.raw_model.config.num_token_labels)
            self.token_label_weights_C = torch.from_numpy(
                rare_label_weights(counts_C, config.rare_label_exponent)
            )
        self.model: nn.Module = distributed.wrap(self.raw_model, world, config)
        self.optimizer = make_optimizer(self.raw_model, config)
        self.scheduler = make_scheduler(
            self.optimizer, warmup_steps=config.warmup_steps, max_steps=config.max_steps
        )
        self.scaler = make_scaler(self.precision, world.device, config.strategy)
        self.state = Progress()
        self.resumed_from: int | None = None
        if resumed is not None and state is not None:
            self._restore(resumed, state)
        self.raw_model.train()

    @property
    def stopped_early(self) -> bool:
        """Whether the score has not risen for as long as the config allows, before the last step."""
        patience = self.job.config.early_stopping_patience
        is_last = self.state.step == self.job.config.max_steps
        return 0 < patience <= self.state.scores_since_best and not is_last

    @property
    def is_over(self) -> bool:
        """Whether there is no further step; the same on every rank, and in a training that is resumed."""
        return self.stopped_early or self.state.step == self.job.config.max_steps

    def save(self) -> None:
        """Writes checkpoint-<step> and removes old ones."""
        self._publish(f"checkpoint-{self.state.step}")
        if self.world.is_main:
            folders.prune(self.job.out, self.job.config.keep_checkpoints)

    def save_best(self) -> None:
        """Replaces best/."""
        self._publish(folders.BEST)

    def finish(self, **links: str) -> dict[str, Any]:
        """Writes final/ and returns the summary, the same on every rank; rank 0's `links` are part of it."""
        own = {**self._summary(), **links} if self.world.is_main else None
        self._publish(folders.FINAL, summary=own)
        summary: dict[str, Any] = self.world.gather(own)[0]
        return summary

    def _publish(self, name: str, **more: Any) -> None:
        """Every rank calls it; where they hold shards, each writes its own."""
        weights = distributed.full_weights(self.raw_model, self.world)

        def write(directory: Path) -> None:
            checkpoint.write_model(
                directory,
                weights,
                config=self.raw_model.config,
                tokenizer=self.tokenizer,
                vocabulary=self.vocabulary,
            )
            checkpoint.write_scheduler(directory, self.scheduler)
            write_optimizer(directory)

        def write_optimizer(directory: Path) -> None:
            if distributed.is_sharded(self.raw_model):
                self.world.barrier()  # Until rank 0 has made the directory.
            checkpoint.write_optimizer(directory, self.raw_model, self.optimizer)

        if self.world.is_main:
            folders.publish(self.job.out, name, write, {**self._identity(), **self._position(), **more})
        elif distributed.is_sharded(self.raw_model):
            write_optimizer(folders.draft(self.job.out, name))

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the training that goes on from it."""
        return {
            "config": self.job.config.to_json(),
            "global_batch_size": self.job.config.batch_size
            * self.job.config.gradient_accumulation_steps
            * self.world.size,
            "precision": self.precision,
            "vocabulary_digest": self.vocabulary.digest,
            "tokenizer_digest": self.tokenizer.digest,
            "train_shards": _fingerprint(self.train_shards),
            "val_shards": _fingerprint(self.val_shards),
        }

    def _position(self) -> dict[str, Any]:
        epoch, batch = divmod(self.state.step, self.sampler.steps_per_epoch)
        return {
            "progress": asdict(self.state),
            # The order of an epoch follows from (seed, epoch), dropout from (seed, step, micro-batch).
            "sampler": {"seed": self.job.config.seed, "epoch": epoch, "batch": batch},
            "scaler": self.scaler.state_dict(),
            "world_size": self.world.size,
        }

    def _verified(self, directory: Path) -> dict[str, Any]:
        """The state of a checkpoint of this training, its weights put into the model."""
        state = folders.verify(directory)
        _require_same(directory, state, self._identity())
        checkpoint.load_weights(directory, self.raw_model)
        return state

    def _restore(self, directory: Path, state: dict[str, Any]) -> None:
        checkpoint.load_optimizer(directory, self.raw_model, self.optimizer, self.scheduler)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.state = Progress.from_json(state["progress"])
        if self.state.best is not None and not (self.job.out / folders.BEST).is_dir():
            raise CheckpointError(
                f"{self.job.out / folders.BEST}: is missing, but {directory} says that it was saved at step "
                f"{self.state.best_step}; bring it back, or train into an empty directory"
            )
        self.resumed_from = self.state.step

    def _summary(self) -> dict[str, Any]:
        state = self.state
        assert state.best is not None  # the last step is always validated
        return {
            "steps": state.step,
            "skipped_steps": state.skipped_steps,
            "stopped_early": self.stopped_early,
            "epochs": round(state.step / self.sampler.steps_per_epoch, 3),
            "train_loss": state.train_loss,
            "best_step": state.best_step,
            "best_score": state.best.score,
            "best_doc_type_accuracy": state.best.doc_type_accuracy,
            "best_po_subtype_accuracy": state.best.po_subtype_accuracy,
            "best_field_f1": state.best.field_f1,
            "best_val_loss": state.best.loss,
            "seconds": round(state.seconds, 3),
            "documents_per_s": round(state.documents / state.seconds, 3),
            "num_train_documents": self.train_shards.num_documents,
            "num_val_documents": self.val_shards.num_documents,
            "num_parameters": sum(parameter.numel() for parameter in self.raw_model.parameters()),
            "checkpoint_bytes": (self.job.out / folders.BEST / checkpoint.WEIGHTS_FILE).stat().st_size,
            "precision": self.precision,
            "num_processes": self.world.size // self.job.config.num_nodes,
            "num_nodes": self.job.config.num_nodes,
            "resumed_from": self.resumed_from,
        }


def _require_usable(train: Shards, val: Shards, tokenizer: Tokenizer, model: MultiTaskLayoutLMv3) -> None:
    if val.num_windows == 0:
        raise InputError(
            f"{val.path}: no documents, so no best checkpoint could be told; label some in the val split"
        )
    if val.load_tokenizer().digest != tokenizer.digest:
        raise InputError(
            f"{train.path} and {val.path} were made with two tokenizers; build both with the same one"
        )
    longest = int(max(train.window_lengths.max(), val.window_lengths.max()))
    if longest > model.config.max_tokens:
        raise InputError(
            f"{train.path}: a window has {longest} tokens, the architecture holds {model.config.max_tokens}; "
            "raise architecture.max_tokens or build shards with shorter windows"
        )


def _require_agreement(world: World, identity: dict[str, Any]) -> None:
    """Raises the same InputError on every rank when what one of them trains is not what rank 0 trains.

    Machines may have other files at the same path, or other hardware behind precision="auto".
    """
    everyone = world.gather((socket.gethostname(), identity))
    wanted_host, wanted = everyone[0]
    for rank, (host, found) in enumerate(everyone):
        differences = [
            f"{name}: {wanted[name]} there, {value} here"
            for name, value in found.items()
            if value != wanted[name]
        ]
        if differences:
            raise InputError(
                f"rank {rank} on {host} differs from rank 0 on {wanted_host}: {'; '.join(differences)}; "
                "let all machines read the same files, and name the precision"
            )


def _require_same(directory: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differences = [
        f"{name}: {found['config'].get(name)} there, {value} now"
        for name, value in wanted["config"].items()
        if name not in MAY_CHANGE_ON_RESUME and found["config"].get(name) != value
    ]
    differences += [
        f"{name}: {found.get(name)} there, {value} now"
        for name, value in wanted.items()
        if name != "config" and found.get(name) != value
    ]
    if differences:
        raise CheckpointError(
            f"{directory}: is of another training, this one cannot go on from it: {'; '.join(differences)}; "
            "set them back, or train into an empty directory"
        )


def _fingerprint(shards: Shards) -> str:
    """Tells two shards apart by their texts, labels and settings; pages are too large to read for it."""
    digest = hashlib.sha256()
    for name in ("shards.json", "documents.parquet", "input_ids.npy"):
        digest.update(hashlib.sha256((shards.path / name).read_bytes()).digest())
    return digest.hexdigest()
