from typing import Any

import pytest

from sap_vision_assets.errors import InputError
from sap_vision_assets.evaluation.gates import (
    Floors,
    GateResult,
    checkpoint_size_gate,
    evaluate_gates,
    latency_gate,
    may_promote,
)


def summary(accuracy: float | None = 0.97, f1: float | None = 0.95, **more: Any) -> dict[str, Any]:
    return {
        "doc_type_accuracy": accuracy,
        "field_f1": f1,
        "num_documents": 200,
        "num_entities": 0 if f1 is None else 5000,
        "num_doc_types": 15,
        "test_digest": "a" * 64,
        **more,
    }


def gates(
    report: dict[str, Any], promoted: dict[str, Any] | None = None, floors: Floors | None = None
) -> dict[str, GateResult]:
    return {gate.name: gate for gate in evaluate_gates(report, floors or Floors(), promoted)}


@pytest.mark.parametrize(
    ("accuracy", "f1", "failing"),
    [
        (0.95, 0.92, set()),
        (0.9499, 0.92, {"doc_type_accuracy"}),
        (0.95, 0.9199, {"field_f1"}),
        (0.0, 0.0, {"doc_type_accuracy", "field_f1"}),
        (None, 0.95, {"doc_type_accuracy"}),
        (0.97, None, {"field_f1"}),
    ],
)
def test_floors(accuracy: float | None, f1: float | None, failing: set[str]) -> None:
    results = gates(summary(accuracy, f1))
    assert {name for name, gate in results.items() if not gate.passed} == failing
    assert all(results[name].blocking for name in failing)
    assert may_promote(list(results.values())) == (not failing)


@pytest.mark.parametrize(
    ("accuracy", "f1", "failing"),
    [
        (0.98, 0.96, set()),
        (0.975, 0.955, set()),  # exactly the tolerance below
        (0.9749, 0.96, {"doc_type_accuracy_vs_promoted"}),
        (0.98, 0.954, {"field_f1_vs_promoted"}),
        (0.98, None, {"field_f1", "field_f1_vs_promoted"}),
    ],
)
def test_no_worse_than_the_promoted_model(accuracy: float, f1: float | None, failing: set[str]) -> None:
    results = gates(summary(accuracy, f1), summary(0.98, 0.96))
    assert {name for name, gate in results.items() if not gate.passed} == failing
    assert may_promote(list(results.values())) == (not failing)


def test_no_promoted_model_is_stated() -> None:
    gate = gates(summary())["field_f1_vs_promoted"]
    assert (gate.passed, gate.blocking, gate.limit) == (True, False, None)
    assert "no model is promoted" in gate.text


def test_other_test_data_is_stated_and_not_compared() -> None:
    results = gates(summary(0.96, 0.93), summary(0.99, 0.99, test_digest="b" * 64))
    gate = results["field_f1_vs_promoted"]
    assert (gate.passed, gate.blocking, gate.limit) == (True, False, None)
    assert "other test data" in gate.text
    assert "bbbbbbbbbbbb" in gate.text
    # The twin: the same figures on the same data fail.
    assert not gates(summary(0.96, 0.93), summary(0.99, 0.99))["field_f1_vs_promoted"].passed


def test_undefined_never_promotes_and_names_the_count() -> None:
    results = gates(summary(0.97, None))
    assert "undefined, n=0" in results["field_f1"].text
    assert results["field_f1"].value is None
    assert not may_promote(list(results.values()))
    # A domain without labelled fields says so by switching the floor off.
    results = gates(summary(0.97, None), floors=Floors(field_f1=None))
    assert "switched off" in results["field_f1"].text
    assert not results["field_f1"].blocking
    assert may_promote(list(results.values()))


def test_promoted_model_without_that_metric() -> None:
    gate = gates(summary(), summary(0.97, None))["field_f1_vs_promoted"]
    assert gate.passed
    assert "undefined" in gate.text


def test_one_document_type_passes_and_says_how_little_that_means() -> None:
    gate = gates(summary(1.0, num_doc_types=1))["doc_type_accuracy"]
    assert gate.passed
    assert "one type" in gate.text
    assert "one type" not in gates(summary(1.0))["doc_type_accuracy"].text


def test_nothing_evaluated_is_no_promotion() -> None:
    assert not may_promote([])


@pytest.mark.parametrize(("num_bytes", "passed"), [(440_000_000, True), (440_000_001, False)])
def test_checkpoint_size(num_bytes: int, passed: bool) -> None:
    gate = checkpoint_size_gate(num_bytes, Floors())
    assert (gate.passed, gate.blocking, gate.value) == (passed, True, num_bytes)


@pytest.mark.parametrize(
    ("latency_ms", "device", "passed", "blocking"),
    [
        (49.9, "cuda", True, True),
        (50.0, "cuda", False, True),
        (400.0, "cpu", False, False),
        (20.0, "cpu", True, False),
        (None, "cuda", False, True),
    ],
)
def test_latency_binds_on_a_gpu_only(
    latency_ms: float | None, device: str, passed: bool, blocking: bool
) -> None:
    gate = latency_gate(latency_ms, device, Floors())
    assert (gate.passed, gate.blocking) == (passed, blocking)
    assert ("only warns" in gate.text) == (device == "cpu")


def test_limits_can_be_switched_off() -> None:
    floors = Floors(checkpoint_bytes_max=None, latency_ms_max=None)
    assert checkpoint_size_gate(10**12, floors).passed
    assert latency_gate(1e6, "cuda", floors).passed


@pytest.mark.parametrize(
    "wrong",
    [{"field_f1": 92}, {"doc_type_accuracy": -0.1}, {"max_regression": -0.1}, {"latency_ms_max": 0}],
)
def test_impossible_floors_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Floors(**wrong)
