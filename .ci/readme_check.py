"""Runs the README's Python with an installed package: `python -I .ci/readme_check.py`, from elsewhere."""

import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported

import numpy as np
from tensorflow import keras

import random_bases

CHECKOUT = Path(__file__).resolve().parents[1]


def build_model():
    """A small model, always the same."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(10, "softmax")]
    )


package = Path(random_bases.__file__).resolve().parent
assert Path(sys.prefix).resolve() in package.parents, f"{package} is not the environment's"
assert (package / "py.typed").exists()
assert metadata.version("random_bases") == random_bases.__version__
assert importlib.util.find_spec("experiments") is None, "experiments are installed"
blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", (CHECKOUT / "README.md").read_text(encoding="utf-8"))
assert blocks, "the README has no Python"
generator = np.random.default_rng(0)
namespace = {
    "model": build_model(),
    "x": generator.random((64, 64), np.float32),
    "y": generator.integers(0, 10, 64),
}
for block in blocks:
    exec(compile(block, "README.md", "exec"), namespace)
print(f"random_bases {random_bases.__version__} in {package}: {len(blocks)} blocks of the README ran")
