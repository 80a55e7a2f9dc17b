"""The shape of the graph: keys, partitions, dependencies, checks, pools."""

import dataclasses
from pathlib import Path

import dagster as dg
import pytest

from sap_vision_assets.defs.partitions import domain_partitions, domain_split_partitions
from sap_vision_assets.defs.resources import FloorSettings
from sap_vision_assets.evaluation.gates import Floors

MODEL = (
    "training_set",
    "checkpoint",
    "evaluation_report",
    "onnx_model",
    "latency_benchmark",
    "promoted_model",
)
DATA = ("raw_annotations", "validated_dataset", "tokenized_shards")


@pytest.fixture
def graph(home: Path) -> dg.Definitions:
    from sap_vision_assets.definitions import defs

    return defs


def node(graph: dg.Definitions, name: str) -> dg.AssetSpec:
    key = dg.AssetKey(name.split("/"))
    return next(spec for spec in graph.resolve_all_asset_specs() if spec.key == key)


def test_assets_and_their_partitions(graph: dg.Definitions) -> None:
    found = {spec.key.to_user_string(): spec.partitions_def for spec in graph.resolve_all_asset_specs()}
    assert found == {
        **dict.fromkeys(DATA, domain_split_partitions),
        **{f"general/{name}": None for name in MODEL},
        **{f"domain/{name}": domain_partitions for name in MODEL},
    }
    assert all(found[f"domain/{name}"] is domain_partitions for name in MODEL)


def test_raw_annotations_are_observed_never_written(graph: dg.Definitions) -> None:
    assets = graph.resolve_asset_graph()
    raw = assets.get(dg.AssetKey("raw_annotations"))
    assert raw.is_observable
    assert not raw.is_materializable


@pytest.mark.parametrize(
    ("asset", "upstream", "splits"),
    [
        ("training_set", "tokenized_shards", {"general|train", "general|val"}),
        ("training_set", "validated_dataset", {"general|train", "general|val"}),
        ("evaluation_report", "tokenized_shards", {"general|val", "general|test"}),
        ("evaluation_report", "validated_dataset", {"general|test"}),
        ("latency_benchmark", "tokenized_shards", {"general|test"}),
    ],
)
def test_the_general_model_reads_exactly_these_splits(
    graph: dg.Definitions, asset: str, upstream: str, splits: set[str]
) -> None:
    dep = next(d for d in node(graph, f"general/{asset}").deps if d.asset_key == dg.AssetKey(upstream))
    assert isinstance(dep.partition_mapping, dg.SpecificPartitionsPartitionMapping)
    assert set(dep.partition_mapping.partition_keys) == splits


def test_a_domain_starts_from_the_promoted_general_model(graph: dg.Definitions) -> None:
    upstream = {dep.asset_key.to_user_string() for dep in node(graph, "domain/checkpoint").deps}
    assert upstream == {"domain/training_set", "general/promoted_model"}
    assert {dep.asset_key.to_user_string() for dep in node(graph, "general/checkpoint").deps} == {
        "general/training_set"
    }


def test_gates_block_and_are_partitioned_like_their_asset(graph: dg.Definitions) -> None:
    assets = graph.resolve_asset_graph()
    blocking = {}
    for key in assets.asset_check_keys:
        check = assets.get(key)
        blocking[f"{key.asset_key.to_user_string()}:{key.name}"] = check.blocking
        assert check.partitions_def == assets.get(key.asset_key).partitions_def, key
    model = {
        "training_set:no_leakage": True,
        "training_set:class_drift": False,
        "evaluation_report:doc_type_accuracy": True,
        "evaluation_report:field_f1": True,
        "evaluation_report:no_worse_than_promoted": True,
        "evaluation_report:no_test_leakage": True,
        "onnx_model:onnx_parity": True,
        "onnx_model:checkpoint_size": True,
        "latency_benchmark:latency": True,
    }
    assert blocking == {
        "validated_dataset:reject_rate": True,
        "validated_dataset:class_coverage": False,
        **{f"{scope}/{name}": value for scope in ("general", "domain") for name, value in model.items()},
    }


def test_what_needs_the_gpu_waits_for_it(graph: dg.Definitions) -> None:
    assets = graph.resolve_asset_graph()
    pooled = {
        key.to_user_string() for key in assets.materializable_asset_keys if assets.get(key).pools == {"gpu"}
    }
    names = ("checkpoint", "evaluation_report", "latency_benchmark")
    assert pooled == {f"{scope}/{name}" for scope in ("general", "domain") for name in names}


def test_every_asset_says_what_it_is(graph: dg.Definitions) -> None:
    for spec in graph.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.kinds, spec.key
        assert spec.group_name in ("data", "general", "domain")


def test_floor_settings_are_the_gates() -> None:
    declared = {field.name: field.default for field in dataclasses.fields(Floors)}
    assert {name: field.default for name, field in FloorSettings.model_fields.items()} == declared
    assert FloorSettings(field_f1=None).gates() == Floors(field_f1=None)
