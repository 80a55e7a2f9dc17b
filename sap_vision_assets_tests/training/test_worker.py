"""Whole processes, without torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from sap_vision_assets.training import folders
from sap_vision_assets_tests.training.making import losses, make_job, train_here

CHANGES: dict[str, Any] = {"max_steps": 90, "save_every_steps": 25, "eval_every_steps": 90}


def start(job_file: Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "sap_vision_assets.training.worker", str(job_file)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(log: Path, step: int, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None:
        if log.exists() and any(json.loads(line)["step"] >= step for line in whole_lines(log)):
            return
        time.sleep(0.1)
    raise AssertionError(process.communicate()[0])


def whole_lines(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_lost_loader_and_kill_leave_a_training_that_ends_to_the_bit(
    short_shards: Path, tmp_path: Path
) -> None:
    """FAULT 60: a loader worker is killed; then the process itself. The twin is the last start."""
    unbroken = make_job(short_shards, tmp_path / "unbroken", **CHANGES)
    train_here(unbroken)
    job = make_job(short_shards, tmp_path / "broken", loader_workers=1, **CHANGES)
    job_file = tmp_path / "job.json"
    job_file.write_text(json.dumps(job.to_json()))
    log = job.out / "log.jsonl"

    # A loader worker is killed: the error names the shards and the documents.
    process = start(job_file)
    wait_for_step(log, 30, process)
    for child in psutil.Process(process.pid).children():
        child.kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert f"{short_shards}: a process that reads batches died near documents ['doc_" in output
    # What was saved is whole, and nothing newer is there to be read.
    assert folders.verify(job.out / "checkpoint-25")
    assert [path.name for path in job.out.iterdir() if path.is_dir()] == ["checkpoint-25"]

    # The process itself is killed.
    process = start(job_file)
    wait_for_step(log, 60, process)
    process.kill()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGKILL
    assert "goes on from step 25" in output

    process = start(job_file)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert "goes on from step 50" in output
    assert "step 90/90  loss" in output
    assert "finished: best score" in output
    assert losses(job.out) == losses(unbroken.out)
    expected = load_file(unbroken.out / "final" / "model.safetensors")
    found = load_file(job.out / "final" / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert sorted(path.name for path in job.out.iterdir()) == sorted(
        path.name for path in unbroken.out.iterdir()
    )
