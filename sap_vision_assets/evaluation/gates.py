"""Whether a model may be promoted: pure functions on summaries, for the checks and the promotion alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sap_vision_assets.errors import InputError

QUALITY_METRICS = ("doc_type_accuracy", "field_f1")
NUM_SCORED_KEYS = {"doc_type_accuracy": "num_documents", "field_f1": "num_entities"}


@dataclass(frozen=True, kw_only=True)
class Floors:
    """What a model must reach. A domain may have its own; None switches a gate off, and the gate says so."""

    doc_type_accuracy: float | None = 0.95
    """Share of test documents, 0 to 1."""
    field_f1: float | None = 0.92
    """Strict micro entity F1 on the test documents, 0 to 1."""
    max_regression: float = 0.005
    """How much lower than the promoted model's a metric may be, as an absolute difference."""
    checkpoint_bytes_max: int | None = 440_000_000
    """Bytes of the checkpoint's weights."""
    latency_ms_max: float | None = 50.0
    """Milliseconds per page. Binding on a GPU only; on a CPU it warns."""

    def __post_init__(self) -> None:
        for name in QUALITY_METRICS:
            floor = getattr(self, name)
            if floor is not None and not 0 <= floor <= 1:
                raise InputError(f"floor {name}={floor}: must be between 0 and 1; 95 % is 0.95")
        if not 0 <= self.max_regression < 1:
            raise InputError(f"max_regression={self.max_regression}: must be at least 0 and below 1")
        for name in ("checkpoint_bytes_max", "latency_ms_max"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise InputError(f"{name}={limit}: must be above 0; None switches the gate off")


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """One gate's answer."""

    name: str
    passed: bool
    blocking: bool
    """Whether a failure stops the promotion; a failed gate that does not block is a warning."""
    value: float | None
    """None: undefined, or not measured."""
    limit: float | None
    """None: there is nothing to compare with."""
    text: str
    """One sentence for a person."""


def evaluate_gates(
    report_summary: Mapping[str, Any], floors: Floors, promoted_summary: Mapping[str, Any] | None
) -> list[GateResult]:
    """Quality gates of one evaluation report: the floors, and no worse than the promoted model.

    `report_summary` and `promoted_summary` are what `evaluate` returned for the two checkpoints. They are
    compared only when both were measured on the same test data; otherwise the gate passes, saying that it
    compared nothing, and the floors alone decide. Evaluate the promoted checkpoint on today's test data to
    have it compared.
    """
    results = []
    for metric in QUALITY_METRICS:
        results.append(_floor_gate(metric, report_summary, getattr(floors, metric)))
        results.append(_regression_gate(metric, report_summary, promoted_summary, floors))
    return results


def checkpoint_size_gate(num_bytes: int, floors: Floors) -> GateResult:
    """Whether the weights are small enough."""
    limit = floors.checkpoint_bytes_max
    if limit is None:
        return _not_gated("checkpoint_size", float(num_bytes), f"{num_bytes / 1e6:.1f} MB; no limit is set")
    passed = num_bytes <= limit
    return GateResult(
        name="checkpoint_size",
        passed=passed,
        blocking=True,
        value=float(num_bytes),
        limit=float(limit),
        text=f"{num_bytes / 1e6:.1f} MB is {'within' if passed else 'above'} {limit / 1e6:.0f} MB",
    )


def latency_gate(latency_ms: float | None, device: str, floors: Floors) -> GateResult:
    """Whether a page is fast enough on `device` ("cuda" or "cpu"); blocks on a GPU, warns on a CPU."""
    limit = floors.latency_ms_max
    if limit is None:
        return _not_gated("latency", latency_ms, "no limit is set")
    blocking = device != "cpu"
    if latency_ms is None:
        return GateResult(
            name="latency",
            passed=False,
            blocking=blocking,
            value=None,
            limit=limit,
            text="undefined: no page was timed",
        )
    passed = latency_ms < limit
    text = f"{latency_ms:.1f} ms per page on {device} is {'below' if passed else 'not below'} {limit:g} ms"
    if not blocking:
        text += "; measured on a CPU, so it only warns: the limit is meant for a GPU"
    return GateResult(
        name="latency", passed=passed, blocking=blocking, value=latency_ms, limit=limit, text=text
    )


def may_promote(results: Sequence[GateResult]) -> bool:
    """Whether no blocking gate failed; without any gate the answer is no."""
    return bool(results) and all(result.passed or not result.blocking for result in results)


def _floor_gate(metric: str, summary: Mapping[str, Any], floor: float | None) -> GateResult:
    value = summary.get(metric)
    num_scored = summary.get(NUM_SCORED_KEYS[metric], 0)
    if floor is None:
        shown = "undefined, n=0" if value is None else f"{value:.4f}, n={num_scored}"
        return _not_gated(metric, value, f"{metric} is {shown}; its floor is switched off")
    if value is None:
        text = (
            f"{metric} is undefined, n={num_scored}: the test split has nothing to score it on. Label test "
            "documents, or switch this floor off for the domain"
        )
        return GateResult(name=metric, passed=False, blocking=True, value=None, limit=floor, text=text)
    passed = value >= floor
    text = (
        f"{metric} {value:.4f} (n={num_scored}) is {'at least' if passed else 'below'} the floor of {floor:g}"
    )
    if metric == "doc_type_accuracy" and summary.get("num_doc_types") == 1:
        text += "; all test documents are of one type, so this says little"
    return GateResult(name=metric, passed=passed, blocking=True, value=value, limit=floor, text=text)


def _regression_gate(
    metric: str,
    summary: Mapping[str, Any],
    promoted: Mapping[str, Any] | None,
    floors: Floors,
) -> GateResult:
    name = f"{metric}_vs_promoted"
    value = summary.get(metric)
    if promoted is None:
        return _not_gated(name, value, "no model is promoted yet: nothing to compare with, the floors decide")
    if summary.get("test_digest") != promoted.get("test_digest") or summary.get("test_digest") is None:
        text = (
            f"not compared: the promoted model was measured on other test data "
            f"({_short(promoted)}, now {_short(summary)}); the floors decide"
        )
        return _not_gated(name, value, text)
    before = promoted.get(metric)
    if before is None:
        return _not_gated(name, value, f"not compared: {metric} of the promoted model is undefined, n=0")
    limit = before - floors.max_regression
    if value is None:
        text = f"{metric} is undefined, n=0, and the promoted model has {before:.4f}"
        return GateResult(name=name, passed=False, blocking=True, value=None, limit=limit, text=text)
    # 1e-9: 0.950 - 0.005 is 0.945 to a person, and 0.9450000000000001 or so to a machine.
    passed = value >= limit - 1e-9
    text = (
        f"{metric} {value:.4f} is {'not worse' if passed else 'worse'} than the promoted model's "
        f"{before:.4f} "
        f"(tolerance {floors.max_regression:g}, same test data)"
    )
    return GateResult(name=name, passed=passed, blocking=True, value=value, limit=limit, text=text)


def _not_gated(name: str, value: float | None, text: str) -> GateResult:
    return GateResult(name=name, passed=True, blocking=False, value=value, limit=None, text=text)


def _short(summary: Mapping[str, Any]) -> str:
    return str(summary.get("test_digest"))[:12]
