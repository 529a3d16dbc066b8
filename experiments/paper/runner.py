"""Runs in processes of their own: niced, each on one core, as many at a time as there are jobs.

Each process is `scripts/train.py`, which locks its run's directory as long as it lives: when this process is
killed and started again, it waits for those that are still running, and two of it share a directory.
"""

import os
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from tqdm import tqdm

from experiments import exit_status, results
from experiments.paper import configurations, runs
from experiments.paper.configurations import ROOT
from random_bases import locks

_NICENESS = 15
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_END = 10.0

# Milliseconds of a step of SGD, and of 250 directions of 100,000 elements, on one core of an AMD EPYC: first
# guesses, until runs have been measured.
_STEP = {"fc": 0.3, "cnn": 12.0, "resnet8": 25.0}
_HADAMARD = 0.3
_DENSE = 12.0
_START_SECONDS = 12.0
# What counts as hanging: no epoch in an hour, nor in 20 times as long as one should take.
_LEAST_PATIENCE = 3600.0
_PATIENCE = 20.0


class Failure(NamedTuple):
    """A run that did not finish: which, and the end of its log."""

    run: runs.Run
    message: str


def command(run: runs.Run, workdir: Path, data_dir: str) -> List[str]:
    """The command of a run, as one may give it by hand."""
    changes = {**dict(run.series.changes), "epochs": run.epochs, "seed": run.seed}
    return [
        sys.executable,
        str(ROOT / "scripts" / "train.py"),
        f"--config={configurations.path(run.series.config)}",
        *(f"--config.{key}={value}" for key, value in changes.items()),
        f"--virtual_devices={run.series.workers}",
        f"--data_dir={data_dir}",
        f"--workdir={run.directory(workdir)}",
        "--verbose=0",
    ]


def merged(planned: Sequence[runs.Run]) -> List[runs.Run]:
    """Each series and seed once, with the most epochs that anybody wants, in the order of first mention."""
    most: Dict[Any, runs.Run] = {}
    for run in planned:
        key = run.directory(Path())
        if key not in most or most[key].epochs < run.epochs:
            most[key] = run
    return list(most.values())


def left(planned: Sequence[runs.Run], workdir: Path) -> List[runs.Run]:
    """The runs that have not finished (or diverged)."""
    return [run for run in merged(planned) if runs.state(run, workdir).status == "left"]


class _Watch:
    """Looks whether a run still ends epochs.

    Looks are counted, as a machine that slept is no sign of a process that hangs.
    """

    def __init__(self, run: runs.Run, expected_seconds: float):
        self.run = run
        self.patience = max(_LEAST_PATIENCE, _PATIENCE * expected_seconds / run.epochs)
        self._epochs = self._looks = 0

    def hangs(self, workdir: Path) -> bool:
        """Whether the run has not ended an epoch for too long; to be asked at every look."""
        epochs = runs.state(self.run, workdir).epochs
        self._looks = self._looks + 1 if epochs == self._epochs else 0
        self._epochs = epochs
        return self._looks * _SECONDS_BETWEEN_LOOKS > self.patience


class _Process:
    """A run's process; InUseError if another one has locked the run's directory.

    If one does so in the seconds until this one locks it, this one ends with that exit status.
    """

    def __init__(self, run: runs.Run, workdir: Path, data_dir: str, core: Optional[int]):
        self.run = run
        self.core = core
        directory = run.directory(workdir)
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log.txt"
        arguments = command(run, workdir, data_dir)
        locks.take(directory).release()
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(map(shlex.quote, arguments))}\n")
            log.flush()
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=self._settle,
                env=_environment(run),
            )

    def _settle(self) -> None:
        os.nice(_NICENESS)
        if self.core is not None:
            os.sched_setaffinity(0, [self.core])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        self.process.kill()  # what hangs does not hear SIGTERM
        self.process.wait()

    def failure(self) -> Failure:
        return Failure(self.run, self.log.read_text(errors="replace").strip().splitlines()[-1])


def _environment(run: runs.Run) -> Dict[str, str]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    if run.series.workers > 1:
        # Keras 3 cannot evaluate a batch that does not divide by the replicas.
        environment["TF_USE_LEGACY_KERAS"] = "1"
    return environment


