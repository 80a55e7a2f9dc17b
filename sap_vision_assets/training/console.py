"""A training on the terminal: one line per logged step, and a progress bar where a person is watching."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingConsole:
    """Prints what it is called with. Used as a context: on a terminal it shows a bar until it is left."""

    def __init__(self, *, max_steps: int) -> None:
        self._max_steps = max_steps
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(),
            disable=not sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("training", total=max_steps)

    def __enter__(self) -> "TrainingConsole":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """One record of log.jsonl."""
        self._bar.update(self._task, completed=record["step"])
        print(describe(record, self._max_steps), flush=True)


def describe(record: dict[str, Any], max_steps: int) -> str:
    """One record of log.jsonl as a line for a person."""
    head = f"step {record['step']}/{max_steps}"
    if "val_score" in record:
        names = ("doc_type_accuracy", "po_subtype_accuracy", "field_f1")
        parts = [f"{name} {record[f'val_{name}']:.3f}" for name in names if f"val_{name}" in record]
        best = "  best so far" if record["is_best"] else ""
        return f"{head}  validation score {record['val_score']:.4f} ({', '.join(parts)}){best}"
    return (
        f"{head}  loss {record['loss']:.4f} (doc_type {record['doc_type_loss']:.3f}, "
        f"po_subtype {record['po_subtype_loss']:.3f}, token {record['token_loss']:.3f})  "
        f"lr {record['learning_rate']:.2e}  grad {record['grad_norm']:.2f}  "
        f"{record['documents_per_s']:.1f} documents/s  {record['tokens_per_s']:.0f} tokens/s"
    )
