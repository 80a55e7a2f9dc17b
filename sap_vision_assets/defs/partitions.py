"""Partitions: a domain, and a domain's split. One object each: Dagster compares some by identity."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from warnings import catch_warnings, simplefilter

import dagster as dg

from sap_vision_assets.documents.files import DOMAIN_RULE, is_domain_name
from sap_vision_assets.errors import InputError

GENERAL = "general"
"""The domain of the general model; it is always there."""
DOMAIN_DIMENSION = "domain"
TRAIN, VAL, TEST = SPLITS = ("train", "val", "test")

domain_partitions = dg.DynamicPartitionsDefinition(name=DOMAIN_DIMENSION)


@contextmanager
def preview_apis() -> Iterator[None]:
    """Around definitions that use Dagster's multi-partitions, partitioned checks or observable assets.

    They are marked beta or preview in 1.13, which is pinned; each definition would warn at each load.
    """
    with catch_warnings():
        simplefilter("ignore", dg.BetaWarning)
        simplefilter("ignore", dg.PreviewWarning)
        yield


with preview_apis():
    domain_split_partitions = dg.MultiPartitionsDefinition(
        {DOMAIN_DIMENSION: domain_partitions, "split": dg.StaticPartitionsDefinition(list(SPLITS))}
    )
    domain_of_split = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=DOMAIN_DIMENSION)


def split_key(domain: str, split: str) -> str:
    """Dagster's key of the pair: dimensions in alphabetical order, joined by "|"."""
    return f"{domain}|{split}"


def parse_split_key(key: str) -> tuple[str, str]:
    domain, split = key.split("|")
    return domain, split


def require_domain_name(name: str) -> str:
    """`name`, or InputError when it cannot be a domain."""
    if not is_domain_name(name):
        raise InputError(f"domain {name!r}: {DOMAIN_RULE}; rename the folder")
    return name


def refuse_general(partition: str) -> None:
    """Raises InputError for a domain/* asset's "general" partition: that model has assets of its own."""
    if partition == GENERAL:
        raise InputError(
            f"partition {GENERAL!r} of a domain/* asset: the general model is not a domain; materialise the "
            f"{GENERAL}/* assets instead"
        )


def register_domains(instance: dg.DagsterInstance, domains: Iterable[str]) -> None:
    """Makes partitions of those domains that are none yet."""
    known = set(instance.get_dynamic_partitions(DOMAIN_DIMENSION))
    new = [domain for domain in dict.fromkeys(domains) if domain not in known]
    if new:
        instance.add_dynamic_partitions(DOMAIN_DIMENSION, new)
