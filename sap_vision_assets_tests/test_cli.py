"""The command's contract: exit statuses, messages, JSON. `run` itself is in defs/test_end_to_end.py."""

import json
from pathlib import Path

import pytest

from sap_vision_assets import cli
from sap_vision_assets.artifacts import ArtifactStore
from sap_vision_assets.defs.publishing import inputs_of
from sap_vision_assets.defs.resources import load_settings
from sap_vision_assets.shards import load_tokenizer
from sap_vision_assets.training import TrainingJob, joining, nodes
from sap_vision_assets.training.processes import Ending
from sap_vision_assets.vocabulary import load_vocabulary
from sap_vision_assets_tests.defs.conftest import home  # noqa: F401  (a fixture)
from sap_vision_assets_tests.defs.models import SCORES, publish
from sap_vision_assets_tests.defs.pages import break_page, write_split
from sap_vision_assets_tests.training.making import make_job

COMMANDS = ("synth", "validate", "import", "labels", "run", "join", "report", "predict", "ui")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"example: sap-vision {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["synth", "--out", "x", "--split", "dev", "--num-samples", "1"], ["run", "--set", "x"]],
)
def test_bad_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: sap-vision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["validate", "/no/such/folder"], "/no/such/folder: is no folder"),
        (["labels", "--vocabulary", "/no/such.json"], "vocabulary extension /no/such.json"),
        (["report"], "run `sap-vision run` first"),
        (["report", "--domain", "acme"], "run `sap-vision run --domain acme` first"),
        (["predict", "page.json"], "no model is promoted yet"),
        (["run", "--data", "/no/such/data"], "/no/such/data/general/train: there is no such folder"),
        (["run", "--domain", "A|b"], "domain 'A|b'"),
        (["run", "--set", "steps=3"], "'steps' is no field of a training"),
        (["run", "--recipe", "minilm"], "shards have those of tokenizer 'builtin'; say --tokenizer minilm"),
        (["run", "--set", "initial_weights=minilm", "--tokenizer", "builtin"], "say --tokenizer minilm once"),
        (["run", "--tokenizer", "no such"], "tokenizer 'no such': is no directory and no hub name"),
        (["run", "--recipe", "minilm", "--tokenizer", "minilm"], "general/train: there is no such folder"),
        (["synth", "--out", "x", "--split", "val", "--num-samples", "1", "--domain", "B c"], "domain 'B c'"),
        (["import", "sroie", "/no/such/source", "x"], "/no/such/source"),
        (["import", "adbuy", "/no/such/source", "x"], "/no/such/source/labels.csv"),
    ],
)
def test_errors_are_one_line_and_exit_with_1(
    arguments: list[str],
    said: str,
    home: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(arguments) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("sap-vision: ")
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""
    assert not (home / "settings.json").exists()


def test_the_tokenizer_of_a_run_is_the_installations_from_then_on(
    home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for split in ("train", "val", "test"):
        write_split(home / "data", "general", split, 1)
    load_tokenizer("minilm").save(home / "tokens")
    ran: list[object] = []
    monkeypatch.setattr("sap_vision_assets.defs.headless._execute", lambda *run: ran.append(run[1]))
    monkeypatch.chdir(home / "data")
    for name, remembered, is_news in (
        ("minilm", "minilm", True),
        ("minilm", "minilm", False),
        ("../tokens", str(home / "data" / "../tokens"), True),
    ):
        # The graph is left out, so that there is nothing to report at the end.
        assert cli.main(["run", "--recipe", "minilm", "--tokenizer", name]) == 1
        assert load_settings().tokenizer == remembered
        line = f"tokenizer: {remembered}, from now on (tokenizer in {home / 'settings.json'})"
        assert (line in capsys.readouterr().out) == is_news
    assert ran == [*["prepare_split"] * 3, "general_model"] * 3


def test_validate_exits_with_1_when_something_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_split(tmp_path, "acme", "train", 3)
    assert cli.main(["validate", str(tmp_path)]) == 0
    assert "3 documents accepted, 0 rejected" in capsys.readouterr().out
    break_page(folder, "train_001")
    assert cli.main(["validate", str(folder)]) == 1
    assert "train_001.json" in capsys.readouterr().out


def test_labels_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["labels", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["doc_types"]) == 15
    assert len(record["po_subtypes"]) == 35
    assert len(record["fields"]) == 90
    assert len(record["labels"]) == 181
    assert record["labels"][1] == f"B-{record['fields'][0]['name']}"
    assert record["digest"] == load_vocabulary().digest
    assert cli.main(["labels"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in load_vocabulary().field_names)


def test_labels_reads_an_extension_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extension = tmp_path / "more.json"
    terms = [{"name": "shelfNumber", "sap": "-", "meaning": "Where it lies."}]
    extension.write_text(json.dumps({"version": 1, "fields": terms}))
    monkeypatch.setenv("SAP_VISION_VOCABULARY", str(extension))
    assert cli.main(["labels", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"][-2:] == ["B-shelfNumber", "I-shelfNumber"]


def test_a_report_before_export_says_what_is_known(
    home: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = ArtifactStore(home / "artifacts")
    training_set = {"general/training_set:": "0" * 64}
    checkpoint = publish(store, "general/checkpoint", "", training_set, {}, "w", config={"recipe": "tiny"})
    scores = {**SCORES, "po_subtype_accuracy": None}
    inputs = inputs_of(checkpoint)
    report = publish(store, "general/evaluation_report", "", inputs, scores, "report.html")
    assert cli.main(["report", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["field_f1"] == 0.94
    assert record["po_subtype_accuracy"] is None
    assert record["latency_ms"] is None
    assert record["promoted"] is False
    assert record["digests"]["checkpoint"] == checkpoint.digest
    assert record["digests"]["evaluation_report"] == report.digest
    assert record["digests"]["onnx_model"] is None
    assert cli.main(["report"]) == 0
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["po subtype accuracy"].strip() == "undefined, n=0"
    assert rows["promoted"].strip() == "no"


def test_a_damaged_promoted_model_does_not_answer(
    home: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("model.onnx", "thresholds.json")
    promoted = publish(ArtifactStore(home / "artifacts"), "general/promoted_model", "", {}, {}, *names)
    # The twin: whole, it is opened, and found to be no model.
    assert cli.main(["predict", "page.json"]) == 1
    assert "labels.json: cannot be read" in capsys.readouterr().err
    (promoted.path / "thresholds.json").unlink()
    assert cli.main(["predict", "page.json"]) == 1
    shown = capsys.readouterr()
    assert f"{promoted.path / 'thresholds.json'}: is missing" in shown.err
    assert "materialise general/promoted_model again" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("domain", "folder"), [("general", "general/checkpoint"), ("receipts", "domain/checkpoint/receipts")]
)
def test_join_finds_the_training_of_its_domain(
    domain: str,
    folder: str,
    home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    joined = []

    def run(job: TrainingJob, arguments: list[str], **_: object) -> Ending:
        joined.append(job.out)
        return Ending(status=0, was_stopped=False, failures=[])

    monkeypatch.setattr(joining, "run_torchrun", run)
    command = ["join", "--domain", domain, "--wait-s", "0.05"]
    assert cli.main(command) == 1
    assert "no training of several machines was announced within 0.05 s" in capsys.readouterr().err
    for place in ("general/checkpoint", "domain/checkpoint/receipts", "domain/checkpoint/invoices"):
        draft = home / "artifacts" / place / f"{0:020x}"
        nodes.announce(make_job(home, draft, num_nodes=2), restarts_left=0)
    assert cli.main(command) == 0
    assert joined == [home / "artifacts" / folder / f"{0:020x}"]
