"""Processes of runs: these are of a program that trains nothing, and leaves what a run leaves."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.paper import runs
from random_bases import locks

pytest.importorskip("tqdm", reason="runs need tqdm: pip install -e '.[experiments]'")
from experiments.paper import runner

ROOT = Path(__file__).resolve().parents[3]
SERIES = runs.series("fc_digits", "rbd", basis="hadamard")
OTHER = runs.series("fc_digits", "sgd")

# Arguments: directory, epochs, seconds an epoch, exit status. It locks, counts starts, begins where it ended.
PROGRAM = """
import fcntl, json, os, pathlib, sys, time
directory, epochs, seconds, status = sys.argv[1:]
directory, epochs, seconds, status = pathlib.Path(directory), int(epochs), float(seconds), int(status)
lock = (directory / "lock").open("w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (directory / "came_too_late").touch()
    sys.exit(6)
with (directory / "starts").open("a") as file:
    file.write(f"{os.nice(0)} {len(os.sched_getaffinity(0))}\\n")
(directory / "config.json").write_text(json.dumps({"epochs": epochs}))
metrics = directory / "metrics.csv"
if not metrics.exists():
    metrics.write_text("epoch,accuracy,val_accuracy\\n")
for epoch in range(len(metrics.read_text().splitlines()) - 1, epochs):
    time.sleep(seconds)
    with metrics.open("a") as file:
        file.write(f"{epoch},0.5,0.5\\n")
if status:
    sys.exit("it went wrong")
result = {"status": "finished", "config": {"epochs": epochs}, "seconds": epochs * seconds}
(directory / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Runs of PROGRAM; returns what sets (seconds an epoch, exit status) of a seed."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    behaviour = {}

    def command(run, workdir, data_dir):
        seconds, status = behaviour.get(run.seed, (0, 0))
        return [
            sys.executable,
            str(file),
            str(run.directory(workdir)),
            str(run.epochs),
            str(seconds),
            str(status),
        ]

    monkeypatch.setattr(runner, "command", command)
    return behaviour


def run_all(planned, workdir, jobs=1):
    return runner.run_all(planned, workdir, "", jobs, lambda run: 1.0)


def starts(run, workdir):
    path = run.directory(workdir) / "starts"
    return path.read_text().splitlines() if path.exists() else []


def test_every_run_is_run_once(program, tmp_path):
    planned = SERIES.runs(2, 2) + OTHER.runs(1, 1) + SERIES.runs(1, 1)
    assert run_all(planned, tmp_path) == []
    assert run_all(planned, tmp_path) == []
    for run in SERIES.runs(2, 2) + OTHER.runs(1, 1):
        assert runs.state(run, tmp_path) == runs.State("finished", run.epochs)
        (start,) = starts(run, tmp_path)
        assert start.split() == [str(min(19, os.nice(0) + 15)), "1"]  # niced, on one core


def test_more_epochs_go_on(program, tmp_path):
    run_all(SERIES.runs(1, 1), tmp_path)
    run_all(SERIES.runs(3, 1), tmp_path)
    assert runs.state(SERIES.runs(3, 1)[0], tmp_path).status == "finished"
    assert len(starts(SERIES.runs(3, 1)[0], tmp_path)) == 2


def test_a_failure_is_reported_and_stops_nothing(program, tmp_path, capsys):
    program[0] = (0, 1)
    (failure,) = run_all(SERIES.runs(1, 3), tmp_path)
    assert (failure.run.seed, failure.message) == (0, "it went wrong")
    assert [runs.state(run, tmp_path).status for run in SERIES.runs(1, 3)] == ["left", "finished", "finished"]
    assert "FAILED fc_digits/rbd-hadamard/seed0: it went wrong" in capsys.readouterr().out


def test_a_run_that_hangs_is_killed_and_stops_nothing(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_LEAST_PATIENCE", 3.0)
    monkeypatch.setattr(runner, "_PATIENCE", 0.0)
    program[0] = (600, 0)
    program[1] = (0.5, 0)  # slow, but does not hang
    (failure,) = run_all(SERIES.runs(8, 2), tmp_path)
    assert failure.run.seed == 0 and failure.message == "killed, as it ended no epoch in 3 s"
    assert runs.state(SERIES.runs(8, 2)[1], tmp_path).status == "finished"
    assert "FAILED fc_digits/rbd-hadamard/seed0: killed" in capsys.readouterr().out


def test_what_another_process_runs_is_waited_for(program, tmp_path):
    run = SERIES.runs(1, 1)[0]
    directory = run.directory(tmp_path)
    directory.mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, json, sys, time, pathlib; d = pathlib.Path(sys.argv[1]);"
            "lock = (d / 'lock').open('w'); fcntl.flock(lock, fcntl.LOCK_EX); print('held', flush=True);"
            "time.sleep(1); (d / 'metrics.csv').write_text('epoch,accuracy,val_accuracy\\n0,1,1\\n');"
            "(d / 'result.json').write_text(json.dumps({'status': 'finished', 'config': {'epochs': 1}}))",
            str(directory),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    assert run_all([run], tmp_path) == []
    assert starts(run, tmp_path) == []
    holder.wait()


def test_what_another_process_runs_is_given_up_when_that_hangs(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "_LEAST_PATIENCE", 1.0)
    monkeypatch.setattr(runner, "_PATIENCE", 0.0)
    hanging, other = SERIES.runs(1, 2)
    hanging.directory(tmp_path).mkdir(parents=True)
    with (hanging.directory(tmp_path) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (failure,) = run_all([hanging, other], tmp_path)
    message = "another process holds its lock, and ended no epoch in 1 s"
    assert failure == runner.Failure(hanging, message) and starts(hanging, tmp_path) == []
    assert runs.state(other, tmp_path).status == "finished"
    assert f"FAILED fc_digits/rbd-hadamard/seed0: {message}" in capsys.readouterr().out


def test_what_another_process_takes_before_it_is_locked_is_waited_for(program, tmp_path, monkeypatch):
    program[0] = (4, 0)  # so long the other one has to start, on a machine that is busy, too
    run = SERIES.runs(1, 1)[0]
    directory = run.directory(tmp_path)
    directory.mkdir(parents=True)
    command = runner.command(run, tmp_path, "")
    take = locks.take
    others = []

    def taken_meanwhile(path):
        lock = take(path)
        if not others:
            lock.release()  # as the runner does; then another one's process is the first to lock
            others.append(subprocess.Popen(command))
            while not starts(run, tmp_path):
                time.sleep(0.01)
        return lock

    monkeypatch.setattr(locks, "take", taken_meanwhile)
    assert run_all([run], tmp_path) == []
    assert runs.state(run, tmp_path).status == "finished" and len(starts(run, tmp_path)) == 1
    assert (directory / "came_too_late").exists() and others[0].wait() == 0


def test_stopping_stops_the_processes(program, tmp_path, monkeypatch):
    program[0] = (60, 0)

    def interrupt(seconds):
        if starts(SERIES.runs(1, 1)[0], tmp_path):
            monkeypatch.undo()
            raise KeyboardInterrupt
        real(0.05)

    real = time.sleep
    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_all(SERIES.runs(1, 1), tmp_path)
    with (SERIES.runs(1, 1)[0].directory(tmp_path) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more


@pytest.mark.parametrize("jobs", [0, 10_000])
def test_impossible_numbers_of_jobs_are_refused(jobs, tmp_path):
    with pytest.raises(ValueError, match=f"jobs={jobs} is not possible; allowed: 1 to "):
        run_all([], tmp_path, jobs)


def test_a_process_that_does_not_end_is_killed(program, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_SECONDS_TO_END", 0.2)
    program[0] = (60, 0)
    process = runner._Process(SERIES.runs(1, 1)[0], tmp_path, "", None)
    process.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)  # it does not hear SIGTERM now
    process.stop()
    assert process.process.returncode == -signal.SIGKILL


def test_configurations_and_data_are_checked_before_the_first_run(program, tmp_path):
    for config, changes, message in (
        ("no_such_file", {}, "config='no_such_file' is unknown; allowed: .*fc_digits"),
        ("fc_digits", {"basis": "fourier"}, "basis='fourier' is unknown"),
        ("fc_digits", {"no_such_key": 1}, "no_such_key"),
        ("fc_digits", {"dimensions": "many"}, "dimensions"),
    ):
        planned = SERIES.runs(1, 1) + runs.series(config, "rbd", **changes).runs(1, 1)
        with pytest.raises(ValueError, match=message):
            run_all(planned, tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/mnist.npz"):
        runner.run_all(runs.series("fc_mnist", "sgd").runs(1, 1), tmp_path, str(tmp_path), 1, lambda run: 1.0)
    assert starts(SERIES.runs(1, 1)[0], tmp_path) == []


def test_the_most_epochs_count():
    assert runner.merged(SERIES.runs(2, 2) + OTHER.runs(1, 1) + SERIES.runs(5, 1)) == [
        runs.Run(SERIES, 5, 0), runs.Run(SERIES, 2, 1), runs.Run(OTHER, 1, 0)
    ]  # fmt: skip


def test_estimates_follow_what_was_measured(tmp_path):
    run = SERIES.runs(10, 1)[0]
    guess = runner.estimate(run, tmp_path)
    assert 5 < guess < 60
    directory = runs.Run(SERIES, 2, 3).directory(tmp_path)
    directory.mkdir(parents=True)
    result = {"status": "finished", "seconds": 200.0, "config": {"epochs": 2}}
    (directory / "result.json").write_text(json.dumps(result))
    assert 1000 < runner.estimate(run, tmp_path) < 1300


def test_commands_are_what_one_may_give(tmp_path):
    line = runner.command(
        runs.series("fc_digits", "rbd", workers=2, dimensions=7).runs(3, 2)[1], tmp_path, "data"
    )
    assert line[1] == str(ROOT / "scripts" / "train.py")
    assert {"--config.method=rbd", "--config.dimensions=7", "--config.epochs=3", "--config.seed=1"} < set(
        line
    )
    assert {"--virtual_devices=2", "--data_dir=data"} < set(line)
    assert f"--config={ROOT}/configs/fc_digits.py" in line
