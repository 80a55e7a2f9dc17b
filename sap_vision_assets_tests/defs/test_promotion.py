"""Training sets, gates and promotion on artefacts that were made without training."""

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs.gating import PROMOTED_TODAY
from sap_vision_assets.defs.partitions import register_domains
from sap_vision_assets.defs.publishing import inputs_of
from sap_vision_assets_tests.defs.conftest import checks, failure, run, statuses
from sap_vision_assets_tests.defs.models import SCORES, publish, publish_model
from sap_vision_assets_tests.defs.pages import write_page, write_split

PROMOTION = ["general/promoted_model"]


@pytest.fixture
def store(home: Path) -> ArtifactStore:
    return ArtifactStore(home / "artifacts")


def prepare(
    instance: dg.DagsterInstance, data: Path, domain: str, sizes: tuple[int, int, int] = (3, 3, 3)
) -> None:
    for split, count in zip(("train", "val", "test"), sizes, strict=True):
        write_split(data, domain, split, count)
        assert run(instance, "prepare_split", f"{domain}|{split}").success


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose general training set is made; artefacts may be copied, they hold no paths."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("SAP_VISION_HOME", str(folder))
        register_domains(instance, ["general"])
        prepare(instance, folder / "data", "general")
        assert training_set(instance).success
    return folder


@pytest.fixture
def ready(template: Path, home: Path) -> None:
    """The test's home, with the general training set made."""
    shutil.copytree(template, home, dirs_exist_ok=True)


def training_set(instance: dg.DagsterInstance, scope: str = "general", domain: str | None = None) -> Any:
    return run(instance, f"{scope}_model", domain, assets=[f"{scope}/training_set"])


def data_version(result: dg.ExecuteInProcessResult, step: str) -> str:
    return str(result.asset_materializations_for_node(step)[0].tags["dagster/data_version"])


