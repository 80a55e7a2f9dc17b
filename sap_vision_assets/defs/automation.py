"""What starts by itself: preparing changed splits, fine-tuning domains, nightly retraining."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from sap_vision_assets.artifacts import Artifact, ArtifactStore
from sap_vision_assets.defs.dataset import (
    RAW_ANNOTATIONS,
    TOKENIZED_SHARDS,
    VALIDATED_DATASET,
)
from sap_vision_assets.defs.partitions import (
    DOMAIN_DIMENSION,
    GENERAL,
    SPLITS,
    TRAIN,
    VAL,
    domain_partitions,
    is_domain_name,
    split_key,
)
from sap_vision_assets.defs.publishing import artifact_name, follow
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import (
    CHECKPOINT,
    DOMAIN_SCOPE,
    GENERAL_SCOPE,
    MODEL_ASSETS,
    PROMOTED_MODEL,
    TRAINING_SET,
    Scope,
    scope_of,
)
from sap_vision_assets.defs.training import raw_digest
from sap_vision_assets.errors import SapVisionError

observe_split = dg.define_asset_job(
    "observe_split",
    selection=[RAW_ANNOTATIONS],
    description="Looks at one split's folder and records its digest. Reads only.",
)
prepare_split = dg.define_asset_job(
    "prepare_split",
    selection=[RAW_ANNOTATIONS, VALIDATED_DATASET, TOKENIZED_SHARDS],
    description="Observes, validates and tokenises one split of one domain.",
)
general_model = dg.define_asset_job(
    "general_model",
    selection=[GENERAL_SCOPE.asset_key(asset) for asset in MODEL_ASSETS],
    description="Trains, evaluates, exports and, when every gate passes, promotes the general model.",
)
domain_model = dg.define_asset_job(
    "domain_model",
    selection=[DOMAIN_SCOPE.asset_key(asset) for asset in MODEL_ASSETS],
    description="Fine-tunes the promoted general model to one domain; promotes it behind the same gates.",
)
JOBS = [observe_split, prepare_split, general_model, domain_model]
MODEL_JOBS = {GENERAL_SCOPE.name: general_model.name, DOMAIN_SCOPE.name: domain_model.name}

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def find_domains(settings: Settings) -> tuple[list[str], list[str]]:
    """Domains below the data root, "general" always among them, and folders whose names cannot be one."""
    root = settings.data_path()
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()] if root.is_dir() else []
    with_splits = [entry.name for entry in folders if any((entry / split).is_dir() for split in SPLITS)]
    domains = {GENERAL, *(name for name in with_splits if is_domain_name(name))}
    return sorted(domains), [name for name in with_splits if not is_domain_name(name)]


@dataclass
class Seen:
    """The sensor's memory: the digest of each split, and how often it came back to an earlier one.

    A run key counts once for ever: data that is put back to what it was needs another key the second time.
    """

    now: dict[str, str] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def read(cursor: str | None) -> "Seen":
        record = json.loads(cursor) if cursor else {}
        return Seen(now=record.get("now", {}), times=record.get("times", {}))

    def write(self) -> str:
        return json.dumps({"now": self.now, "times": self.times})

    def run_key(self, name: str, digest: str) -> str:
        """`name:digest`, the same until the digest of `name` changes and comes back."""
        key = f"{name}:{digest[:20]}"
        if self.now.get(name) != digest:
            self.now[name] = digest
            self.times[key] = self.times.get(key, 0) + 1
        returns = self.times[key] - 1
        return f"{key}#{returns}" if returns else key


def prepared(store: ArtifactStore, domain: str, split: str, digest: str) -> bool:
    """Whether today's shards of the split were made from the data of `digest`."""
    key = split_key(domain, split)
    dataset, shards = store.current(VALIDATED_DATASET, key), store.current(TOKENIZED_SHARDS, key)
    return (
        dataset is not None
        and shards is not None
        and raw_digest(dataset) == digest
        and shards.spec.inputs.get(artifact_name(VALIDATED_DATASET, key)) == dataset.digest
    )


def last_training(store: ArtifactStore, scope: Scope, partition: str) -> tuple[Artifact, Artifact] | None:
    """The current checkpoint and the training set that it was made from."""
    checkpoint = store.current(scope.key(CHECKPOINT), partition)
    if checkpoint is None:
        return None
    return checkpoint, follow(store, checkpoint, scope.key(TRAINING_SET), partition)


def why_not_train(
    settings: Settings, store: ArtifactStore, domain: str, digests: Mapping[str, str], min_new_documents: int
) -> str | None:
    """The reason for which `domain` needs no training now, or cannot have one; None: it should be trained."""
    scope, partition = scope_of(domain)
    if scope is DOMAIN_SCOPE and store.current(GENERAL_SCOPE.key(PROMOTED_MODEL)) is None:
        return f"{domain}: no general model is promoted yet, and a domain's starts from it"
    missing = [split for split in SPLITS if split not in digests]
    if missing:
        return f"{domain}: no labelled documents in {', '.join(missing)}"
    waiting = [split for split in SPLITS if not prepared(store, domain, split, digests[split])]
    if waiting:
        return f"{domain}: {', '.join(waiting)} not prepared yet"
    last = last_training(store, scope, partition)
    trained = {} if last is None else last[1].summary["raw_annotations"]
    if all(trained.get(split) == digests[split] for split in (TRAIN, VAL)):
        return f"{domain}: train and val are as they were at the last training"
    num_new = _num_new(settings, store, domain, last)
    if num_new < min_new_documents:
        return f"{domain}: {num_new} documents are new or relabelled, {min_new_documents} start a training"
    return None


