"""The bytes that travel, as an optimizer computes them and as the kernel counts them."""

import json

import pytest

from random_bases.keras_api import GENERATION
from tests.loopback import printed

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
    (results, _) = printed("tests.optimizers.loopback", json.dumps(CASES))
    seen = {name: result["seen"] for name, result in results.items()}
    computed = {name: 2 * (result["computed"] or 4 * D) for name, result in results.items()}
    for name in CASES:
        # Both workers' bytes, with what TCP, gRPC and TensorFlow add to a step: some kilobytes.
        assert computed[name] <= seen[name] <= 1.1 * computed[name] + 12e3, (name, results)
    slope = (seen["d = 16000"] - seen["d = 4000"]) / (2 * 4 * 12000)
    assert 0.95 < slope < 1.1, "bytes must be proportional to d"
    assert seen["d = 250"] < seen["sgd"] / 30
