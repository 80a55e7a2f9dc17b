"""What starts by itself: preparing changed splits, fine-tuning domains, nightly retraining."""

import time
from dataclasses import dataclass, field

import dagster as dg

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.dataset import RAW_ANNOTATIONS
from sap_vision_assets.defs.dead_runs import fail_dead_runs
from sap_vision_assets.defs.jobs import domain_model, general_model, prepare_split
from sap_vision_assets.defs.partitions import (
    DOMAIN_DIMENSION,
    GENERAL,
    SPLITS,
    domain_partitions,
    split_key,
)
from sap_vision_assets.defs.resources import Settings
from sap_vision_assets.defs.scopes import DOMAIN_SCOPE, GENERAL_SCOPE
from sap_vision_assets.defs.staleness import (
    Seen,
    as_last_time,
    find_domains,
    prepared,
    training_content,
    why_not_train,
)
from sap_vision_assets.errors import SapVisionError

RUN_KEY_TAG = "dagster/run_key"
RETRY_AFTER_S = 600
"""Seconds after which a run that the machine ended is asked for again."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


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
    settings = settings.today()
    store = settings.store()
    seen = Seen.read(context.cursor)
    for run_id in fail_dead_runs(context.instance, launched_here=True):
        context.log.warning(f"run {run_id} was ended as failed: its process is gone")
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
        if not prepared(settings, store, domain, split, state.digest):
            reason, run_key = _why_not_again(context.instance, seen, key, run_key)
            if reason is not None:
                found.notes.append(reason)
                continue
            found.requests.append(
                dg.RunRequest(run_key=run_key, job_name=prepare_split.name, partition_key=key)
            )
    if domain == GENERAL:
        return found
    reason = why_not_train(settings, store, domain, digests, settings.min_new_documents)
    if reason is None and _is_running(context.instance, domain_model.name, domain):
        reason = f"{domain}: its model is being trained"
    run_key = seen.run_key(domain, training_content(digests)) if reason is None else ""
    if reason is None:
        reason, run_key = _why_not_again(context.instance, seen, domain, run_key)
    if reason is not None:
        found.notes.append(reason)
        return found
    found.requests.append(
        dg.RunRequest(
            run_key=run_key,
            job_name=domain_model.name,
            partition_key=domain,
            run_config=as_last_time(store, DOMAIN_SCOPE, domain),
        )
    )
    return found


def _why_not_again(
    instance: dg.DagsterInstance, seen: Seen, name: str, run_key: str
) -> tuple[str | None, str]:
    """Why the run of `run_key` is not to be asked for (None: it is), and the key to ask with.

    Dagster drops a request whose key it has seen, without a word. A run that ended before one of its steps
    failed met no fault of its content, but of the machine: it gets another key, RETRY_AFTER_S later.
    """
    records = instance.get_run_records(dg.RunsFilter(tags={RUN_KEY_TAG: run_key}), limit=1)
    if not records:
        return None, run_key
    run, ended = records[0].dagster_run, records[0].end_time
    short = run.run_id[:8]
    if not run.is_finished:
        return f"{name}: run {short} is on it", run_key
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    if failures or run.status == dg.DagsterRunStatus.CANCELED:
        how = "was cancelled" if run.status == dg.DagsterRunStatus.CANCELED else "failed"
        return f"{name}: run {short} {how}; mend the cause, then launch {run.job_name} {name} again", run_key
    if run.status == dg.DagsterRunStatus.FAILURE and time.time() - (ended or 0) < RETRY_AFTER_S:
        return f"{name}: run {short} ended before its work; asked for again after {RETRY_AFTER_S} s", run_key
    return None, seen.next_run_key(name, run_key)


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
    settings = settings.today()
    store = settings.store()
    states = {split: settings.observe(GENERAL, split) for split in SPLITS}
    digests = {split: state.digest for split, state in states.items() if state.num_annotations}
    reason = why_not_train(settings, store, GENERAL, digests, min_new_documents=1)
    if reason is None and _is_running(context.instance, general_model.name):
        reason = f"{GENERAL}: its model is being trained"
    if reason is not None:
        return dg.SkipReason(reason)
    return dg.RunRequest(
        run_key=f"{GENERAL}:{training_content(digests)[:20]}",
        run_config=as_last_time(store, GENERAL_SCOPE, ""),
    )
