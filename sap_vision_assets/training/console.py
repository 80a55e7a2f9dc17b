"""A training on a terminal: a line per record of log.jsonl, and a progress bar below all lines."""

import contextlib
import io
import os
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SAVE, _RESTORE = "\x1b7", "\x1b8"
"""The cursor's place (DECSC, DECRC)."""


class TrainingBar:
    """A progress bar in the terminal's last row, from the first `show` until `close`.

    Several processes write to that terminal, so the row is taken out of what scrolls (DECSTBM, as apt does):
    no line of theirs can tear the bar.
    """

    def __init__(self, terminal: int) -> None:
        """`terminal` is the file descriptor of one; it stays open."""
        self._terminal = terminal
        self._progress = Progress(
            TextColumn("training"), BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self._task = self._progress.add_task("training")
        self._size: tuple[int, int] | None = None

    def show(self, step: int, max_steps: int) -> None:
        """Draws the bar at `step` of `max_steps`. A terminal that has gone away is no error."""
        self._progress.update(self._task, completed=step, total=max_steps)
        with contextlib.suppress(OSError):
            self._draw()

    def close(self) -> None:
        """Takes the bar away and gives its row back."""
        if self._size is not None:
            with contextlib.suppress(OSError):
                self._write(f"{_SAVE}\x1b[r\x1b[{self._size[1]};1H\x1b[2K{_RESTORE}")
            self._size = None

    def _draw(self) -> None:
        width, height = self._reserved_row()
        canvas = io.StringIO()
        # One column less: a full last row would wrap.
        console = Console(file=canvas, force_terminal=True, width=max(1, width - 1))
        console.print(self._progress.get_renderable(), end="")
        self._write(f"{_SAVE}\x1b[{height};1H\x1b[2K{canvas.getvalue().rstrip()}{_RESTORE}")

    def _reserved_row(self) -> tuple[int, int]:
        """The terminal's size, its last row reserved; anew where somebody has resized it."""
        size = tuple(os.get_terminal_size(self._terminal))
        # Pseudo-terminals that nobody looks at have no size.
        width, height = size[0] or 80, size[1] or 24
        if (width, height) != self._size:
            self._size = (width, height)
            # A line feed first: where the cursor stands in the last row, what is there scrolls up.
            self._write(f"\n{_SAVE}\x1b[1;{height - 1}r{_RESTORE}\x1b[1A")
        return width, height

    def _write(self, text: str) -> None:
        os.write(self._terminal, text.encode())


def describe(record: dict[str, Any], max_steps: int) -> str:
    """One record of log.jsonl as a line for a person."""
    head = f"step {record['step']}/{max_steps}"
    if "val_score" in record:
        names = ("doc_type_accuracy", "po_subtype_accuracy", "field_f1")
        parts = [f"{name} {record[f'val_{name}']:.3f}" for name in names if f"val_{name}" in record]
        best = "  best so far" if record["is_best"] else ""
        loss = f"  loss {record['val_loss']:.4f}" if "val_loss" in record else ""
        return f"{head}  validation score {record['val_score']:.4f} ({', '.join(parts)}){loss}{best}"
    # A norm that is not finite is left out: fp16 has overflowed, and the step is skipped.
    grad_norm = f"{record['grad_norm']:.2f}" if "grad_norm" in record else "overflow"
    return (
        f"{head}  loss {record['loss']:.4f} (doc_type {record['doc_type_loss']:.3f}, "
        f"po_subtype {record['po_subtype_loss']:.3f}, token {record['token_loss']:.3f})  "
        f"lr {record['learning_rate']:.2e}  grad {grad_norm}  "
        f"{record['documents_per_s']:.1f} documents/s  {record['tokens_per_s']:.0f} tokens/s"
    )
