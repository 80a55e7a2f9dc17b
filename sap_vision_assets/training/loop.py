"""The training loop: next batch, step, log, maybe evaluate, maybe save.

Shapes: B windows of a micro-batch, T tokens, M micro-batches of a step on this rank.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sap_vision_assets.encoder import (
    LossCounts,
    LossWeights,
    MultiTaskOutput,
    count_targets,
    multitask_loss,
    pages_to_pixel_values,
)
from sap_vision_assets.errors import TrainingError
from sap_vision_assets.training import distributed
from sap_vision_assets.training.augmentation import augment
from sap_vision_assets.training.batches import Batch, MicroBatch, document_names, read_steps
from sap_vision_assets.training.optim import clip_gradients
from sap_vision_assets.training.run import Interval, Run, StepResult
from sap_vision_assets.training.tracking import RunLog, Scalars
from sap_vision_assets.training.validation import validate

Report = Callable[[dict[str, Any]], None]
MicroBatches = list[tuple[MicroBatch, Batch]]

MIN_LOSS_SCALE = 2.0**-10
"""fp16's loss scale halves at each overflow; this low, it is the gradients themselves that are broken."""


def train(run: Run, *, report: Report, stop_requested: Callable[[], bool]) -> dict[str, Any] | None:
    """Trains from where `run` stands to its last step, or to where it stops early; every rank calls it.

    Rank 0 gives what it shows to `report`. Returns the summary, or None when `stop_requested` said so on any
    rank: then a checkpoint of the last whole step was saved. Raises TrainingError when a loss is not finite.
    """
    config, state = run.job.config, run.state
    log = _open_log(run, report)
    links: dict[str, str] = {}
    completed = False
    started = time.perf_counter()
    try:
        with _explained(run):
            for micro_batches in _read(run):
                result = _step(run, micro_batches, stop_requested, started)
                state.advance(result)
                _record_step(run, result, log)
                is_scored = state.step == config.max_steps or state.step % config.eval_every_steps == 0
                if is_scored or state.step % config.log_every_steps == 0:
                    _show_interval(run, result, log)
                if is_scored:
                    _evaluate(run, log)
                is_stopped = result.stop and not run.is_over
                if is_stopped or state.step % config.save_every_steps == 0:
                    run.save()
                if is_stopped:
                    return None
                if run.is_over:
                    break
                started = time.perf_counter()
        completed = True
    finally:
        if log is not None:
            links = log.close(completed=completed)
    return run.finish(**links)


def _open_log(run: Run, report: Report) -> RunLog | None:
    """Rank 0's."""
    if not run.world.is_main:
        return None
    log = RunLog(run.job.out, run.job.config, first_step=run.state.step, report=report)
    if run.start is not None:
        log.note_start(run.start.weights, run.start.new_classes)
    return log


