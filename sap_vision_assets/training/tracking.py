"""Where the numbers go: log.jsonl always, TensorBoard or Weights & Biases beside it."""

import json
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sap_vision_assets.training.config import TrainingConfig

LOG_FILE = "log.jsonl"
WANDB_START_S = 30
"""Seconds that Weights & Biases may take to answer before the training goes on without it."""
WANDB_FINISH_S = 60

_logger = logging.getLogger(__name__)
Scalars = dict[str, float]


class RunLog:
    """Rank 0's record of one training. A tracker that fails costs a warning, never the training."""

    def __init__(
        self, out: Path, config: TrainingConfig, *, first_step: int, report: Callable[[dict[str, Any]], None]
    ) -> None:
        """Goes on after step `first_step`: lines of later steps, from a run that was killed, are dropped; all
        of them where it begins anew.

        `report` gets every line too.
        """
        self._report = report
        self._file = out / LOG_FILE
        _keep_until(self._file, first_step)
        self._stream = self._file.open("a")
        self._sinks: list[Callable[[int, Scalars], None]] = []
        self._closers: list[Callable[[], None]] = []
        if config.tracker == "tensorboard":
            self._attempt("TensorBoard", lambda: self._open_tensorboard(out, first_step))
        elif config.tracker == "wandb":
            self._attempt("Weights & Biases", lambda: self._open_wandb(out, config))

    def write(self, step: int, scalars: Scalars) -> None:
        """One line of log.jsonl and one point a scalar in the tracker; neither has what is not finite.

        In fp16 the gradients of the first steps overflow, and JSON has no infinity.
        """
        scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
        record = {"step": step, **scalars}
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")
        self._stream.flush()
        self._report(record)
        for sink in list(self._sinks):
            self._attempt("the tracker", lambda sink=sink: sink(step, scalars))  # type: ignore[misc]

    def note_start(self, weights: str, new_classes: Mapping[str, Sequence[str]]) -> None:
        """The first line of log.jsonl: what the weights start from, and the classes new in the heads."""
        record = {"step": 0, "initial_weights": weights, "new_classes": new_classes}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()
        for closer in self._closers:
            self._attempt("the tracker", closer)

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        # Trackers raise what they like, from ImportError to their own network errors.
        except Exception as error:  # noqa: BLE001
            self._sinks.clear()
            _logger.warning("%s failed (%s); training goes on, see %s", name, error, self._file)

    def _open_tensorboard(self, out: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  heavy, and only for this tracker

        writer: Any = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)

        def sink(step: int, scalars: Scalars) -> None:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

        self._sinks.append(sink)
        self._closers.append(writer.close)

    def _open_wandb(self, out: Path, config: TrainingConfig) -> None:
        import wandb  # noqa: PLC0415  heavy, and only for this tracker

        # The run's record of itself must hold numbers only: no code, no console output, no environment.
        settings = wandb.Settings(
            init_timeout=WANDB_START_S, console="off", save_code=False, disable_git=True, silent=True
        )
        run = wandb.init(
            project=config.wandb_project,
            dir=str(out),
            config=config.to_json(),
            settings=settings,
            resume="allow",
        )
        self._sinks.append(lambda step, scalars: run.log(scalars, step=step))
        self._closers.append(lambda: _finish_in_time(run.finish))


def _finish_in_time(finish: Callable[[], object]) -> None:
    """Calls `finish` in a thread that may outlive its welcome: an upload to nowhere has no end."""
    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    thread.join(WANDB_FINISH_S)
    if thread.is_alive():
        raise TimeoutError(f"no end of the upload after {WANDB_FINISH_S} s")


def _keep_until(file: Path, last_step: int) -> None:
    if not file.exists():
        return
    kept = []
    for line in file.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break  # half a line: the process was killed while it wrote
        if last_step > 0 and record["step"] <= last_step:
            kept.append(line + "\n")
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text("".join(kept))
    temporary.replace(file)
