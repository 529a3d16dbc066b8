"""The launcher: what workers are told, whose output it is, and how it all ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def command(program, *flags, workers=3):
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_workers.py"), f"--workers={workers}", *flags]
    return [*launcher, "--", sys.executable, "-c", program]


def launch(program, *flags, **options):
    return subprocess.run(command(program, *flags, **options), capture_output=True, text=True, timeout=60)


def test_workers_get_their_place_and_output_its_number():
    done = launch("import os; print(os.environ['TF_CONFIG'])")
    assert done.returncode == 0
    lines = sorted(done.stdout.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] ", "[2] "]
    told = [json.loads(line[4:]) for line in lines]
    assert [each["task"] for each in told] == [{"type": "worker", "index": i} for i in range(3)]
    addresses = told[0]["cluster"]["worker"]
    assert all(each["cluster"]["worker"] == addresses for each in told)
    assert len(set(addresses)) == 3 and all(address.startswith("127.0.0.1:") for address in addresses)


FAILING = """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
print(os.getpid(), flush=True)
if index == 1:
    time.sleep(0.5)
    {how}
time.sleep(60)
"""


def assert_ended(output):
    for line in output.splitlines():
        assert not Path(f"/proc/{line.split()[1]}").exists()


def test_one_failure_ends_all_with_its_status():
    begin = time.monotonic()
    done = launch(FAILING.format(how="sys.exit(7)"))
    assert done.returncode == 7 and "Worker 1 failed with status 7" in done.stderr
    assert time.monotonic() - begin < 30
    assert len(done.stdout.splitlines()) == 3
    assert_ended(done.stdout)


def test_a_killed_worker_is_a_failure():
    done = launch(FAILING.format(how="os.kill(os.getpid(), 9)"))
    assert done.returncode == 128 + 9 and "Worker 1 failed with signal 9" in done.stderr


# A worker that beats as `experiments.workers.Heartbeat` does; one of three stops doing so.
BEATING = """
import json, os, signal, threading, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
path = os.path.join(os.environ["RANDOM_BASES_HEARTBEATS"], str(index))
print(os.getpid(), flush=True)
for step in range(600):
    progress = min(step, 5 if index == 1 else 6) if {stuck} else step
    with open(path + ".tmp", "w") as file:
        file.write(str(progress))
    os.replace(path + ".tmp", path)
    if not {stuck} and index == 1 and step == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.1)
"""


def test_a_stopped_worker_is_named():
    done = launch(BEATING.format(stuck=False), "--timeout=3")
    assert done.returncode == 124
    assert "Worker 1 gives no sign of life since 3 s" in done.stderr
    assert_ended(done.stdout)


ENDING = f"""{BEATING}
    if index == {{index}} and step == {{step}}:
        raise SystemExit({{status}})
"""


def test_a_stopped_worker_is_named_where_another_fails_first():
    # As TensorFlow ends a worker whose peer does not answer.
    done = launch(ENDING.format(stuck=False, index=0, step=60, status=9))
    assert done.returncode == 124
    assert "Worker 0 failed with status 9" in done.stderr
    assert "Worker 1 gives no sign of life since 5 s; ending all." in done.stderr
    assert_ended(done.stdout)


def test_one_that_has_ended_well_does_not_hide_one_that_makes_no_progress():
    begin = time.monotonic()
    done = launch(ENDING.format(stuck=True, index=2, step=8, status=0), "--timeout=3")
    assert done.returncode == 124 and time.monotonic() - begin < 30
    assert "Worker 1 makes no progress since 3 s" in done.stderr


def test_a_worker_for_which_the_others_wait_is_named():
    done = launch(BEATING.format(stuck=True), "--timeout=3")
    assert done.returncode == 124
    assert "Worker 1 makes no progress since 3 s" in done.stderr


def test_ending_the_launcher_ends_the_workers():
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen(command(program, workers=2), stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    process.stdout.close()
    assert_ended("".join(lines))


# A worker that does not hear SIGTERM, and a process that it has started.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=subprocess.DEVNULL)
print(os.getpid(), child.pid, os.environ["RANDOM_BASES_HEARTBEATS"], flush=True)
time.sleep(60)
"""


def _hear():
    """What ignores signals, as a suite under nohup or in the background does, passes that on."""
    for each in (signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_DFL)


@pytest.mark.parametrize(
    "signals",
    [
        ["SIGKILL"],
        ["SIGTERM", "SIGTERM"],
        ["SIGINT", "SIGINT"],
        ["SIGTERM", "SIGKILL"],
        ["SIGHUP"],
        ["SIGTERM"],
    ],
    ids=" ".join,
)
def test_no_worker_outlives_its_launcher(signals):
    process = subprocess.Popen(
        command(STUBBORN, workers=2),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=_hear,
    )
    lines = [process.stdout.readline().split() for _ in range(2)]
    begin = time.monotonic()
    for each in signals:
        process.send_signal(getattr(signal, each))
        time.sleep(0.3)
    assert process.wait(timeout=30) != 0
    if len(signals) > 1 or signals[0] != "SIGTERM":
        assert time.monotonic() - begin < 4  # at once, not after the seconds that a worker has to end itself
    process.stdout.close()
    left = [*(Path(f"/proc/{pid}") for line in lines for pid in line[1:3]), Path(lines[0][3])]
    deadline = time.monotonic() + 10
    while any(path.exists() for path in left):
        assert time.monotonic() < deadline, f"left: {[path for path in left if path.exists()]}"
        time.sleep(0.05)


def test_what_a_failed_worker_has_started_ends_too():
    program = STUBBORN.replace("time.sleep(60)\n", "time.sleep(0.5); os.kill(os.getpid(), 9)\n")
    done = launch(program, workers=1)
    assert done.returncode == 128 + 9
    child = Path(f"/proc/{done.stdout.split()[2]}")
    deadline = time.monotonic() + 10
    while child.exists():
        assert time.monotonic() < deadline, "left"
        time.sleep(0.05)


def test_a_command_is_needed():
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_workers.py"), "--workers=2"]
    done = subprocess.run(launcher, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert done.returncode == 1 and "no command is given" in done.stdout + done.stderr
