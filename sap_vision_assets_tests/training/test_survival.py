"""Killed anywhere, and started again until it is done, a training is equal to one that nobody killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "survival.py"


@pytest.mark.parametrize(
    ("kills", "options"),
    [
        (3, ["--processes=1", "--strategies=ddp", "--workers=1"]),
        (2, ["--processes=2", "--strategies=fsdp", "--workers=0"]),
    ],
    ids=["one rank", "two ranks"],
)
def test_killed_at_random_moments_it_loses_nothing(
    kills: int, options: list[str], short_shards: Path, tmp_path: Path
) -> None:
    """FAULT 46, with a few moments of `benchmarks/survival.py`: one lies in the writing of a checkpoint.

    The twin is the training that the script leaves alone; it exits with 1 where a number differs.
    """
    command = [sys.executable, str(SCRIPT), f"--kills={kills}", "--steps=60", f"--shards={short_shards}"]
    root = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    (tally,) = result.pop("configurations").values()
    assert result == {
        **{"kills": kills, "max_loss_difference": 0.0, "max_weight_difference": 0.0},
        **{"survivors": 0, "failures": 0},
    }
    assert sum(tally["targets"].values()) == kills
