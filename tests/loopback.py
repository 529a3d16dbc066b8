"""Two workers in a network of their own, whose bytes nobody else's are among: what they print, and counts.

A program that does `launched(__name__, work)` is run by `printed`; each worker prints "RESULTS " and JSON.
"""

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def printed(module, *arguments):
    """The results of the workers of a program, with tf-keras, in any order."""
    alone = ["unshare", "-rn"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("a network of its own (unshare -rn) is not allowed here")
    done = subprocess.run(
        [*alone, sys.executable, "-m", module, *arguments],
        env=dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split(" RESULTS ")[1] for line in done.stdout.splitlines() if " RESULTS " in line]
    results = [json.loads(line) for line in lines]
    print(results)
    assert len(results) == 2
    return results


def launched(module, work):
    """In a worker `work()`, whose result is printed; else launches two workers, and returns their status."""
    if "TF_CONFIG" in os.environ:
        print("RESULTS " + json.dumps(work()))
        return 0
    _raise_loopback()
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_workers.py"), "--workers=2"]
    return subprocess.call([*launcher, "--", sys.executable, "-m", module, *sys.argv[1:]])


def counter(steps):
    """A callback whose `bytes` are those of a step, of both workers, after as many to warm up."""
    from random_bases.keras_api import keras

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == steps - 1:
                self.begin = _received()
            elif batch == 2 * steps - 1:
                self.bytes = (_received() - self.begin) / steps

    return Count()


def _raise_loopback():
    """`ip link set lo up`, without ip."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def _received():
    with open("/proc/net/dev") as file:
        (line,) = [line for line in file if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[0])
