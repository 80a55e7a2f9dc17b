"""The two kinds of models, the general one and one for each business domain, and their assets' names."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from sap_vision_assets.defs.partitions import (
    GENERAL,
    domain_of_split,
    domain_partitions,
    refuse_general,
    split_key,
)

TRAINING_SET = "training_set"
CHECKPOINT = "checkpoint"
EVALUATION_REPORT = "evaluation_report"
ONNX_MODEL = "onnx_model"
LATENCY_BENCHMARK = "latency_benchmark"
PROMOTED_MODEL = "promoted_model"
MODEL_ASSETS = (TRAINING_SET, CHECKPOINT, EVALUATION_REPORT, ONNX_MODEL, LATENCY_BENCHMARK, PROMOTED_MODEL)


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the factory is called with."""

    name: str
    """First part of the asset keys, and the group."""
    partitions_def: dg.PartitionsDefinition[str] | None
    recipe: str
    """Of a training that names none."""

    def key(self, asset: str) -> str:
        """Such as "general/checkpoint": Dagster's key and the store's name alike."""
        return f"{self.name}/{asset}"

    def asset_key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, asset])

    def domain(self, partition: str) -> str:
        """The domain that this partition's model reads; raises InputError for "general" as a domain."""
        if self.partitions_def is None:
            return GENERAL
        refuse_general(partition)
        return partition

    def split_dep(self, asset: str, splits: Sequence[str]) -> dg.AssetDep:
        """Dependency on `splits` of a domain x split asset.

        A domain's partition maps to all its splits: Dagster has no built-in mapping to just some of them, and
        the daemon loads no mapping of one's own. What is read is decided in the asset's body.
        """
        if self.partitions_def is None:
            keys = [split_key(GENERAL, split) for split in splits]
            return dg.AssetDep(asset, partition_mapping=dg.SpecificPartitionsPartitionMapping(keys))
        return dg.AssetDep(asset, partition_mapping=domain_of_split)


GENERAL_SCOPE = Scope(name=GENERAL, partitions_def=None, recipe="demo")
DOMAIN_SCOPE = Scope(name="domain", partitions_def=domain_partitions, recipe="demo_finetune")
SCOPES = (GENERAL_SCOPE, DOMAIN_SCOPE)


def scope_of(domain: str) -> tuple[Scope, str]:
    """The scope whose assets model `domain`, and the partition in it."""
    return (GENERAL_SCOPE, "") if domain == GENERAL else (DOMAIN_SCOPE, domain)
