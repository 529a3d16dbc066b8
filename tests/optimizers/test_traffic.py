"""The bytes that travel, as an optimizer computes them and as the kernel counts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from random_bases.keras_api import GENERATION

ROOT = Path(__file__).resolve().parents[2]
D = 101770
CASES = {
    "d = 250": {"dimensions": 250},
    "d = 4000": {"dimensions": 4000},
    "d = 16000": {"dimensions": 16000},
    "independent": {"dimensions": 16000, "replicas": "independent"},
    "split": {"dimensions": 16000, "replicas": "split"},
    "updates": {"dimensions": 250, "replicas": "split", "exchange": "updates"},
    "sgd": None,
}


@pytest.mark.slow
@pytest.mark.skipif(GENERATION == "keras2.6", reason="runs tf-keras, beside Keras 3")
def test_the_loopback_interface_sees_what_is_computed():
    alone = ["unshare", "-rn"]  # so that nobody else's bytes are counted
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("a network of its own (unshare -rn) is not allowed here")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "tests.optimizers.loopback", json.dumps(CASES)],
        env=dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("[0] RESULTS "))
    results = json.loads(line[len("[0] RESULTS ") :])
    print(json.dumps(results))
    seen = {name: result["seen"] for name, result in results.items()}
    computed = {name: 2 * (result["computed"] or 4 * D) for name, result in results.items()}
    for name in CASES:
        # Both workers' bytes, with what TCP, gRPC and TensorFlow add to a step: some kilobytes.
        assert computed[name] <= seen[name] <= 1.1 * computed[name] + 12e3, (name, results)
    slope = (seen["d = 16000"] - seen["d = 4000"]) / (2 * 4 * 12000)
    assert 0.95 < slope < 1.1, "bytes must be proportional to d"
    assert seen["d = 250"] < seen["sgd"] / 30
