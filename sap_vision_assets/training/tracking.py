"""Where the numbers go: log.jsonl always, TensorBoard or Weights & Biases beside it."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sap_vision_assets.training.config import TrainingConfig
from sap_vision_assets.training.wandb_run import WandbRun

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"

_logger = logging.getLogger(__name__)
Scalars = dict[str, float]


class Tracker(Protocol):
    """Shows numbers to a person. It may raise what it likes; then it is not asked again."""

    def write(self, step: int, scalars: Scalars) -> None:
        """One point a scalar."""
        ...

    def close(self, *, completed: bool) -> None:
        """`completed`: the training came to its end."""
        ...

    @property
    def link(self) -> dict[str, str]:
        """Where a person finds the run: tracking_url, or tracking_folder below the training's directory."""
        ...


class RunLog:
    """Rank 0's record of one training. A tracker that fails costs a warning, never the training."""

    def __init__(
        self, out: Path, config: TrainingConfig, *, first_step: int, report: Callable[[dict[str, Any]], None]
    ) -> None:
        """Goes on after step `first_step`: lines of later steps, from a run that was killed, are dropped; all
        of them where it begins anew.

        `report` gets what is shown too.
        """
        self._report = report
        self._file = out / LOG_FILE
        _keep_until(self._file, first_step)
        self._stream = self._file.open("a")
        self._tracker: Tracker | None = None
        if config.tracker == "tensorboard":
            self._attempt(lambda: self._track(TensorBoard(out / TENSORBOARD_FOLDER, first_step=first_step)))
        elif config.tracker == "wandb":
            self._attempt(lambda: self._track(WandbRun(out, config)))

    def record(self, step: int, scalars: Scalars) -> None:
        """One line of log.jsonl, without what is not finite.

        In fp16 the gradients of the first steps overflow, and JSON has no infinity.
        """
        self._stream.write(json.dumps({"step": step, **_finite(scalars)}, allow_nan=False) + "\n")
        self._stream.flush()

    def note_start(self, weights: str, new_classes: Mapping[str, Sequence[str]]) -> None:
        """The first line of log.jsonl: what the weights start from, and the classes new in the heads."""
        record = {"step": 0, "initial_weights": weights, "new_classes": new_classes}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def show(self, step: int, scalars: Scalars) -> None:
        """One point a scalar in the tracker, and a report, likewise without what is not finite."""
        scalars = _finite(scalars)
        self._report({"step": step, **scalars})
        tracker = self._tracker
        if tracker is not None:
            self._attempt(lambda: tracker.write(step, grouped(scalars)))

    def close(self, *, completed: bool) -> dict[str, str]:
        """Returns the tracker's link."""
        self._stream.close()
        tracker = self._tracker
        if tracker is None:
            return {}
        self._attempt(lambda: tracker.close(completed=completed))
        return tracker.link

    def _track(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        # Trackers raise what they like, from ImportError to their own network errors.
        except Exception as error:  # noqa: BLE001
            self._tracker = None
            _logger.warning("the tracker failed (%s); training goes on, see %s", error, self._file)


class TensorBoard:
    """Event files in a folder of the training's directory."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  heavy, and only for this tracker

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, step: int, scalars: Scalars) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, completed: bool) -> None:  # noqa: ARG002  event files do not say how it ended
        self._writer.close()

    @property
    def link(self) -> dict[str, str]:
        return {"tracking_folder": TENSORBOARD_FOLDER}


def grouped(scalars: Scalars) -> Scalars:
    """The names as trackers group them: train/loss, val/loss."""
    return {
        f"val/{name.removeprefix('val_')}"
        if name.startswith("val_") or name == "is_best"
        else f"train/{name}": value
        for name, value in scalars.items()
    }


def _finite(scalars: Scalars) -> Scalars:
    return {name: value for name, value in scalars.items() if math.isfinite(value)}


def _keep_until(file: Path, last_step: int) -> None:
    if not file.exists():
        return
    temporary = file.with_name(f".{file.name}.new")
    with file.open() as old, temporary.open("w") as new:
        for line in old:
            try:
                record = json.loads(line)
            except ValueError:
                break  # half a line: the process was killed while it wrote
            if last_step > 0 and record["step"] <= last_step:
                new.write(line.rstrip("\n") + "\n")
    temporary.replace(file)
