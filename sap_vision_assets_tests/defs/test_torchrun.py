"""What reaches the event log while a training runs."""

from typing import Any

import dagster as dg
import pytest

from sap_vision_assets.defs import torchrun
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
