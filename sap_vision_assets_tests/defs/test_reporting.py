"""Whose figures `sap-vision report` prints."""

from pathlib import Path
from typing import Any

import pytest

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs.publishing import inputs_of
from sap_vision_assets.defs.reporting import render, report
from sap_vision_assets.defs.resources import load_settings
from sap_vision_assets.errors import ArtifactError
from sap_vision_assets_tests.defs.models import SCORES, publish, publish_model


@pytest.fixture
def store(home: Path) -> ArtifactStore:
    """With what publish_model starts from."""
    store = ArtifactStore(home / "artifacts")
    for name in ("tokenized_shards", "validated_dataset"):
        publish(store, name, "general|test", {}, {})
    publish(store, "general/training_set", "", {}, {})
    return store


def promote(store: ArtifactStore, made: dict[str, Artifact]) -> Artifact:
    return publish(store, "general/promoted_model", "", inputs_of(*made.values()), {})


def rows(record: dict[str, Any]) -> dict[str, str]:
    return {
        name: value.strip() for name, value in (line.split("  ", 1) for line in render(record).splitlines())
    }


def test_all_figures_are_of_one_checkpoint(store: ArtifactStore) -> None:
    more = {"doc_type_precision_macro": 0.8, "field_f1_interval": [0.9, 0.95]}
    made = publish_model(store, scores=more)
    promoted = promote(store, made)
    record = report(load_settings(), "general")
    test_digest = store.require("validated_dataset", "general|test").digest
    assert {**SCORES, **more, "test_digest": test_digest, "vocabulary_digest": "v"}.items() <= record.items()
    assert record["recipe"] == "tiny"
    assert record["latency_ms"]["mean"] == 12.0
    assert record["onnx"]["num_flips"] == 0
    assert record["promoted"] is True
    assert record["not_shown"] == {}
    assert record["digests"] == {
        "training_set": store.require("general/training_set").digest,
        "checkpoint": made["checkpoint"].digest,
        "evaluation_report": made["report"].digest,
        "onnx_model": made["onnx"].digest,
        "latency_benchmark": made["latency"].digest,
        "promoted_model": promoted.digest,
    }
    shown = rows(record)
    assert shown["ONNX parity"] == "max difference 1.0e-06, 0 answers differ"
    assert shown["promoted"] == "yes"


def test_an_older_export_is_not_shown_beside_a_newer_checkpoint(store: ArtifactStore) -> None:
    old = publish_model(store)
    promoted = promote(store, old)
    new = publish_model(store, seed=1, scores={"field_f1": 0.5})
    # A failed gate stops the graph before the export: the older one stays current.
    for name in ("onnx", "latency"):
        store.produce(old[name].spec, lambda _out: {})
    record = report(load_settings(), "general")
    assert record["field_f1"] == 0.5
    assert [record[name] for name in ("onnx", "int8", "latency_ms", "device", "hardware")] == [None] * 5
    assert record["promoted"] is False
    assert record["digests"]["checkpoint"] == new["checkpoint"].digest
    assert record["digests"]["onnx_model"] is None
    assert record["not_shown"] == {
        "onnx_model": old["onnx"].digest,
        "latency_benchmark": old["latency"].digest,
        "promoted_model": promoted.digest,
    }
    shown = rows(record)
    assert shown["ONNX model"] == "of another checkpoint, not shown"
    assert shown["latency per page"] == "of another ONNX model, not shown"
    assert shown["promoted"] == "no, another checkpoint is"
    assert not {"ONNX parity", "int8", "measured on"} & shown.keys()


def test_a_checkpoint_that_was_not_evaluated_yet_lends_no_recipe(store: ArtifactStore) -> None:
    made = publish_model(store)
    inputs = made["checkpoint"].spec.inputs
    publish(store, "general/checkpoint", "", inputs, {}, "w", config={"recipe": "another"})
    record = report(load_settings(), "general")
    assert record["recipe"] == "tiny"
    assert record["digests"]["checkpoint"] == made["checkpoint"].digest


def test_an_evaluated_checkpoint_that_is_gone_is_said(store: ArtifactStore) -> None:
    made = publish_model(store)
    (made["checkpoint"].path / "manifest.json").unlink()
    with pytest.raises(
        ArtifactError, match="the checkpoint that it scores is gone; run `sap-vision run` again"
    ):
        report(load_settings(), "general")