def _cores() -> List[Optional[int]]:
    """The cores that this process may use; [None] where a process cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return [None]
    return sorted(os.sched_getaffinity(0))


def run_all(
    planned: Sequence[runs.Run],
    workdir: Path,
    data_dir: str,
    jobs: int,
    seconds: Callable[[runs.Run], float],
) -> List[Failure]:
    """Runs what is left of a plan, the shortest first, and shows how far it is.

    Args:
      planned: runs.
      workdir: their directories are in it.
      data_dir: as of `training.default_config`.
      jobs: processes at a time.
      seconds: the estimate of a whole run, for the progress bar.

    Returns:
      The runs that did not finish, because they failed or hung. They do not stop the others. What another
      process runs is waited for as long as it ends epochs.

    Raises:
      ValueError: if there are more jobs than cores, or less than one; for a configuration that is not valid.
      FileNotFoundError: if a run's data is not there.
    """
    cores = _cores()
    if not 1 <= jobs <= max(len(cores), 1):
        raise ValueError(f"jobs={jobs} is not possible; allowed: 1 to {len(cores)}, the number of cores.")
    configurations.check(left(planned, workdir), data_dir)
    # Once: what is measured under way would change them, and the bar would jump.
    expected = {run: seconds(run) for run in merged(planned)}
    watches = {run: _Watch(run, expected[run]) for run in expected}
    waiting: Deque[runs.Run] = deque(sorted(left(planned, workdir), key=expected.__getitem__))
    free = deque(cores[:jobs])
    running: List[_Process] = []
    failures: List[Failure] = []
    bar = tqdm(
        total=round(sum(expected.values())),
        initial=round(_done_seconds(expected, workdir)),
        bar_format="{percentage:3.0f}%|{bar:20}| {elapsed} elapsed, about {remaining} left{postfix}",
    )
    try:
        while waiting or running:
            failed = []
            for process in list(running):
                watch = watches[process.run]
                if process.process.poll() == exit_status.IN_USE:
                    waiting.append(process.run)
                elif process.process.returncode is not None:
                    failed += [process.failure()] if process.process.returncode else []
                elif watch.hangs(workdir):
                    process.kill()
                    failed.append(
                        Failure(process.run, f"killed, as it ended no epoch in {watch.patience:.0f} s")
                    )
                else:
                    continue
                running.remove(process)
                free.append(process.core)
                if process.process.returncode == 0:
                    bar.write(f"done   {_label(process.run)}")
            failed += _start(waiting, running, free, workdir, data_dir, watches)
            for failure in failed:
                bar.write(f"FAILED {_label(failure.run)}: {failure.message}")
            failures += failed
            bar.n = round(_done_seconds(expected, workdir))
            bar.set_postfix_str(", ".join(_with_epochs(each.run, workdir) for each in running))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        for process in running:
            process.stop()
        bar.close()
    return failures


def _start(
    waiting, running, free, workdir: Path, data_dir: str, watches: Dict[runs.Run, _Watch]
) -> List[Failure]:
    """Starts as many processes as cores are free; what another process runs waits, unless that hangs."""
    failures = []
    for _ in range(len(waiting)):
        if not free:
            break
        run = waiting.popleft()
        if runs.state(run, workdir).status != "left":
            continue
        try:
            running.append(_Process(run, workdir, data_dir, free[0]))
            free.popleft()
        except locks.InUseError:
            if watches[run].hangs(workdir):
                seconds = watches[run].patience
                message = f"another process holds its lock, and ended no epoch in {seconds:.0f} s"
                failures.append(Failure(run, message))
            else:
                waiting.append(run)
    return failures


def _label(run: runs.Run) -> str:
    return f"{run.series.config}/{run.series.name}/seed{run.seed}"


def _with_epochs(run: runs.Run, workdir: Path) -> str:
    return f"{_label(run)} {runs.state(run, workdir).epochs}/{run.epochs}"


def _done_seconds(expected: Dict[runs.Run, float], workdir: Path) -> float:
    done = 0.0
    for run, seconds in expected.items():
        state = runs.state(run, workdir)
        done += seconds if state.status != "left" else seconds * min(state.epochs / run.epochs, 1.0)
    return done


def estimate(run: runs.Run, workdir: Path) -> float:
    """Seconds that a whole run takes: by runs of its series that have finished, else a guess."""
    ended = [
        results.read_result(path)
        for path in (workdir / run.series.config / run.series.name).glob("seed*/result.json")
    ]
    measured = [each["seconds"] / each["config"]["epochs"] for each in ended if each and "seconds" in each]
    per_epoch = min(measured) if measured else _guess(run.series)
    return _START_SECONDS + 1.2 * per_epoch * run.epochs  # a fifth: validation


def _guess(series: runs.Series) -> float:
    """Seconds of an epoch."""
    changes = dict(series.changes)
    examples = 1_097 if series.config.endswith("digits") else 50_000
    milliseconds = next((each for name, each in _STEP.items() if name in series.config), max(_STEP.values()))
    if changes["method"] in ("rbd", "fpd"):
        milliseconds += _HADAMARD if changes["basis"] == "hadamard" else _DENSE
    return examples / changes.get("batch_size", 32) * milliseconds * series.workers / 1e3