@contextmanager
def _explained(run: Run) -> Iterator[None]:
    """Raises TrainingErrors that say what to do, where torch tells of lost loaders or of a lack of memory."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            if threading.current_thread() is threading.main_thread():
                # torch's handler tells of the same worker once more, wherever this thread is by then.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            raise _lost_loader(run, error) from error
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise _out_of_memory(run, error) from error
        raise


def _read(run: Run) -> Iterator[MicroBatches]:
    config, world = run.job.config, run.world
    return read_steps(
        run.train_shards,
        run.sampler,
        pad_id=run.tokenizer.pad_id,
        # None, when it was killed after its last step and before final/ was there.
        steps=range(run.state.step, run.state.step if run.is_over else config.max_steps),
        rank=world.rank,
        world_size=world.size,
        workers=config.loader_workers,
        pin_memory=world.device.type == "cuda",
    )


def _step(
    run: Run, micro_batches: MicroBatches, stop_requested: Callable[[], bool], started: float
) -> StepResult:
    """One update from all micro-batches of all ranks; their reading began at `started` (perf_counter)."""
    losses_M3 = _accumulate_gradients(run, micro_batches)
    finite_M = losses_M3.isfinite().all(dim=1)
    totals = _totals(run, micro_batches, losses_M3, finite_M, stop_requested())
    if totals["not_finite"]:
        _raise_not_finite(run, micro_batches, finite_M)
    learning_rate = float(run.scheduler.get_last_lr()[0])
    grad_norm, skipped = _update(run, micro_batches)
    return StepResult(
        losses=(totals["doc_type"], totals["po_subtype"], totals["token"]),
        learning_rate=learning_rate,
        grad_norm=grad_norm,
        skipped=skipped,
        stop=totals["stop"] > 0,
        documents=int(totals["documents"]),
        tokens=int(totals["tokens"]),
        seconds=time.perf_counter() - started,
    )


def _accumulate_gradients(run: Run, micro_batches: MicroBatches) -> Tensor:
    """Gradients of the whole batch's loss; returns each micro-batch's share of the three losses, [M, 3].

    A target weighs the same wherever it stands: the counts are those of all micro-batches of all ranks.
    """
    world, label_weights_C = run.world, run.token_label_weights_C
    counts_3 = torch.stack(
        [
            count_targets(
                batch.doc_type_B, batch.po_subtype_B, batch.token_labels_BT, label_weights_C
            ).stack()
            for _, batch in micro_batches
        ]
    ).sum(dim=0)
    counts = LossCounts.unstack(world.sum(counts_3.to(world.device)))
    config = run.job.config
    weights = LossWeights(
        doc_type=config.doc_type_loss_weight,
        po_subtype=config.po_subtype_loss_weight,
        token=config.token_loss_weight,
    )
    losses = []
    for index, (micro, batch) in enumerate(micro_batches):
        _seed_dropout(config.seed, micro)
        moved = augment(batch, config, run.tokenizer).to(world.device)
        is_last = index == len(micro_batches) - 1
        with nullcontext() if is_last else distributed.accumulate_only(run.model):
            with run.autocast():
                output: MultiTaskOutput = run.model(
                    moved.input_ids_BT,
                    moved.bbox_BT4,
                    moved.attention_mask_BT,
                    pages_to_pixel_values(moved.pages_BHW3),
                )
            loss = multitask_loss(
                output,
                token_labels_BT=moved.token_labels_BT,
                doc_type_B=moved.doc_type_B,
                po_subtype_B=moved.po_subtype_B,
                counts=counts,
                weights=weights,
                token_label_weights_C=None if label_weights_C is None else label_weights_C.to(world.device),
            )
            # The ranks' gradients will be averaged, and are to be added.
            run.scaler.scale(loss.total * world.size).backward()  # type: ignore[no-untyped-call]
        losses.append(torch.stack([loss.doc_type, loss.po_subtype, loss.token]).detach())
    return torch.stack(losses)


def _totals(
    run: Run, micro_batches: MicroBatches, losses_M3: Tensor, finite_M: Tensor, stop: bool
) -> dict[str, float]:
    """Sums over the ranks, in one exchange: losses, what was read, and whether any rank has bad news."""
    windows = [window for micro, _ in micro_batches if not micro.is_filler for window in micro.windows]
    owners = run.train_shards.window_document
    # A document counts with its first window.
    documents = sum(1 for window in windows if window == 0 or owners[window - 1] != owners[window])
    tokens = sum(int(run.train_shards.window_lengths[window]) for window in windows)
    here = torch.tensor([documents, tokens, stop], dtype=torch.float64, device=run.world.device)
    sums = run.world.sum(torch.cat([losses_M3.double().sum(dim=0), (~finite_M).double().sum()[None], here]))
    names = ("doc_type", "po_subtype", "token", "not_finite", "documents", "tokens", "stop")
    return dict(zip(names, sums.tolist(), strict=True))


def _update(run: Run, micro_batches: MicroBatches) -> tuple[float, bool]:
    """Clips, updates, clears; returns the gradients' norm, and whether fp16 overflowed: nothing moved."""
    config, scaler = run.job.config, run.scaler
    scaler.unscale_(run.optimizer)
    grad_norm = clip_gradients(run.raw_model.parameters(), config.max_grad_norm)
    if not math.isfinite(grad_norm) and (not scaler.is_enabled() or scaler.get_scale() < MIN_LOSS_SCALE):
        _raise_not_finite(run, micro_batches, None)
    scale = scaler.get_scale()
    scaler.step(run.optimizer)
    scaler.update()
    skipped = scaler.get_scale() < scale
    if not skipped:
        run.scheduler.step()
    run.optimizer.zero_grad(set_to_none=True)
    return grad_norm, skipped


