"""raw_annotations, validated_dataset and tokenized_shards of one split."""

from pathlib import Path

import dagster as dg
import pytest

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.publishing import UP_TO_DATE
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets_tests.defs.conftest import checks, failure, run, statuses
from sap_vision_assets_tests.defs.pages import break_page, write_split

MADE = "made in this run"


def store(home: Path) -> ArtifactStore:
    return ArtifactStore(home / "artifacts")


def test_a_split_is_observed_validated_and_tokenised(
    home: Path, data: Path, instance: dg.DagsterInstance
) -> None:
    write_split(data, "acme", "train", 6)
    result = run(instance, "prepare_split", "acme|train")
    assert result.success
    assert statuses(result) == {"validated_dataset": MADE, "tokenized_shards": MADE}
    assert {name: check.passed for name, check in checks(result).items()} == {
        "reject_rate": True,
        "class_coverage": False,
    }
    dataset = store(home).require("validated_dataset", "acme|train")
    assert dataset.summary["num_documents"] == 6
    (observation,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.ASSET_OBSERVATION]
    data_version = observation.asset_observation_data.asset_observation.tags["dagster/data_version"]
    assert dataset.spec.inputs == {"raw_annotations:acme|train": data_version}
    materialization = result.asset_materializations_for_node("validated_dataset")[0]
    assert materialization.tags["dagster/data_version"] == dataset.digest
    assert materialization.partition == "acme|train"


def test_again_does_nothing_and_says_so_wherever_the_data_lies(
    home: Path, data: Path, instance: dg.DagsterInstance
) -> None:
    write_split(data, "acme", "train", 3)
    assert run(instance, "prepare_split", "acme|train").success
    before = sorted(file.stat().st_mtime_ns for file in (home / "artifacts").rglob("*.parquet"))
    moved = data.rename(home / "elsewhere")
    result = run(instance, "prepare_split", "acme|train", settings={"data_root": str(moved)})
    assert statuses(result) == {"validated_dataset": UP_TO_DATE, "tokenized_shards": UP_TO_DATE}
    assert sorted(file.stat().st_mtime_ns for file in (home / "artifacts").rglob("*.parquet")) == before
    logged = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert f"validated_dataset:acme|train: {UP_TO_DATE}" in logged


def test_another_tokenizer_makes_the_shards_anew_and_the_same_elsewhere_does_not(
    home: Path, data: Path, instance: dg.DagsterInstance
) -> None:
    write_split(data, "acme", "train", 3)
    assert run(instance, "prepare_split", "acme|train").success
    before = store(home).require("tokenized_shards", "acme|train")
    changed = run(instance, "prepare_split", "acme|train", settings={"tokenizer": "minilm"})
    assert statuses(changed) == {"validated_dataset": UP_TO_DATE, "tokenized_shards": MADE}
    shards = store(home).require("tokenized_shards", "acme|train")
    minilm = load_tokenizer("minilm")
    assert shards.spec.config["tokenizer_digest"] == shards.summary["tokenizer_digest"] == minilm.digest
    assert before.spec.config["tokenizer_digest"] == load_tokenizer("builtin").digest
    assert (shards.path / "tokenizer" / "tokenizer.json").is_file()
    minilm.save(home / "tokens")
    same = run(instance, "prepare_split", "acme|train", settings={"tokenizer": "tokens"})
    assert statuses(same) == {"validated_dataset": UP_TO_DATE, "tokenized_shards": UP_TO_DATE}


def test_too_many_rejects_stop_only_their_own_partition(
    home: Path, data: Path, instance: dg.DagsterInstance
) -> None:
    folder = write_split(data, "acme", "train", 5)
    write_split(data, "other", "train", 5)
    break_page(folder, "train_003")
    settings = {"max_reject_rate": 0.1}
    failed = run(instance, "prepare_split", "acme|train", settings=settings)
    assert not failed.success
    reject_rate = checks(failed)["reject_rate"]
    assert not reject_rate.passed
    assert reject_rate.severity == dg.AssetCheckSeverity.ERROR
    assert "1 of 5 documents rejected" in (reject_rate.description or "")
    assert statuses(failed) == {"validated_dataset": MADE}
    assert store(home).current("tokenized_shards", "acme|train") is None
    passed = run(instance, "prepare_split", "other|train", settings=settings)
    assert passed.success
    assert set(statuses(passed)) == {"validated_dataset", "tokenized_shards"}
    assert run(instance, "prepare_split", "acme|train", settings={"max_reject_rate": 0.2}).success


def test_a_missing_folder_is_refused(home: Path, data: Path, instance: dg.DagsterInstance) -> None:
    result = run(instance, "prepare_split", "acme|val", assets=["validated_dataset"])
    assert not result.success
    said = failure(result, "validated_dataset")
    assert str(data / "acme" / "val") in said
    assert "SAP_VISION_DATA" in said
    assert store(home).current("validated_dataset", "acme|val") is None


def test_an_empty_folder_is_an_empty_dataset(home: Path, data: Path, instance: dg.DagsterInstance) -> None:
    write_split(data, "acme", "val", 0)
    assert run(instance, "prepare_split", "acme|val").success
    assert store(home).require("validated_dataset", "acme|val").summary["num_documents"] == 0


def test_data_that_changes_while_it_is_read_is_not_published(
    home: Path, data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sap_vision_assets import documents

    folder = write_split(data, "acme", "train", 3)
    build = documents.build_dataset

    def build_while_copying(*args: object, **kwargs: object) -> object:
        write_split(data, "acme", "train", 1, first=7)
        return build(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(documents, "build_dataset", build_while_copying)
    result = run(instance, "prepare_split", "acme|train")
    assert not result.success
    assert f"{folder}: changed while it was read" in failure(result, "validated_dataset")
    assert store(home).current("validated_dataset", "acme|train") is None
    monkeypatch.undo()
    monkeypatch.setenv("SAP_VISION_HOME", str(home))
    assert run(instance, "prepare_split", "acme|train").success


def test_bad_domain_names_are_refused(home: Path, data: Path, instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions("domain", ["Acme Corp"])
    write_split(data, "Acme Corp", "train", 1)
    result = run(instance, "prepare_split", "Acme Corp|train", assets=["validated_dataset"])
    assert not result.success
    assert "rename the folder" in failure(result, "validated_dataset")
