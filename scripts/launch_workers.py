"""Runs a command as K workers on this machine.

TF_USE_LEGACY_KERAS=1 python scripts/launch_workers.py --workers=4 -- \
    python scripts/train.py --config=configs/fc_mnist.py --config.strategy=multi_worker \
    --config.replicas=split --workdir=runs/fc_mnist/four

Each worker gets a TF_CONFIG with free ports at 127.0.0.1, where the others look for it (TensorFlow's server
itself listens on every interface: docs/distributed.md); its output comes with its number. If one fails, all
are ended. A worker that gives no sign of life, or makes no progress, for --timeout seconds counts as hanging:
its name is printed and all are ended. So does one that has been silent for five seconds when another fails:
what that one waited for did not come. No worker, nor what one has started, outlives this process: a first
SIGINT or SIGTERM leaves them five seconds to end, a second one or SIGKILL none. Exit status: 0 if all
succeeded, that of the first that failed (128 + n if signal n ended it), 124 if one hangs.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from absl import app, flags

_WORKERS = flags.DEFINE_integer("workers", None, "The number of workers.", lower_bound=1)
_TIMEOUT = flags.DEFINE_float(
    "timeout", 600.0, "Seconds without progress after which a worker counts as hanging.", lower_bound=1.0
)
_HANGS = 124
_SECONDS_TO_END = 5.0
_SECONDS_OF_SILENCE = 5.0  # ten times those between heartbeats
_SECONDS_BETWEEN_LOOKS = 0.2
# Waits for the end of its input, which ends with the process that started it, and kills its process group.
_KILL_AT_THE_END = """trap '' HUP INT TERM; read -r line; rm -rf "$1"; kill -KILL 0"""


def free_ports(number):
    """As many different ports that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start_group(directory):
    """The first process of the group that all workers join; deletes `directory`, too, when it must kill them.

    As long as it lives no other process can have the group's number, so it can be signalled without risk.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _KILL_AT_THE_END, "sh", directory], stdin=subprocess.PIPE, preexec_fn=os.setpgrp
    )


def start(command, index, addresses, heartbeats, group):
    """Starts worker `index` in the process group of `group`, and a thread that forwards its output."""
    tf_config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    process = subprocess.Popen(
        command,
        env=dict(os.environ, TF_CONFIG=json.dumps(tf_config), RANDOM_BASES_HEARTBEATS=heartbeats),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.setpgid(0, group.pid),  # fails if that has ended, with all who were in it
    )

    def forward():
        for line in process.stdout:
            sys.stdout.write(f"[{index}] {line.decode(errors='replace')}")
            sys.stdout.flush()

    forwarder = threading.Thread(target=forward, daemon=True)
    forwarder.start()
    return process, forwarder


class Watch:
    """Finds workers that hang by their heartbeats: see `experiments.workers.Heartbeat`.

    Commands that write none are not watched.
    """

    def __init__(self, directory, workers, timeout):
        self._paths = [Path(directory) / str(index) for index in range(workers)]
        self._timeout = timeout
        self._begin = None  # the first heartbeat of any
        self._looked = self._awake = time.time()
        self._progress = None
        self._changed = 0.0

    def hanging(self, running):
        """The numbers of those `running` workers that hang, and what is wrong with them."""
        now = time.time()
        if now - self._looked > self._timeout / 2:
            self._awake = now  # this process itself was stopped, and so perhaps were the workers
        self._looked = now
        beats = [self._read(path) for path in self._paths]
        if not any(beats):
            return [], ""
        self._begin = self._begin or now
        silent = self.silent(running, self._timeout)
        if silent:
            return silent, _silence(self._timeout)
        progress = [beats[i] and beats[i][1] for i in running]
        if progress != self._progress:
            self._progress, self._changed = progress, now
        if now - max(self._awake, self._changed) > self._timeout and None not in progress:
            slowest = [i for i, value in zip(running, progress) if value == min(progress)]
            return slowest, f"makes no progress since {self._timeout:g} s"
        return [], ""

    def silent(self, running, seconds):
        """The numbers of those `running` workers that have given no sign of life for so long."""
        beats = [self._read(path) for path in self._paths]
        if not any(beats):
            return []
        seen = [max(self._awake, beat[0] if beat else self._begin or self._awake) for beat in beats]
        return [i for i in running if time.time() - seen[i] > seconds]

    @staticmethod
    def _read(path):
        """(time, progress) of the last heartbeat; None before the first."""
        try:
            return path.stat().st_mtime, int(path.read_text())
        except FileNotFoundError:
            return None


def end(group, processes):
    """Ends what still runs in the group, kindly at first."""
    os.killpg(group.pid, signal.SIGTERM)
    os.killpg(group.pid, signal.SIGCONT)  # a stopped one hears it only then
    deadline = time.monotonic() + _SECONDS_TO_END
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.killpg(group.pid, signal.SIGKILL)
    for process in (*processes, group):
        process.wait()


def _silence(seconds):
    return f"gives no sign of life since {seconds:g} s"


def wait(processes, watch):
    """Waits until all workers have succeeded or one has not; returns the exit status."""
    while True:
        statuses = [process.poll() for process in processes]
        failed = [index for index, status in enumerate(statuses) if status]
        running = [index for index, status in enumerate(statuses) if status is None]
        for index in failed:
            status = statuses[index]
            how = f"signal {-status}" if status < 0 else f"status {status}"
            print(f"Worker {index} failed with {how}; ending all.", file=sys.stderr)
        if not failed and not running:
            return 0
        hanging, why = watch.hanging(running)
        if failed and not hanging:
            hanging, why = watch.silent(running, _SECONDS_OF_SILENCE), _silence(_SECONDS_OF_SILENCE)
        if hanging:
            names = ", ".join(f"worker {index}" for index in hanging)
            print(f"{names} {why}; ending all.".capitalize(), file=sys.stderr)
            return _HANGS
        if failed:
            status = statuses[failed[0]]
            return 128 - status if status < 0 else status
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def main(argv):
    """Launches the command that follows `--`."""
    command = argv[1:]
    if not command:
        raise app.UsageError("no command is given: --workers=K -- python scripts/train.py ...")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that `finally` runs
    addresses = [f"127.0.0.1:{port}" for port in free_ports(_WORKERS.value)]
    started = []
    with tempfile.TemporaryDirectory(prefix="random_bases_heartbeats_") as heartbeats:
        group = start_group(heartbeats)
        try:
            for index in range(_WORKERS.value):
                started.append(start(command, index, addresses, heartbeats, group))
            processes = [process for process, _ in started]
            return wait(processes, Watch(heartbeats, _WORKERS.value, _TIMEOUT.value))
        finally:
            end(group, [process for process, _ in started])
            for _, forwarder in started:
                forwarder.join(_SECONDS_TO_END)


if __name__ == "__main__":
    flags.mark_flag_as_required("workers")
    app.run(main)