def _raise_not_finite(run: Run, micro_batches: MicroBatches, finite_M: Tensor | None) -> None:
    """The same TrainingError on every rank, before the update. None: the sum of all gradients is to blame."""
    bad = (
        micro_batches
        if finite_M is None
        else [pair for pair, finite in zip(micro_batches, finite_M.tolist(), strict=True) if not finite]
    )
    found = [(micro.slot, document_names(run.train_shards, micro.windows)) for micro, _ in bad]
    by_slot = sorted(
        (slot, rank, names) for rank, slots in enumerate(run.world.gather(found)) for slot, names in slots
    )
    _, rank, names = by_slot[0]
    what = "the loss is" if finite_M is not None else "the gradients are"
    raise TrainingError(
        f"step {run.state.step + 1}: {what} not finite, first on rank {rank} with documents {names}; "
        "nothing was updated. Look at these documents, lower learning_rate, or use precision bf16 or fp32"
    )


def _lost_loader(run: Run, error: RuntimeError) -> TrainingError:
    ahead = run.sampler.micro_batches(run.state.step, rank=run.world.rank, world_size=run.world.size)
    windows = [window for micro in ahead for window in micro.windows]
    return TrainingError(
        f"{run.train_shards.path}: a process that reads batches died near documents "
        f"{document_names(run.train_shards, windows)} of step {run.state.step + 1} ({error}); "
        "look for a lack of memory, or set loader_workers=0"
    )


def _out_of_memory(run: Run, error: RuntimeError) -> TrainingError:
    config = run.job.config
    remedies = [
        f"lower batch_size={config.batch_size} and raise gradient_accumulation_steps="
        f"{config.gradient_accumulation_steps} by as much: the same training, a little slower"
    ]
    if not config.gradient_checkpointing:
        remedies.append("set gradient_checkpointing=true: the same training, a third slower")
    remedies.append("make tokenized_shards with a smaller max_tokens")
    if config.strategy != "fsdp":
        remedies.append("set strategy=fsdp, with more num_processes")
    if not config.cpu_offload and run.world.device.type == "cuda":
        remedies.append("set strategy=fsdp and cpu_offload=true")
    return TrainingError(
        f"step {run.state.step + 1}: memory ran out on {run.world.device} ({str(error).splitlines()[0]}). "
        f"In this order: {'; '.join(remedies)}"
    )


def _record_step(run: Run, result: StepResult, log: RunLog | None) -> None:
    if log is not None:
        log.record(run.state.step, {**Interval().add(result).means(), **_rates(run, result)})


def _rates(run: Run, result: StepResult) -> Scalars:
    return {
        "skipped_steps": run.state.skipped_steps,
        "learning_rate": result.learning_rate,
        "grad_norm": result.grad_norm,
        "epoch": run.state.step / run.sampler.steps_per_epoch,
    }


def _show_interval(run: Run, result: StepResult, log: RunLog | None) -> None:
    scalars = run.state.take_interval()
    if log is not None:
        log.show(run.state.step, {**scalars, **_rates(run, result)})


def _evaluate(run: Run, log: RunLog | None) -> None:
    state = run.state
    score = validate(
        run.raw_model,
        run.val_shards,
        run.world,
        pad_id=run.tokenizer.pad_id,
        batch_size=run.job.config.eval_batch_size,
        autocast=run.autocast,
    )
    is_best = state.best is None or score.score > state.best.score
    state.scores_since_best = 0 if is_best else state.scores_since_best + 1
    if is_best:
        state.best, state.best_step = score, state.step
        run.save_best()
    if log is not None:
        defined = {f"val_{name}": value for name, value in asdict(score).items() if value is not None}
        scores = {**defined, "is_best": is_best}
        log.record(state.step, scores)
        log.show(state.step, scores)


def _seed_dropout(seed: int, micro: MicroBatch) -> None:
    """Dropout follows from where a micro-batch stands: a resumed training repeats it without stored state."""
    mixed = np.random.SeedSequence([seed, micro.step, micro.slot]).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(mixed) >> 1)
