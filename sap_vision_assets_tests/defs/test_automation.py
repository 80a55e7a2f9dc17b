"""What the sensor and the schedule ask for, tick by tick."""

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.objects import StepFailureData

from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.automation import data_root_sensor, general_retraining
from sap_vision_assets.defs.partitions import register_domains
from sap_vision_assets.defs.resources import Settings, load_settings
from sap_vision_assets_tests.defs.conftest import QUIET, run
from sap_vision_assets_tests.defs.models import publish_model
from sap_vision_assets_tests.defs.pages import break_page, write_page, write_split

SPLITS = ("train", "val", "test")


@pytest.fixture
def store(home: Path) -> ArtifactStore:
    return ArtifactStore(home / "artifacts")


def tick(instance: dg.DagsterInstance, cursor: str | None = None, **settings: object) -> dg.SensorResult:
    resources = {"settings": Settings(**{"min_new_documents": 2, **settings})}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        result = data_root_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


@pytest.fixture
def stored(home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with storage, which a schedule's context wants; slow, so runs go to the other one."""
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.local_temp(str(home)) as made:
        register_domains(made, ["general"])
        yield made


def requested(result: dg.SensorResult) -> list[tuple[str | None, str | None]]:
    return [(request.job_name, request.partition_key) for request in result.run_requests or []]


def reason(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return result.skip_reason.skip_message or ""


def carry_out(instance: dg.DagsterInstance, result: dg.SensorResult) -> None:
    """Runs what was asked for, except trainings."""
    for job, partition in requested(result):
        assert job == "prepare_split"
        done = run(instance, job, partition)
        assert done.success, [str(e.step_failure_data.error) for e in done.all_events if e.is_step_failure]


def nightly(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(instance=instance, resources={"settings": Settings()}) as context:
        result = general_retraining(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def test_an_empty_data_root_has_the_general_domain_and_nothing_to_do(home: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = tick(instance)
    assert [list(r.partition_keys) for r in result.dynamic_partitions_requests or []] == [["general"]]
    assert requested(result) == []


def test_new_domains_are_registered_and_prepared_in_one_tick(data: Path) -> None:
    write_split(data, "receipts", "train", 2)
    write_split(data, "receipts", "test", 1)
    write_split(data, "Bad Name", "train", 1)
    (data / "notes").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        result = tick(instance)
    (added,) = result.dynamic_partitions_requests or []
    assert (added.partitions_def_name, list(added.partition_keys)) == ("domain", ["general", "receipts"])
    assert requested(result) == [("prepare_split", "receipts|train"), ("prepare_split", "receipts|test")]
    observed = {event.partition: event.tags["dagster/data_version"] for event in result.asset_events}
    assert set(observed) == {"receipts|train", "receipts|test"}
    keys = [request.run_key for request in result.run_requests or []]
    assert keys == [f"{key}:{digest[:20]}" for key, digest in observed.items()]


def test_names_that_cannot_be_domains_are_reported(
    data: Path, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    write_split(data, "Bad Name", "train", 1)
    assert "folder 'Bad Name' is skipped: not a domain name" in reason(tick(instance))


def test_what_is_prepared_is_not_asked_for_again_until_it_changes(
    data: Path, instance: dg.DagsterInstance
) -> None:
    folder = write_split(data, "acme", "val", 2)
    first = tick(instance)
    carry_out(instance, first)
    second = tick(instance, first.cursor)
    assert requested(second) == []
    assert second.asset_events == []
    write_page(folder, "val_000", words=["another", "page", "stands", "here"])
    third = tick(instance, second.cursor)
    assert requested(third) == [("prepare_split", "acme|val")]
    assert third.run_requests[0].run_key != first.run_requests[0].run_key


def test_another_tokenizer_is_reason_to_prepare_anew_once(data: Path, instance: dg.DagsterInstance) -> None:
    write_split(data, "acme", "val", 2)
    first = tick(instance)
    carry_out(instance, first)
    second = tick(instance, first.cursor, tokenizer="minilm")
    assert requested(second) == [("prepare_split", "acme|val")]
    assert run(instance, "prepare_split", "acme|val", settings={"tokenizer": "minilm"}).success
    assert requested(tick(instance, second.cursor, tokenizer="minilm")) == []


def test_the_sensor_follows_the_settings_file(home: Path, data: Path, instance: dg.DagsterInstance) -> None:
    """Its process began before somebody moved the data root."""
    began_with = load_settings()
    write_split(home / "moved", "acme", "val", 2)
    (home / "settings.json").write_text('{"data_root": "moved"}')
    with dg.build_sensor_context(instance=instance, resources={"settings": began_with}) as context:
        result = data_root_sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert requested(result) == [("prepare_split", "acme|val")]


def test_data_that_is_put_back_gets_a_run_key_of_its_own(data: Path, instance: dg.DagsterInstance) -> None:
    folder = write_split(data, "acme", "val", 2)
    annotation = folder / "annotations" / "val_000.json"
    before = annotation.read_text()
    first = tick(instance)
    record = json.loads(before)
    annotation.write_text(json.dumps({**record, "words": ["a", "b", "c", "d"]}))
    second = tick(instance, first.cursor)
    annotation.write_text(before)
    third = tick(instance, second.cursor)
    keys = [result.run_requests[0].run_key for result in (first, second, third)]
    assert len(set(keys)) == 3
    assert tick(instance, third.cursor).run_requests[0].run_key == keys[2]


def test_a_domain_is_fine_tuned_when_enough_is_new(
    data: Path, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    for domain in ("general", "acme"):
        for split in SPLITS:
            write_split(data, domain, split, 2)
    first = tick(instance)
    assert "fine-tune" not in str(requested(first))
    carry_out(instance, first)
    waiting = tick(instance, first.cursor)
    assert "no general model is promoted yet" in reason(waiting)

    assert run(instance, "general_model", assets=["general/training_set"]).success
    publish_model(store)
    assert run(instance, "general_model", assets=["general/promoted_model"]).success
    due = tick(instance, waiting.cursor, min_new_documents=4)
    assert requested(due) == [("domain_model", "acme")]
    assert due.run_requests[0].run_key.startswith("acme:")
    assert due.run_requests[0].run_config == {}
    few = tick(instance, waiting.cursor, min_new_documents=5)
    assert "4 documents are new, changed or gone, 5 start one" in reason(few)

    # It is trained; from now on only what is new since then counts.
    assert run(instance, "domain_model", "acme", assets=["domain/training_set"]).success
    publish_model(store, "domain", "acme")
    done = tick(instance, due.cursor)
    assert "train and val are as they were at the last training" in reason(done)

    write_split(data, "acme", "test", 3, first=10)
    changed_test = tick(instance, done.cursor)
    assert requested(changed_test) == [("prepare_split", "acme|test")]
    carry_out(instance, changed_test)
    assert "as they were at the last training" in reason(tick(instance, changed_test.cursor))

    write_split(data, "acme", "train", 1, first=10)
    one = tick(instance, changed_test.cursor)
    carry_out(instance, one)
    assert "1 documents are new, changed or gone, 2 start one" in reason(tick(instance, one.cursor))
    annotation = data / "acme" / "val" / "annotations" / "val_000.json"
    record = json.loads(annotation.read_text())
    annotation.write_text(json.dumps({**record, "token_labels": [1, 0, 0, 0]}))
    two = tick(instance, one.cursor)
    carry_out(instance, two)
    again = tick(instance, two.cursor)
    assert requested(again) == [("domain_model", "acme")]
    assert again.run_requests[0].run_key != due.run_requests[0].run_key
    options = {"ops": {"domain__checkpoint": {"config": {"recipe": "tiny"}}}}
    assert again.run_requests[0].run_config == options


def test_the_schedule_retrains_when_train_or_val_changed(
    data: Path, instance: dg.DagsterInstance, stored: dg.DagsterInstance, store: ArtifactStore
) -> None:
    missing = nightly(stored)
    assert isinstance(missing, dg.SkipReason)
    assert "no labelled documents in train, val, test" in (missing.skip_message or "")
    for split in SPLITS:
        write_split(data, "general", split, 2)
    unprepared = nightly(stored)
    assert isinstance(unprepared, dg.SkipReason)
    assert "train, val, test not prepared yet" in (unprepared.skip_message or "")
    carry_out(instance, tick(instance))
    never_trained = nightly(stored)
    assert isinstance(never_trained, dg.RunRequest)

    assert run(instance, "general_model", assets=["general/training_set"]).success
    publish_model(store, seed=5)
    unchanged = nightly(stored)
    assert isinstance(unchanged, dg.SkipReason)
    assert "as they were at the last training" in (unchanged.skip_message or "")

    write_split(data, "general", "test", 1, first=20)
    carry_out(instance, tick(instance))
    assert isinstance(nightly(stored), dg.SkipReason)
    write_split(data, "general", "train", 1, first=20)
    carry_out(instance, tick(instance))
    due = nightly(stored)
    assert isinstance(due, dg.RunRequest)
    assert due.run_key != never_trained.run_key
    # As the last time: the recipe, and what was set beside it.
    assert due.run_config == {"ops": {"general__checkpoint": {"config": {"recipe": "tiny", "seed": 5}}}}


def test_a_running_training_is_not_asked_for_twice(
    data: Path, instance: dg.DagsterInstance, stored: dg.DagsterInstance, store: ArtifactStore
) -> None:
    from sap_vision_assets.definitions import defs

    for split in SPLITS:
        write_split(data, "general", split, 2)
    carry_out(instance, tick(instance))
    stored.create_run_for_job(defs.resolve_job_def("general_model"), status=dg.DagsterRunStatus.STARTED)
    running = nightly(stored)
    assert isinstance(running, dg.SkipReason)
    assert "its model is being trained" in (running.skip_message or "")


def test_a_domain_that_cannot_be_read_stops_no_other(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(data, "acme", "train", 1)
    write_split(data, "other", "train", 1)
    (data / "acme" / "val").mkdir()
    (data / "acme" / "val" / "annotations").write_text("no folder")
    result = tick(instance)
    assert ("prepare_split", "other|train") in requested(result)


def test_the_daemon_accepts_new_domains_and_their_runs_together(
    data: Path, stored: dg.DagsterInstance
) -> None:
    """As the daemon evaluates it: keys of a partition that the same tick adds must resolve."""
    from sap_vision_assets.definitions import defs

    write_split(data, "receipts", "train", 1)
    repository = defs.get_repository_def()
    context = dg.SensorEvaluationContext(
        instance_ref=stored.get_ref(),
        last_tick_completion_time=None,
        last_run_key=None,
        cursor=None,
        log_key=None,
        repository_name=None,
        repository_def=repository,
        resources={"settings": Settings()},
    )
    # Dagster warns of the tags that it gives to multi-partitions itself.
    with context, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ticked = repository.get_sensor_def("data_root").evaluate_tick(context)
    (request,) = ticked.run_requests or []
    assert request.tags["dagster/partition"] == "receipts|train"


@pytest.mark.parametrize("change", ["removed", "words", "boxes", "doc_type"])
def test_every_change_of_a_document_is_reason_to_retrain(
    change: str, data: Path, instance: dg.DagsterInstance, stored: dg.DagsterInstance, store: ArtifactStore
) -> None:
    for split in SPLITS:
        write_split(data, "general", split, 3)
    carry_out(instance, tick(instance))
    assert run(instance, "general_model", assets=["general/training_set"]).success
    publish_model(store)
    assert isinstance(nightly(stored), dg.SkipReason)
    folder = data / "general" / "train"
    annotation = folder / "annotations" / "train_000.json"
    record = json.loads(annotation.read_text())
    if change == "removed":
        annotation.unlink()
        (folder / "images" / record["image_path"]).unlink()
    else:
        other = {"words": ["a", "b", "c", "d"], "boxes": [[1, 2, 3, 4]] * 4, "doc_type": "CONTRACT"}
        annotation.write_text(json.dumps({**record, change: other[change]}))
    carry_out(instance, tick(instance))
    assert isinstance(nightly(stored), dg.RunRequest)


def test_a_renamed_document_is_none(
    data: Path, instance: dg.DagsterInstance, stored: dg.DagsterInstance, store: ArtifactStore
) -> None:
    for split in SPLITS:
        write_split(data, "general", split, 3)
    carry_out(instance, tick(instance))
    assert run(instance, "general_model", assets=["general/training_set"]).success
    publish_model(store)
    folder = data / "general" / "train" / "annotations"
    (folder / "train_000.json").rename(folder / "renamed.json")
    carry_out(instance, tick(instance))
    skipped = nightly(stored)
    assert isinstance(skipped, dg.SkipReason)
    assert "0 documents are new, changed or gone, 1 start one" in (skipped.skip_message or "")


def ended_run(
    instance: dg.DagsterInstance, request: dg.RunRequest, status: dg.DagsterRunStatus, *, step_failed: bool
) -> str:
    """The run that the daemon made of `request`, as it ended."""
    from sap_vision_assets.definitions import defs

    made = instance.create_run_for_job(
        defs.resolve_job_def(str(request.job_name)), tags={"dagster/run_key": str(request.run_key)}
    )
    if step_failed:
        event = dg.DagsterEvent(
            event_type_value="STEP_FAILURE",
            job_name=made.job_name,
            step_key="validated_dataset",
            event_specific_data=StepFailureData(error=None, user_failure_data=None),
        )
        instance.handle_new_event(
            dg.EventLogEntry(
                error_info=None,
                level="error",
                user_message="",
                run_id=made.run_id,
                timestamp=time.time(),
                job_name=made.job_name,
                dagster_event=event,
            )
        )
    if status == dg.DagsterRunStatus.CANCELED:
        instance.report_run_canceled(made)
    elif status == dg.DagsterRunStatus.FAILURE:
        instance.report_run_failed(made)
    return made.run_id[:8]


def test_a_preparation_that_failed_is_named_and_not_repeated(
    data: Path, instance: dg.DagsterInstance
) -> None:
    write_split(data, "acme", "train", 2)
    write_split(data, "other", "train", 2)
    first = tick(instance)
    run_id = ended_run(instance, first.run_requests[0], dg.DagsterRunStatus.FAILURE, step_failed=True)
    other = ended_run(instance, first.run_requests[1], dg.DagsterRunStatus.CANCELED, step_failed=False)
    second = tick(instance, first.cursor)
    assert requested(second) == []
    assert f"acme|train: run {run_id} failed; mend the cause, then launch prepare_split" in reason(second)
    assert f"other|train: run {other} was cancelled" in reason(second)


def test_a_preparation_that_the_machine_ended_is_asked_for_again_later(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(data, "acme", "train", 2)
    first = tick(instance)
    ended_run(instance, first.run_requests[0], dg.DagsterRunStatus.FAILURE, step_failed=False)
    second = tick(instance, first.cursor)
    assert requested(second) == []
    assert "asked for again after 600 s" in reason(second)
    monkeypatch.setattr("sap_vision_assets.defs.automation.RETRY_AFTER_S", 0)
    third = tick(instance, second.cursor)
    assert requested(third) == [("prepare_split", "acme|train")]
    assert third.run_requests[0].run_key == f"{first.run_requests[0].run_key}#1"
    fourth = tick(instance, third.cursor)
    assert fourth.run_requests[0].run_key == third.run_requests[0].run_key


def test_a_preparation_that_a_check_stopped_is_not_repeated(
    data: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many rejects stop it: for ever anew would help nobody."""
    from sap_vision_assets.definitions import defs

    monkeypatch.setattr("sap_vision_assets.defs.automation.RETRY_AFTER_S", 0)
    folder = write_split(data, "acme", "train", 3)
    for name in ("train_000", "train_001"):
        break_page(folder, name)
    first = tick(instance)
    (request,) = first.run_requests
    stopped = defs.resolve_job_def("prepare_split").execute_in_process(
        instance=instance,
        partition_key="acme|train",
        tags={"dagster/run_key": str(request.run_key)},
        run_config=QUIET,
        raise_on_error=False,
    )
    assert not stopped.success
    second = tick(instance, first.cursor)
    assert requested(second) == []
    assert f"acme|train: run {stopped.run_id[:8]} failed; mend the cause" in reason(second)