def _num_new(
    settings: Settings, store: ArtifactStore, domain: str, last: tuple[Artifact, Artifact] | None
) -> int:
    from sap_vision_assets.shards.training_set import num_new_documents  # noqa: PLC0415

    datasets = {split: store.current(VALIDATED_DATASET, split_key(domain, split)) for split in (TRAIN, VAL)}
    paths = {split: item.path for split, item in datasets.items() if item is not None}
    return num_new_documents(paths, None if last is None else last[1].path, settings.vocabulary())


def as_last_time(store: ArtifactStore, scope: Scope, partition: str) -> dict[str, Any]:
    """Run config for the recipe of the training before; empty, for the default recipe, without one."""
    last = last_training(store, scope, partition)
    if last is None:
        return {}
    options = {"recipe": last[0].spec.config["recipe"]}
    return {"ops": {f"{scope.name}__{CHECKPOINT}": {"config": options}}}


def _content(digests: Mapping[str, str]) -> str:
    """One digest of what a training reads; test labels are not in it."""
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(f"{digests[TRAIN]} {digests[VAL]}".encode()).hexdigest()


def _is_running(instance: dg.DagsterInstance, job: str, partition: str = "") -> bool:
    tags = {"dagster/partition": partition} if partition else {}
    filters = dg.RunsFilter(job_name=job, statuses=_UNFINISHED, tags=tags)
    return bool(instance.get_runs(filters=filters, limit=1))


@dg.sensor(
    name="data_root",
    jobs=[prepare_split, domain_model],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Observes the data root, registers new domains, prepares splits that changed, and fine-tunes "
    "a domain when enough of its documents are new. Changes of a test split never start a training.",
)
def data_root_sensor(context: dg.SensorEvaluationContext, settings: Settings) -> dg.SensorResult:
    store = settings.store()
    seen = Seen.read(context.cursor)
    domains, unusable = find_domains(settings)
    notes = [f"folder {name!r} is skipped: not a domain name (a-z, 0-9, '-', '_')" for name in unusable]
    known = context.instance.get_dynamic_partitions(DOMAIN_DIMENSION)
    new = [domain for domain in domains if domain not in known]
    requests: list[dg.RunRequest] = []
    observations: list[dg.AssetObservation] = []
    for domain in domains:
        try:
            found = _tick_of_domain(context, settings, store, domain, seen)
        except SapVisionError as error:
            # One unreadable domain must not stop the others.
            notes.append(f"{domain}: {error}")
            continue
        requests += found.requests
        observations += found.observations
        notes += found.notes
    for note in notes:
        context.log.info(note)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason("; ".join(notes) or "nothing to do"),
        dynamic_partitions_requests=[domain_partitions.build_add_request(new)] if new else [],
        asset_events=observations,
        cursor=seen.write(),
    )


@dataclass
class _Found:
    requests: list[dg.RunRequest] = field(default_factory=list)
    observations: list[dg.AssetObservation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _tick_of_domain(
    context: dg.SensorEvaluationContext, settings: Settings, store: ArtifactStore, domain: str, seen: Seen
) -> _Found:
    found = _Found()
    digests: dict[str, str] = {}
    for split in SPLITS:
        key = split_key(domain, split)
        state = settings.observe(domain, split)
        if not state.num_annotations:
            continue
        digests[split] = state.digest
        if seen.now.get(key) != state.digest:
            found.observations.append(
                _observation(key, state.digest, state.num_annotations, state.num_images)
            )
        run_key = seen.run_key(key, state.digest)
        if not prepared(store, domain, split, state.digest):
            found.requests.append(
                dg.RunRequest(run_key=run_key, job_name=prepare_split.name, partition_key=key)
            )
    if domain == GENERAL:
        return found
    reason = why_not_train(settings, store, domain, digests, settings.min_new_documents)
    if reason is None and _is_running(context.instance, domain_model.name, domain):
        reason = f"{domain}: its model is being trained"
    if reason is not None:
        found.notes.append(reason)
        return found
    found.requests.append(
        dg.RunRequest(
            run_key=seen.run_key(domain, _content(digests)),
            job_name=domain_model.name,
            partition_key=domain,
            run_config=as_last_time(store, DOMAIN_SCOPE, domain),
        )
    )
    return found


def _observation(key: str, digest: str, num_annotations: int, num_images: int) -> dg.AssetObservation:
    return dg.AssetObservation(
        RAW_ANNOTATIONS,
        partition=key,
        metadata={"num_annotations": num_annotations, "num_images": num_images},
        tags={"dagster/data_version": digest},
    )


@dg.schedule(
    name="general_retraining",
    job=general_model,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Each night, retrains the general model when its train or val documents changed since its "
    "last training; a tick says why when not.",
)
def general_retraining(
    context: dg.ScheduleEvaluationContext, settings: Settings
) -> dg.RunRequest | dg.SkipReason:
    store = settings.store()
    states = {split: settings.observe(GENERAL, split) for split in SPLITS}
    digests = {split: state.digest for split, state in states.items() if state.num_annotations}
    reason = why_not_train(settings, store, GENERAL, digests, min_new_documents=1)
    if reason is None and _is_running(context.instance, general_model.name):
        reason = f"{GENERAL}: its model is being trained"
    if reason is not None:
        return dg.SkipReason(reason)
    return dg.RunRequest(
        run_key=f"{GENERAL}:{_content(digests)[:20]}", run_config=as_last_time(store, GENERAL_SCOPE, "")
    )
