"""A double of Graphcore's TensorFlow, `tensorflow.python.ipu`, for Keras 2.6 on the CPU: for tests only.

Written from an API contract (contract.json) that was read off public sources: nothing of Graphcore's is in
it, and it knows no more of the IPU than the contract and docs/ipu.md say. It is simple but truthful: programs
are traced once and executed by each replica with its own variables, index and data, sums cross replicas,
types and operations that the IPU lacks are refused, and so is every name, argument and option that the
contract does not have.

`with tests.poplar.double.installed(): ...` is the only way to it.
"""

import sys

from random_bases.keras_api import GENERATION

if "pytest" not in sys.modules:
    raise ImportError("tests.poplar is for tests only: it is no IPU, and no faster than a CPU.")

import pytest  # noqa: E402

if GENERATION != "keras2.6":
    pytest.skip("the double of the Poplar SDK's TensorFlow needs TensorFlow 2.6", allow_module_level=True)
