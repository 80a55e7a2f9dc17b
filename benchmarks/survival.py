"""What a killed training loses: it is killed at random moments and started again until it is done, and every
number that it logged and every weight that it ends with is compared with those of one that nobody killed.

    OMP_NUM_THREADS=1 python benchmarks/survival.py --kills 30 --processes 1 2 --strategies ddp fsdp

One of three moments is drawn from all of a training's time, start-up included, one lies shortly after a step
that is drawn, and one within the writing of a checkpoint. SIGKILL goes to all processes at once, to one rank,
to torchrun, to the process that started it (what Dagster's step is; half of the time the training is then
started again at once), or to a process that reads batches. Prints a line a kill and, last, one JSON line.
Exits with 1 where anything differs, fails or survives. Downloads nothing.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

MARK = "SAP_VISION_SURVIVAL"
"""In the environment of every process of one start, so that it is found whoever its parent is by then."""
GONE_WITHIN_S = 90.0
"""Longer than a rank may take that is asked to save a checkpoint first."""
WRITE_S = 0.03
"""About the time that a checkpoint of the tiny model takes to be written."""
RATES = ("documents_per_s", "tokens_per_s")
"""What differs between two runs of the same training."""


@dataclass(kw_only=True)
class Tally:
    """What one configuration went through."""

    kills: int = 0
    trainings: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    loss_difference: float = 0.0
    weight_difference: float = 0.0
    slowest_end_s: float = 0.0
    survivors: int = 0
    failures: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="of each configuration")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--strategies", nargs="+", default=["ddp"], choices=["ddp", "fsdp"])
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="that read batches, a rank")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and targets")
    parser.add_argument("--shards", type=Path, help="to train on, instead of some of synthetic documents")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        _train(arguments.job)
        return
    configurations = itertools.product(arguments.processes, arguments.strategies, arguments.workers)
    with tempfile.TemporaryDirectory() as scratch:
        shards = arguments.shards or make_shards(Path(scratch))
        found = {}
        for processes, strategy, workers in configurations:
            name = f"{processes} x {strategy}, {workers} workers"
            print(name, flush=True)
            job = make_job(shards, arguments.steps, processes, strategy, workers)
            folder = Path(scratch) / f"{processes}-{strategy}-{workers}"
            found[name] = Trial(folder, job, random.Random(f"{arguments.seed} {name}")).run(arguments.kills)
    result = {
        "kills": sum(tally.kills for tally in found.values()),
        "max_loss_difference": max(tally.loss_difference for tally in found.values()),
        "max_weight_difference": max(tally.weight_difference for tally in found.values()),
        "survivors": sum(tally.survivors for tally in found.values()),
        "failures": sum(len(tally.failures) for tally in found.values()),
        "configurations": {name: vars(tally) for name, tally in found.items()},
    }
    print(json.dumps(result))
    names = ("max_loss_difference", "max_weight_difference", "survivors", "failures")
    sys.exit(int(any(result[name] for name in names)))


def make_shards(scratch: Path) -> Path:
    from sap_vision_assets.documents import build_dataset
    from sap_vision_assets.documents.synthesis.synthesize import synthesize
    from sap_vision_assets.shards import build_shards
    from sap_vision_assets.vocabulary import load_vocabulary

    vocabulary = load_vocabulary()
    synthesize(scratch / "data", num_samples=16, split="train", seed=1)
    dataset, shards = scratch / "dataset", scratch / "shards"
    dataset.mkdir()
    shards.mkdir()
    build_dataset(scratch / "data" / "general" / "train", dataset, vocabulary=vocabulary)
    build_shards(dataset, shards, vocabulary=vocabulary)
    return shards


def make_job(shards: Path, steps: int, processes: int, strategy: str, workers: int) -> Any:
    """The tiny recipe with dropout, so that a lost random state would show; without a directory yet."""
    from sap_vision_assets.training import TrainingJob
    from sap_vision_assets.training.recipes import tiny

    config = tiny()
    assert config.architecture is not None
    config = replace(
        config,
        architecture=replace(config.architecture, dropout=0.1),
        max_steps=steps,
        batch_size=2,
        save_every_steps=10,
        eval_every_steps=25,
        num_processes=processes,
        strategy=strategy,  # type: ignore[arg-type]
        loader_workers=workers,
    )
    return TrainingJob(train_shards=shards, val_shards=shards, out=Path(), config=config)


class Trial:
    """One configuration: a training that nobody kills, and as many as it takes for the kills."""

    def __init__(self, folder: Path, job: Any, chance: random.Random) -> None:
        self._folder, self._job, self._chance = folder, job, chance
        self._tally = Tally()
        self._unbroken = folder / "unbroken"
        folder.mkdir()

    def run(self, kills: int) -> Tally:
        started = time.monotonic()
        if not self._is_done(Start(self._folder, replace(self._job, out=self._unbroken))):
            return self._tally
        seconds = time.monotonic() - started
        print(f"  nobody kills: {seconds:.1f} s", flush=True)
        while self._tally.kills < kills and not self._tally.failures:
            self._tally.trainings += 1
            job = replace(self._job, out=self._folder / f"broken-{self._tally.trainings}")
            kills_before, started = self._tally.kills, time.monotonic()
            while self._tally.kills < kills and self._is_killed(job, seconds):
                pass
            if self._tally.kills == kills_before:  # the machine has become faster, and was not killed
                seconds = min(seconds, time.monotonic() - started)
            if not self._tally.failures and self._is_done(Start(self._folder, job)):
                self._compare(job.out)
        return self._tally

    def _is_killed(self, job: Any, seconds: float) -> bool:
        """Starts `job` and kills it; False when it ended before, or should not have."""
        start = Start(self._folder, job)
        kind = self._tally.kills % 3
        if kind == 0:
            moment = time.monotonic() + self._chance.uniform(0, seconds)
            start.wait_for(lambda: time.monotonic() >= moment)
        elif kind == 1:
            start.first_write(self._chance.randrange(3))
            time.sleep(self._chance.uniform(0, WRITE_S))
        else:
            step = start.last_step(job) + self._chance.randint(1, max(1, job.config.max_steps // 8))
            start.wait_for(lambda: start.last_step(job) >= step)
            time.sleep(self._chance.uniform(0, WRITE_S))
        if not start.is_running:
            self._is_done(start)
            return False
        what = start.phase(job)
        target = self._chance.choice(list(start.targets()))
        if not start.kill(target):
            self._is_done(start)
            return False
        self._tally.kills += 1
        self._tally.targets[target] += 1
        self._tally.moments[what] += 1
        at_once = target == "launcher" and self._chance.random() < 0.5
        waited_s = 0.0 if at_once else start.wait_until_gone()
        self._tally.slowest_end_s = max(self._tally.slowest_end_s, waited_s)
        survivors = [] if at_once else start.left()
        self._tally.survivors += len(survivors)
        print(
            f"  kill {self._tally.kills}: {target} during {what}, after step {start.last_step(job)}; "
            f"{'started again at once' if at_once else f'gone after {waited_s:.1f} s'}",
            flush=True,
        )
        return True

    def _is_done(self, start: "Start") -> bool:
        """Waits for a start that nobody kills."""
        if start.process.wait() == 0:
            return True
        self._tally.failures.append(start.output()[-2000:])
        print(f"  failed by itself:\n{start.output()[-2000:]}", flush=True)
        return False

    def _compare(self, out: Path) -> None:
        expected, found = records(self._unbroken), records(out)
        if [sorted(record) for record in found] != [sorted(record) for record in expected]:
            self._tally.failures.append(f"{len(found)} lines are logged, and {len(expected)} without a kill")
            return
        others = [[value for value in record.values() if not is_number(value)] for record in expected + found]
        if others[: len(expected)] != others[len(expected) :]:
            self._tally.failures.append("what is logged and is no number differs")
            return
        difference = max(
            abs(one[name] - other[name])
            for one, other in zip(expected, found, strict=True)
            for name in one
            if name not in RATES and is_number(one[name])
        )
        self._tally.loss_difference = max(self._tally.loss_difference, difference)
        for name in ("best", "final"):
            largest = weight_difference(self._unbroken / name, out / name)
            self._tally.weight_difference = max(self._tally.weight_difference, largest)
        print(f"  done: losses differ by {difference}, weights by {largest}", flush=True)


class Start:
    """One start of a training, its processes, and what they wrote."""

    _numbers = itertools.count()

    def __init__(self, folder: Path, job: Any) -> None:
        self._mark = f"{folder}-{next(self._numbers)}"
        self._out = job.out
        self._log = folder / "output"
        self._left_over = set(self._drafts())
        file = folder / "job.json"
        file.write_text(json.dumps(job.to_json()))
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--job", str(file)],
                env={**os.environ, MARK: self._mark, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Returns when it holds, or when the start has ended."""
        while self.is_running and not condition():
            time.sleep(0.002)

    def first_write(self, skip: int) -> None:
        """Returns when a directory is being written, after `skip` others; or when the start has ended."""
        seen = set(self._left_over)

        def is_writing() -> bool:
            new = set(self._drafts()) - seen
            seen.update(new)
            return bool(new) and len(seen - self._left_over) > skip

        self.wait_for(is_writing)

    def _drafts(self) -> Iterator[tuple[str, int]]:
        """Name and inode of each directory that is being written, or was when an earlier start was killed."""
        for path in self._out.glob(".*.new"):
            with suppress(FileNotFoundError):
                if path.is_dir():
                    yield path.name, path.stat().st_ino

    def phase(self, job: Any) -> str:
        """What the training is about just now."""
        if set(self._drafts()) - self._left_over:
            return "write"
        if "step " not in self.output().replace("from step", ""):
            return "start-up"
        last = list(lines(self._out))[-1:]
        is_scored = not last or "val_score" in last[0] or last[0]["step"] % job.config.eval_every_steps
        return "steps" if is_scored else "evaluation"

    def last_step(self, job: Any) -> int:
        return max((record["step"] for record in lines(job.out)), default=0)

    def targets(self) -> dict[str, list[psutil.Process]]:
        """What can be killed, by name. Ranks are numbered in the order of their start."""
        every = self.left()
        agents = [one for one in every if _is_module(one, "training.agent")]
        # torchrun's command names the rank's module too; a reader is a fork of its rank.
        ranks = [one for one in every if one not in agents and _is_module(one, "training.worker")]
        numbered = [one for one in ranks if _parent_is(one, "training.agent")]
        found = {
            "all": every,
            "launcher": [one for one in every if one.pid == self.process.pid],
            "torchrun": agents,
            "reader": [one for one in ranks if one not in numbered],
        }
        found |= {f"rank {rank}": [one] for rank, one in enumerate(sorted(numbered, key=lambda one: one.pid))}
        return {name: members for name, members in found.items() if members}

    def kill(self, target: str) -> bool:
        """Kills them; False where none was left to kill."""
        killed = 0
        for member in self.targets().get(target, []):
            with suppress(psutil.NoSuchProcess):
                member.kill()
                killed += 1
        return killed > 0

    def wait_until_gone(self) -> float:
        """Seconds until no process of this start is left, GONE_WITHIN_S at most."""
        started = time.monotonic()
        while self.left() and time.monotonic() - started < GONE_WITHIN_S:
            time.sleep(0.1)
        self.process.poll()
        return time.monotonic() - started

    def left(self) -> list[psutil.Process]:
        self.process.poll()
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def lines(out: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of the log."""
    with suppress(FileNotFoundError):
        for line in (out / "log.jsonl").read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def is_number(value: object) -> bool:
    return isinstance(value, int | float)


def records(out: Path) -> list[dict[str, Any]]:
    return list(lines(out))


def weight_difference(first: Path, second: Path) -> float:
    from safetensors.numpy import load_file

    one, other = (load_file(directory / "model.safetensors") for directory in (first, second))
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def _is_module(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):
        return f"sap_vision_assets.{name}" in process.cmdline()
    return False


def _parent_is(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and _is_module(parent, name)
    return False


def _train(file: Path) -> None:
    from sap_vision_assets.training import TrainingJob, launch

    launch(TrainingJob.read(file), on_line=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
