"""What reaches the event log, and the terminal, while a training runs."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sap_vision_assets.defs import torchrun
from sap_vision_assets.defs.dead_runs import HOST_TAG
from sap_vision_assets.defs.torchrun import Progress


def observed(
    messages: list[tuple[float, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """The observations that messages at these seconds leave, with at least 10 s between two."""
    now = 0.0
    monkeypatch.setattr(torchrun.time, "monotonic", lambda: now)

    @dg.asset
    def checkpoint(context: dg.AssetExecutionContext) -> None:
        nonlocal now
        progress = Progress(context, 10.0)
        for at, message in messages:
            now = at
            progress.take(message)
        progress.flush()

    result = dg.materialize([checkpoint])
    return [
        {name: value.value for name, value in e.asset_observation_data.asset_observation.metadata.items()}
        for e in result.all_events
        if e.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    ]


def test_messages_are_thinned_out_and_the_last_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [(float(at), {"step": at, "loss": 1.0 / (1 + at)}) for at in range(25)]
    steps = [item["step"] for item in observed(messages, monkeypatch)]
    assert steps == [0.0, 10.0, 20.0, 24.0]


def test_scores_on_val_are_always_reported_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[tuple[float, dict[str, Any]]] = [
        (0.0, {"step": 1, "loss": 2.0}),
        (1.0, {"step": 2, "loss": 1.5}),
        (1.5, {"step": 2, "val_score": 0.5}),
        (2.0, {"step": 3, "loss": 1.0, "device": "cpu", "resumed": True}),
    ]
    assert observed(messages, monkeypatch) == [
        {"step": 1.0, "loss": 2.0},
        {"step": 2.0, "loss": 1.5},
        {"step": 2.0, "val_score": 0.5},
        {"step": 3.0, "loss": 1.0},
    ]


def test_nothing_said_is_nothing_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert observed([], monkeypatch) == []


COMMAND = """
import subprocess, sys
sys.exit(subprocess.call([sys.executable, "-c", *sys.argv[1:]], start_new_session=True))
"""
WORKER = """
import json, sys
import dagster as dg
from sap_vision_assets.defs.torchrun import Progress, bar_of
from sap_vision_assets_tests.defs.conftest import QUIET

@dg.asset
def checkpoint(context: dg.AssetExecutionContext) -> None:
    with bar_of(context) as bar:
        progress = Progress(context, 0.0, bar)
        for step in (1, 3):
            print(f"step {step}/4  loss 1.0")
            progress.take({"step": step, "max_steps": 4, "loss": 1.0})

with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
    dg.materialize([checkpoint], instance=instance, tags=json.loads(sys.argv[2]), run_config=QUIET)
"""
BAR = "\u2501"


def shown(home: Path, *, on_terminal: bool, tags: dict[str, str]) -> str:
    """What a command shows whose worker trains, on a terminal of 24 rows or through a pipe."""
    ours, theirs = pty.openpty() if on_terminal else os.pipe()
    if on_terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", COMMAND, WORKER, str(home), json.dumps(tags)]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # EIO: nobody has the terminal open any more
            pass
        os.close(ours)
        assert process.stderr is not None
        assert process.wait() == 0, process.stderr.read().decode()
    text = b"".join(parts).decode()
    assert "step 3/4  loss 1.0" in text
    (log,) = home.rglob("*.out")
    assert log.read_text() == "step 1/4  loss 1.0\nstep 3/4  loss 1.0\n"
    return text


def test_a_terminal_has_a_bar_in_a_row_that_no_line_reaches(tmp_path: Path) -> None:
    text = shown(tmp_path, on_terminal=True, tags={HOST_TAG: "here"})
    assert BAR in text
    assert "3/4" in text.split(BAR)[-1]
    reserved, drawn, given_back = (text.index(part) for part in ("\x1b[1;23r", "\x1b[24;1H", "\x1b[r"))
    assert reserved < drawn < given_back
    assert "\x1b[24;1H\x1b[2K\x1b8" in text[given_back:]


@pytest.mark.parametrize(
    ("on_terminal", "tags"), [(False, {HOST_TAG: "here"}), (True, {})], ids=["pipe", "run of the UI"]
)
def test_where_nobody_watches_is_no_bar(on_terminal: bool, tags: dict[str, str], tmp_path: Path) -> None:
    text = shown(tmp_path, on_terminal=on_terminal, tags=tags)
    assert BAR not in text
    assert "\x1b" not in text
