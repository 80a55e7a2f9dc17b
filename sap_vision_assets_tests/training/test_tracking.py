import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sap_vision_assets.training import launch
from sap_vision_assets.training.recipes import tiny
from sap_vision_assets.training.tracking import RunLog
from sap_vision_assets_tests.training.making import losses, make_job, train_here
from sap_vision_assets_tests.training.test_launcher import ENV

SECRET = "abcdef0123456789abcdef0123456789abcdef01"


def write_run(out: Path, tracker: str, *, first_step: int = 0, completed: bool = True) -> dict[str, str]:
    """Three steps, recorded and shown, and a score after the second. Returns the link."""
    log = RunLog(out, replace(tiny(), tracker=tracker), first_step=first_step, report=lambda _: None)  # type: ignore[arg-type]
    for step in range(first_step + 1, first_step + 4):
        log.record(step, {"loss": 1.0 / step})
        log.show(step, {"loss": 1.0 / step})
    log.show(first_step + 2, {"val_loss": 0.5, "is_best": True})
    return log.close(completed=completed)


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def logged_steps(out: Path) -> list[int]:
    return [record["step"] for record in records(out)]


def refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("grad_norm", [float("inf"), float("nan"), 2.0])
def test_what_is_not_finite_is_left_out(grad_norm: float, tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []
    log = RunLog(tmp_path, tiny(), first_step=0, report=reported.append)
    log.record(1, {"loss": 1.0, "grad_norm": grad_norm})
    log.show(1, {"loss": 1.0, "grad_norm": grad_norm})
    assert log.close(completed=True) == {}
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    expected = {"step": 1, "loss": 1.0} | ({"grad_norm": 2.0} if grad_norm == 2.0 else {})
    assert json.loads(line, parse_constant=refuse) == expected
    assert reported == [expected]


@pytest.mark.parametrize("rest", ["", '{"step": 4, "lo', '{"step": 2, "val_score": 1.0}'])
def test_lines_after_the_checkpoint_are_written_anew(rest: str, tmp_path: Path) -> None:
    write_run(tmp_path, "none")
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write(rest)  # killed in the middle of a line, or before its end
    write_run(tmp_path, "none", first_step=2)
    assert logged_steps(tmp_path) == [1, 2, *([2] if rest.endswith("}") else []), 3, 4, 5]


def test_the_start_is_noted_once_and_stays_when_the_training_goes_on(tmp_path: Path) -> None:
    note = {"step": 0, "initial_weights": "minilm", "new_classes": {}}
    for _ in range(2):  # the first is killed before its first checkpoint
        log = RunLog(tmp_path, tiny(), first_step=0, report=lambda _: None)
        log.note_start("minilm", {})
        log.record(1, {"loss": 1.0})
        log.close(completed=False)
    write_run(tmp_path, "none", first_step=1)
    assert logged_steps(tmp_path) == [0, 1, 2, 3, 4]
    assert records(tmp_path)[0] == note


def test_every_step_is_a_line_and_every_few_are_shown(short_shards: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"max_steps": 8, "eval_every_steps": 8, "tracker": "tensorboard"}
    often, seldom = (
        make_job(short_shards, tmp_path / name, log_every_steps=every, **changes)
        for name, every in (("often", 1), ("seldom", 3))
    )
    train_here(often)
    summary = train_here(seldom)
    for job in (often, seldom):
        assert [record["step"] for record in records(job.out) if "loss" in record] == list(range(1, 9))
        assert [record["step"] for record in records(job.out) if "val_loss" in record] == [8]
    assert losses(seldom.out) == losses(often.out)
    assert next(record for record in records(seldom.out) if "loss" in record).keys() == {
        *("step", "epoch", "loss", "doc_type_loss", "po_subtype_loss", "token_loss"),
        *("learning_rate", "grad_norm", "documents_per_s", "tokens_per_s", "skipped_steps"),
    }
    shown = scalars(seldom.out)
    assert shown.keys() == {
        *("train/epoch", "train/loss", "train/doc_type_loss", "train/po_subtype_loss", "train/token_loss"),
        *("train/learning_rate", "train/grad_norm", "train/documents_per_s", "train/tokens_per_s"),
        *("train/skipped_steps", "val/loss", "val/doc_type_loss", "val/po_subtype_loss", "val/token_loss"),
        *("val/score", "val/doc_type_accuracy", "val/po_subtype_accuracy", "val/field_f1", "val/is_best"),
    }
    # Means of steps 1 to 3, 4 to 6, and 7 and 8.
    parts = [losses(often.out)[part] for part in (slice(0, 3), slice(3, 6), slice(6, 8))]
    means = [
        (step, pytest.approx(sum(part) / len(part))) for step, part in zip((3, 6, 8), parts, strict=True)
    ]
    assert shown["train/loss"] == means
    assert summary is not None
    assert summary["train_loss"] == means[-1][1]
    assert summary["tracking_folder"] == "tensorboard"


def scalars(out: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_no_step_twice_after_a_kill(tmp_path: Path) -> None:
    assert write_run(tmp_path, "tensorboard") == {"tracking_folder": "tensorboard"}
    write_run(tmp_path, "tensorboard", first_step=2)
    assert [step for step, _ in scalars(tmp_path)["train/loss"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in scalars(tmp_path)["val/loss"]] == [2, 4]


class FakeRun:
    """What a server that answers would make of it."""

    disabled = False

    def __init__(self, folder: Path, *, offline: bool) -> None:
        self.offline, self.settings = offline, SimpleNamespace(sync_dir=str(folder / "wandb" / "run"))
        self.url = None if offline else "https://wandb.example/sap-vision/runs/1"
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exit_code: int | None = None

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.logged.append((step, values))

    def finish(self, *, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def fake_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """wandb where everything goes well; `asked` is what it was asked for."""
    import wandb

    fake = SimpleNamespace(asked=[], runs=[], login=lambda *, prompt: not prompt)

    def init(**options: Any) -> FakeRun:
        fake.asked.append(options)
        fake.runs.append(FakeRun(tmp_path, offline=options.get("mode") == "offline"))
        return fake.runs[-1]  # type: ignore[no-any-return]

    fake.init = init
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=SimpleNamespace(mode="online")))
    for name in ("login", "init"):
        monkeypatch.setattr(wandb, name, lambda name=name, **options: getattr(fake, name)(**options))
    return fake


@pytest.mark.parametrize("completed", [True, False])
def test_a_run_online_is_linked_and_says_how_it_ended(
    completed: bool, tmp_path: Path, fake_wandb: SimpleNamespace
) -> None:
    link = write_run(tmp_path, "wandb", completed=completed)
    assert link == {"tracking_url": "https://wandb.example/sap-vision/runs/1"}
    (run,) = fake_wandb.runs
    assert run.exit_code == (0 if completed else 1)
    assert run.logged == [
        *((step, {"train/loss": 1 / step}) for step in (1, 2, 3)),
        (2, {"val/loss": 0.5, "val/is_best": True}),
    ]
    # Started again, it is the same run.
    write_run(tmp_path, "wandb", first_step=3)
    first, second = fake_wandb.asked
    assert first["id"] == second["id"]
    assert second["resume"] == "allow"


def fail(**_: object) -> None:
    raise OSError("no such server")


@pytest.mark.parametrize(
    "break_it",
    [
        lambda fake: setattr(fake, "login", fail),
        lambda fake: setattr(fake, "login", lambda *, prompt: prompt),  # no key, and nobody is asked
    ],
    ids=["login", "key"],
)
def test_without_a_server_the_run_is_kept_offline(
    break_it: Callable[[SimpleNamespace], None],
    tmp_path: Path,
    fake_wandb: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    break_it(fake_wandb)
    with caplog.at_level(logging.WARNING):
        assert write_run(tmp_path, "wandb") == {"tracking_folder": "wandb/run"}
    (run,) = fake_wandb.runs
    assert run.offline
    assert len(run.logged) == 4
    assert "`wandb sync` uploads it" in caplog.text


@pytest.mark.parametrize("where", ["login", "init", "finish"])
def test_a_server_that_never_answers_is_not_waited_for(
    where: str,
    tmp_path: Path,
    fake_wandb: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = threading.Event()
    monkeypatch.setattr("sap_vision_assets.training.wandb_run.CLOSE_S", 0.05)
    if where == "finish":
        monkeypatch.setattr(FakeRun, "finish", lambda *_, **__: answer.wait())
    else:
        setattr(fake_wandb, where, lambda **_: answer.wait())
    with caplog.at_level(logging.WARNING):
        write_run(tmp_path, "wandb")
    # It comes here at all, and all is in the log.
    assert logged_steps(tmp_path) == [1, 2, 3]
    assert "Weights & Biases: no end after" in caplog.text
    answer.set()
    for thread in threading.enumerate():
        if thread.name == "wandb":
            thread.join()  # before wandb is itself again


def test_a_run_that_breaks_costs_a_warning(
    tmp_path: Path,
    fake_wandb: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(FakeRun, "log", fail)
    with caplog.at_level(logging.WARNING):
        write_run(tmp_path, "wandb")
    assert "Weights & Biases failed (" in caplog.text
    assert logged_steps(tmp_path) == [1, 2, 3]


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with 401, as a server of Weights & Biases does to a wrong key."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"errors": [{"message": "invalid API key"}]}'
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None: ...


@contextmanager
def refusing_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("mode", ["offline", "unreachable", "bad key"])
def test_training_completes_and_nothing_holds_the_key(mode: str, short_shards: Path, tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir()
    scratch.mkdir()
    lines: list[str] = []
    job = make_job(short_shards, tmp_path / "out", max_steps=3, log_every_steps=2, tracker="wandb")
    with refusing_server() as refusing:
        environment = {
            **{"HOME": str(home), "TMPDIR": str(scratch), "WANDB_API_KEY": SECRET, "WANDB_HTTP_TIMEOUT": "2"},
            # Port 9 answers nobody.
            "WANDB_BASE_URL": refusing if mode == "bad key" else "http://127.0.0.1:9",
            "WANDB_MODE": "offline" if mode == "offline" else "online",
        }
        summary = launch(job, env={**ENV, **environment}, on_line=lines.append)
    assert [record["step"] for record in records(job.out) if "loss" in record] == [1, 2, 3]
    (kept,) = (job.out / summary["tracking_folder"]).glob("run-*.wandb")
    assert b"train/documents_per_s" in kept.read_bytes()
    text = "\n".join(lines)
    assert ("Weights & Biases takes no run" in text) == (mode != "offline")
    assert ("invalid API key" in text) == (mode == "bad key")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(home in path.parents for path in files)  # its own logs are there
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in text + json.dumps(summary)
    assert not [path for path in job.out.rglob("*") if path.is_symlink()]
