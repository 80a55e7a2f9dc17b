"""The real graph on a dozen pages: `sap-vision run`, what it leaves, a second run, and a cancelled one.

One training with the tiny recipe serves all tests of this file; floors are lowered, for it learns nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest

from sap_vision_assets import cli
from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.publishing import UP_TO_DATE
from sap_vision_assets_tests.defs.conftest import checks, failure, run, statuses
from sap_vision_assets_tests.defs.pages import write_split

SETTINGS = {"floors": {"doc_type_accuracy": 0.0, "field_f1": 0.0}, "workers": 1, "progress_interval_s": 1.0}
TINY = {"recipe": "tiny", "max_steps": 6, "eval_every_steps": 3}
COMMAND = [sys.executable, "-m", "sap_vision_assets.cli", "run"]
SECRET = "f00dfeed-5ap-v1s10n-not-for-any-file"
TRAINED = [*COMMAND, "--recipe=tiny", "--set=max_steps=6", "--set=eval_every_steps=3"]


@dg.job
def nothing() -> None:
    pass


@dataclass
class Ran:
    home: Path
    output: str
    status: int


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A home in which `sap-vision run` has made, and promoted, the general model."""
    home = tmp_path_factory.mktemp("home")
    (home / "settings.json").write_text(json.dumps(SETTINGS))
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        write_split(home / "data", "general", split, count)
        write_split(home / "data", "acme", split, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAP_VISION_HOME", str(home))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("WANDB_API_KEY", SECRET)
        for name in ("SAP_VISION_DATA", "SAP_VISION_VOCABULARY", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        made = subprocess.run(TRAINED, capture_output=True, text=True, check=False)
        patch.setenv("DAGSTER_HOME", str(home))
        yield Ran(home, made.stdout + made.stderr, made.returncode)


@pytest.fixture
def instance(ran: Ran) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def store(ran: Ran) -> ArtifactStore:
    return ArtifactStore(ran.home / "artifacts")


def test_run_promotes_a_model_and_prints_its_figures(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran.status == 0, ran.output
    for line in (
        "prepare_split general|train",
        "general/checkpoint: made in this run",
        "check onnx_parity: passed",
    ):
        assert line in ran.output
    assert "step 6/6" in ran.output
    assert cli.main(["report", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["recipe"] == "tiny"
    assert record["num_documents"] == 3
    assert record["promoted"] is True
    assert set(record["latency_ms"]) == {"mean", "min", "max", "p50", "p95", "p99"}
    assert record["device"] == "cpu"
    assert record["onnx"]["num_flips"] == 0
    assert isinstance(record["int8"]["offered"], bool)
    assert 0 <= record["int8"]["test"]["field_f1"] <= 1
    assert all(len(digest) == 64 for digest in record["digests"].values())


def test_the_instance_of_the_ui_has_the_runs_with_checks_metadata_and_progress(
    ran: Ran, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    runs = {(r.job_name, r.tags.get("dagster/partition")): r for r in instance.get_runs()}
    assert set(runs) == {
        *(("prepare_split", f"general|{split}") for split in ("train", "val", "test")),
        ("general_model", None),
    }
    assert {r.status for r in runs.values()} == {dg.DagsterRunStatus.SUCCESS}
    report = instance.get_latest_materialization_event(dg.AssetKey(["general", "evaluation_report"]))
    assert report is not None
    metadata = report.asset_materialization.metadata  # type: ignore[union-attr]
    assert isinstance(metadata["doc_type_accuracy"], dg.FloatMetadataValue)
    assert isinstance(metadata["gates"], dg.TableMetadataValue)
    assert any(isinstance(value, dg.MarkdownMetadataValue) for value in metadata.values())
    assert Path(str(metadata["report_html"].value)).is_file()
    assert metadata["digest"].value == store.require("general/evaluation_report").digest
    key = dg.AssetKey(["general", "checkpoint"])
    observed = instance.fetch_observations(key, limit=50).records
    names = {name for record in observed for name in record.asset_observation.metadata}
    assert {"step", "loss", "learning_rate", "grad_norm", "documents_per_s", "val_score"} <= names


def test_an_api_key_of_the_environment_is_in_no_file(ran: Ran) -> None:
    """FAULT 62: no log, config, checkpoint or metadata. The twin is a setting that is in all of them."""
    contents = {file: file.read_bytes() for file in ran.home.rglob("*") if file.is_file()}
    assert SECRET not in ran.output
    assert not [file for file, content in contents.items() if SECRET.encode() in content]
    holds_setting = {file.suffix for file, content in contents.items() if b"learning_rate" in content}
    # Artefacts and checkpoints, the training's log, Dagster's events.
    assert holds_setting >= {".json", ".jsonl", ".db"}


def test_the_promoted_model_answers_for_a_page(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    page = ran.home / "data" / "general" / "test" / "annotations" / "test_000.json"
    assert cli.main(["predict", str(page)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["num_words"] == 4
    assert 0 < answer["doc_type"]["confidence"] < 1


def test_again_does_nothing_and_says_so(ran: Ran, instance: dg.DagsterInstance, store: ArtifactStore) -> None:
    before = {file: file.stat().st_mtime_ns for file in store.root.rglob("manifest.json")}
    result = run(instance, "general_model", settings=SETTINGS, ops={"general__checkpoint": {"config": TINY}})
    assert result.success
    assert set(statuses(result).values()) == {UP_TO_DATE}
    assert len(statuses(result)) == 6
    assert {file: file.stat().st_mtime_ns for file in store.root.rglob("manifest.json")} == before


def test_higher_floors_stop_the_promotion_in_its_run(
    ran: Ran, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    floors = {"doc_type_accuracy": 1.0, "field_f1": 1.0}
    assets = [
        f"general/{name}"
        for name in ("evaluation_report", "onnx_model", "latency_benchmark", "promoted_model")
    ]
    before = store.require("general/promoted_model").created_at
    result = run(instance, "general_model", assets=assets, settings={**SETTINGS, "floors": floors})
    assert not result.success
    assert not checks(result)["field_f1"].passed
    assert "general/promoted_model" not in statuses(result)
    alone = run(instance, "general_model", assets=assets[-1:], settings={**SETTINGS, "floors": floors})
    assert "not promoted: " in failure(alone, "general__promoted_model")
    assert store.require("general/promoted_model").created_at == before


def test_a_domain_is_trained_from_the_promoted_general_model(
    ran: Ran, instance: dg.DagsterInstance, store: ArtifactStore
) -> None:
    if "acme" not in instance.get_dynamic_partitions("domain"):
        instance.add_dynamic_partitions("domain", ["acme"])
    for split in ("train", "val", "test"):
        assert run(instance, "prepare_split", f"acme|{split}", settings=SETTINGS).success
    options = {"domain__checkpoint": {"config": {**TINY, "recipe": "tiny_finetune", "max_steps": 3}}}
    assets = ["domain/training_set", "domain/checkpoint"]
    result = run(instance, "domain_model", "acme", assets=assets, settings=SETTINGS, ops=options)
    assert result.success
    checkpoint = store.require("domain/checkpoint", "acme")
    promoted = store.require("general/promoted_model")
    assert checkpoint.spec.inputs["general/checkpoint:"] == promoted.spec.inputs["general/checkpoint:"]
    assert (checkpoint.path / "best" / "model.safetensors").is_file()
    observed = instance.fetch_observations(dg.AssetKey(["domain", "checkpoint"]), limit=1).records
    assert observed[0].asset_observation.partition == "acme"


def test_ctrl_c_cancels_the_run_and_leaves_no_process(ran: Ran, instance: dg.DagsterInstance) -> None:
    with (ran.home / "cancelled.log").open("w+") as log:
        command = subprocess.Popen(
            [*COMMAND, "--recipe=tiny", "--set=max_steps=1000000", "--set=seed=1"], stdout=log, stderr=log
        )
        try:
            training = _wait_for_training(command, ran.home / "cancelled.log")
            command.send_signal(signal.SIGINT)
            assert command.wait(timeout=300) == cli.EXIT_INTERRUPTED
        finally:
            command.kill()  # its worker sees that it is gone, and ends the training
            command.wait()
        log.seek(0)
        assert "interrupted; run the same command again to go on" in log.read()
    assert not [process for process in training if process.is_running()]
    (last,) = instance.get_runs(limit=1)
    assert (last.job_name, last.status) == ("general_model", dg.DagsterRunStatus.CANCELED)
    assert instance.event_log_storage.get_concurrency_info("gpu").claimed_slots == []


def test_ctrl_c_ends_a_run_that_waits_for_the_pool(ran: Ran, instance: dg.DagsterInstance) -> None:
    holder = instance.create_run_for_job(nothing)
    claim = instance.event_log_storage.claim_concurrency_slot("gpu", holder.run_id, "training")
    assert claim.is_claimed
    log_file = ran.home / "waiting.log"
    with log_file.open("w+") as log:
        command = subprocess.Popen([*COMMAND, "--recipe=tiny", "--set=seed=2"], stdout=log, stderr=log)
        try:
            _wait_for(
                lambda: "waits for another run to leave the pool 'gpu'" in log_file.read_text(), command
            )
            family = psutil.Process(command.pid).children(recursive=True)
            command.send_signal(signal.SIGINT)
            assert command.wait(timeout=120) == cli.EXIT_INTERRUPTED
        finally:
            command.kill()
            command.wait()
            instance.event_log_storage.free_concurrency_slots_for_run(holder.run_id)
            instance.delete_run(holder.run_id)
    assert family
    assert not _left(family)
    (last,) = instance.get_runs(limit=1)
    assert (last.job_name, last.status) == ("general_model", dg.DagsterRunStatus.CANCELED)
    assert instance.event_log_storage.get_concurrency_info("gpu").pending_steps == []


def _left(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still do something; one that has ended stays a zombie where nobody asks after it."""
    return [
        process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def _wait_for(condition: Callable[[], bool], command: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _wait_for_training(command: "subprocess.Popen[bytes]", log: Path) -> list[psutil.Process]:
    """The processes below `command` once the training takes steps: worker, torchrun, rank."""
    deadline = time.monotonic() + 300
    while "step 3/1000000" not in log.read_text():
        assert command.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    family = psutil.Process(command.pid).children(recursive=True)
    assert any("sap_vision_assets.training.worker" in process.cmdline() for process in family)
    assert os.getpid() not in {process.pid for process in family}
    return family