def test_training_set_moves_with_train_and_val_but_not_with_test(
    ready: None, home: Path, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    data = home / "data"
    first = training_set(instance)
    assert first.success
    assert store.require("general/training_set").summary["num_documents"] == {"train": 3, "val": 3}
    before = data_version(first, "general__training_set")

    write_split(data, "general", "test", 1, first=50)
    assert run(instance, "prepare_split", "general|test").success
    again = training_set(instance)
    assert data_version(again, "general__training_set") == before
    assert statuses(again) == {"general/training_set": "up to date: nothing was done"}

    write_split(data, "general", "val", 1, first=50)
    assert run(instance, "prepare_split", "general|val").success
    assert data_version(training_set(instance), "general__training_set") != before


def test_a_page_in_train_and_test_blocks(data: Path, instance: dg.DagsterInstance) -> None:
    prepare(instance, data, "acme")
    assert checks(training_set(instance, "domain", "acme"))["no_leakage"].passed
    for split in ("train", "test"):
        write_page(data / "acme" / split, f"same_{split}", words=["the", "same", "page", "twice"])
        assert run(instance, "prepare_split", f"acme|{split}").success
    result = training_set(instance, "domain", "acme")
    leakage = checks(result)["no_leakage"]
    assert not leakage.passed
    assert leakage.severity == dg.AssetCheckSeverity.ERROR
    assert "train/same_train" in (leakage.description or "")
    assert not result.success


def test_training_needs_documents_and_current_shards(data: Path, instance: dg.DagsterInstance) -> None:
    prepare(instance, data, "acme", (3, 0, 1))
    empty = training_set(instance, "domain", "acme")
    assert "val split" in failure(empty, "domain__training_set")
    write_split(data, "acme", "val", 2)
    assert run(instance, "prepare_split", "acme|val", assets=["validated_dataset"]).success
    stale = training_set(instance, "domain", "acme")
    assert "tokenized_shards acme|val: made from an older dataset" in failure(stale, "domain__training_set")


def test_general_is_no_domain(ready: None, instance: dg.DagsterInstance) -> None:
    refused = training_set(instance, "domain", "general")
    assert "materialise the general/* assets instead" in failure(refused, "domain__training_set")


def test_a_domain_waits_for_a_promoted_general_model(data: Path, instance: dg.DagsterInstance) -> None:
    prepare(instance, data, "acme")
    assert training_set(instance, "domain", "acme").success
    refused = run(instance, "domain_model", "acme", assets=["domain/checkpoint"])
    assert "no general model is promoted yet" in failure(refused, "domain__checkpoint")
    scratch = run(
        instance,
        "domain_model",
        "acme",
        assets=["domain/checkpoint"],
        ops={"domain__checkpoint": {"config": {"recipe": "demo"}}},
    )
    assert "_finetune" in failure(scratch, "domain__checkpoint")


def test_a_model_that_passes_every_gate_is_promoted(
    ready: None, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    made = publish_model(store)
    result = run(instance, "general_model", assets=PROMOTION)
    assert result.success
    promoted = store.require("general/promoted_model")
    assert set(promoted.files) == {
        "model.onnx",
        "labels.json",
        "report.json",
        "thresholds.json",
        "latency.json",
    }
    assert promoted.spec.inputs["general/checkpoint:"] == made["checkpoint"].digest
    metadata = result.asset_materializations_for_node("general__promoted_model")[0].metadata
    assert metadata["field_f1"] == dg.FloatMetadataValue(0.94)


@pytest.mark.parametrize(
    ("model", "settings", "gate"),
    [
        ({"scores": {"doc_type_accuracy": 0.949}}, {}, "doc_type_accuracy"),
        ({"scores": {"field_f1": 0.919}}, {}, "field_f1"),
        ({"scores": {"field_f1": None, "num_entities": 0}}, {}, "undefined, n=0"),
        ({"parity": {"max_abs_difference": 2e-4}}, {}, "onnx_parity"),
        ({"parity": {"num_flips": 1}}, {}, "onnx_parity"),
        ({"device": "cuda", "mean_ms": 50.0}, {}, "latency"),
        ({}, {"floors": {"checkpoint_bytes_max": 10}}, "checkpoint_size"),
        ({}, {"domain_floors": {"general": {"field_f1": 0.95}}}, "field_f1"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_one_failing_gate_stops_the_promotion_also_alone(
    instance: dg.DagsterInstance,
    store: ArtifactStore,
    model: dict[str, Any],
    settings: dict[str, Any],
    gate: str,
) -> None:
    publish_model(store, **model)
    result = run(instance, "general_model", assets=PROMOTION, settings=settings)
    said = failure(result, "general__promoted_model")
    assert said.startswith("not promoted: ")
    assert gate in said
    assert store.current("general/promoted_model") is None


def test_a_slow_cpu_only_warns(ready: None, instance: dg.DagsterInstance, store: ArtifactStore) -> None:
    publish_model(store, device="cpu", mean_ms=400.0)
    assert run(instance, "general_model", assets=PROMOTION).success


def test_a_worse_model_does_not_replace_the_promoted_one(
    ready: None, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    publish_model(store)
    assert run(instance, "general_model", assets=PROMOTION).success
    before = store.require("general/promoted_model").digest
    publish_model(store, seed=1, scores={"field_f1": 0.93})
    result = run(instance, "general_model", assets=PROMOTION)
    assert "field_f1 0.9300 is worse than the promoted model's 0.9400" in failure(
        result, "general__promoted_model"
    )
    assert store.require("general/promoted_model").digest == before
    publish_model(store, seed=2, scores={"field_f1": 0.96})
    assert run(instance, "general_model", assets=PROMOTION).success
    assert store.require("general/promoted_model").digest != before


def test_a_report_of_another_checkpoint_is_not_promoted(
    ready: None, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    old = publish_model(store)
    publish_model(store, seed=1)
    store.produce(old["checkpoint"].spec, lambda _out: {})  # the older checkpoint is current again
    result = run(instance, "general_model", assets=PROMOTION)
    assert "was made from another checkpoint than the current one" in failure(
        result, "general__promoted_model"
    )


def move(instance: dg.DagsterInstance, home: Path, split: str) -> None:
    """Adds a page to a split of the general domain, and prepares it."""
    write_split(home / "data", "general", split, 1, first=50)
    assert run(instance, "prepare_split", f"general|{split}").success


def score_today(store: ArtifactStore, checkpoint: Artifact, field_f1: float) -> None:
    """What evaluation leaves when it scores the promoted checkpoint on today's test split."""
    shards, test = (store.require(name, "general|test") for name in ("tokenized_shards", "validated_dataset"))
    scores = {**SCORES, "field_f1": field_f1, "test_digest": test.digest, "vocabulary_digest": "v"}
    inputs = inputs_of(checkpoint, shards, test)
    publish(store, f"general/{PROMOTED_TODAY}", "", inputs, scores, "report.json")


@pytest.mark.parametrize("is_replaced", [True, False])
def test_the_model_that_is_promoted_now_is_the_one_to_compare_with(
    is_replaced: bool, ready: None, home: Path, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    first = publish_model(store)
    assert run(instance, "general_model", assets=PROMOTION).success
    move(instance, home, "test")
    score_today(store, first["checkpoint"], 0.93)
    if is_replaced:
        publish_model(store, seed=1, scores={"field_f1": 0.99})
        assert run(instance, "general_model", assets=PROMOTION).success
    before = store.require("general/promoted_model").digest
    publish_model(store, seed=2, scores={"field_f1": 0.93})
    result = run(instance, "general_model", assets=PROMOTION)
    if not is_replaced:
        # 0.93 is as good as the first model is on today's pages, on which the gate compares the two.
        assert result.success
        return
    said = failure(result, "general__promoted_model")
    assert "field_f1 0.9300 is worse than the promoted model's 0.9900" in said
    assert store.require("general/promoted_model").digest == before


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("is_gone", [True, False])
def test_an_evaluation_succeeds_whether_or_not_the_promoted_model_can_be_scored_again(
    is_gone: bool,
    home: Path,
    instance: dg.DagsterInstance,
    store: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evaluate(checkpoint: Path, *, test_dataset: Path, out: Path, **_: Any) -> dict[str, Any]:
        row = {"name": "STANDARD", "f1": 0.5, "precision": 0.5, "recall": 0.5, "support": 2}
        rows = {"per_field": [], "per_class": [{**row, "num_predicted": 2}]}
        report = {"fields": rows, "doc_type": rows, "po_subtype": rows}
        (out / "report.json").write_text(json.dumps(report))
        averages = {"po_subtype_f1_macro": 1, "field_recall_weighted": None}
        return {**SCORES, **averages, "test_digest": test_dataset.name, "vocabulary_digest": "v"}

    monkeypatch.setattr("sap_vision_assets.evaluation.report.evaluate", evaluate)
    publish_model(store)
    assert run(instance, "general_model", assets=PROMOTION).success
    val_shards = store.require("tokenized_shards", "general|val")
    for split in ("val", "test"):
        move(instance, home, split)
    assert training_set(instance).success
    publish_model(store, seed=1)
    if is_gone:
        shutil.rmtree(val_shards.path)
    result = run(instance, "general_model", assets=["general/evaluation_report"])
    assert result.success
    compared = checks(result)["no_worse_than_promoted"].description or ""
    assert ("not compared" in compared) == is_gone
    assert (store.current(f"general/{PROMOTED_TODAY}") is None) == is_gone
    metadata = result.asset_materializations_for_node("general__evaluation_report")[0].metadata
    assert metadata["po_subtype_f1_macro"] == dg.FloatMetadataValue(1.0)
    assert metadata["field_recall_weighted"].value == "undefined, n=0"
    (row,) = metadata["po_subtypes"].records  # type: ignore[attr-defined]  # a table
    assert row.data["po_subtype"] == "STANDARD"
