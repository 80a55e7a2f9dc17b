"""A run of Weights & Biases that is fed by a thread of its own: no step waits for a server."""

import logging
import os
import queue
import threading
import uuid
from pathlib import Path
from typing import Any

from sap_vision_assets.training.config import TrainingConfig

START_S = 15.0
"""Seconds that the server may take to open a run, before it is kept offline."""
UPLOAD_S = 20.0
"""Seconds that the last upload may take."""
CLOSE_S = 30.0
"""Seconds that a training which has ended waits for its run, but no longer than half its grace period."""
RUN_ID_FILE = "wandb_run_id"

_logger = logging.getLogger(__name__)


class WandbRun:
    """Where WANDB_MODE is not offline and the server takes no run, it is kept offline: in a folder below
    wandb/ that `wandb sync` uploads later."""

    def __init__(self, out: Path, config: TrainingConfig) -> None:
        """Returns at once. A training that goes on in `out` goes on with its run."""
        self._out, self._config = out, config
        self._link: dict[str, str] = {}
        self._points: queue.SimpleQueue[tuple[int, dict[str, float]] | bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Returns at once."""
        if self._thread.is_alive():
            self._points.put((step, scalars))

    def close(self, *, completed: bool) -> None:
        """Raises TimeoutError when the end was not seen in time; what is not uploaded stays on disk."""
        self._points.put(completed)
        limit_s = min(CLOSE_S, self._config.shutdown_grace_s / 2)
        self._thread.join(limit_s)
        # They lead to its logs in the home directory, which are no part of a training.
        for entry in [path for path in (self._out / "wandb").rglob("*") if path.is_symlink()]:
            entry.unlink()
        if self._thread.is_alive():
            raise TimeoutError(f"Weights & Biases: no end after {limit_s:.0f} s; see {self._out / 'wandb'}")

    @property
    def link(self) -> dict[str, str]:
        return self._link

    def _work(self) -> None:
        try:
            run = self._start()
            while not isinstance(point := self._points.get(), bool):
                step, scalars = point
                run.log(scalars, step=step)
            run.finish(exit_code=0 if point else 1)
        # It raises what it likes, and this thread has nobody above it.
        except Exception as error:  # noqa: BLE001
            _logger.warning("Weights & Biases failed (%s); training goes on, log.jsonl has it all", error)

    def _start(self) -> Any:
        import wandb  # noqa: PLC0415  heavy, and only for this tracker

        options = self._options(wandb)
        # What WANDB_MODE says; offline and disabled runs ask no server.
        if wandb.setup().settings.mode == "online":
            try:
                # With prompt=False nobody is asked for a key, on whose terminal this may be.
                if wandb.login(prompt=False):
                    return self._linked(wandb.init(**options, resume="allow"))
                reason: object = "no API key in WANDB_API_KEY"
            except Exception as error:  # noqa: BLE001  of any kind, as above
                reason = error
            _logger.warning(
                "Weights & Biases takes no run (%s); it is kept offline in %s, and `wandb sync` uploads it",
                reason,
                self._out / "wandb",
            )
            options["mode"] = "offline"
        return self._linked(wandb.init(**options))

    def _options(self, wandb: Any) -> dict[str, Any]:
        # The run's record of itself must hold numbers only: no code, no console output, no environment.
        settings = wandb.Settings(
            init_timeout=START_S,
            finish_timeout=UPLOAD_S,
            console="off",
            silent=True,
            save_code=False,
            disable_git=True,
            label_disable=True,
            x_disable_meta=True,
            x_save_requirements=False,
            symlink=False,
        )
        return {
            "project": self._config.wandb_project,
            "id": self._run_id(),
            "dir": str(self._out),
            "config": self._config.to_json(),
            "settings": settings,
        }

    def _run_id(self) -> str:
        file = self._out / RUN_ID_FILE
        if not file.exists():
            file.write_text(uuid.uuid4().hex[:16])
        return file.read_text()

    def _linked(self, run: Any) -> Any:
        if run.disabled:
            return run
        if run.offline:
            self._link = {"tracking_folder": os.path.relpath(run.settings.sync_dir, self._out)}
        else:
            self._link = {"tracking_url": run.url}
        return run
