"""Settings of the whole suite; the `slow` marker and its default are in pyproject.toml."""

import gc
import os

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is first imported

# The same examples in every run, and no deadline: tf.function traces on the first one.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session", autouse=True)
def autotuned_iterator():
    """Datasets are not autotuned, but by what this returns.

    The end of each short `fit` waits for the autotuner: a seventh of the time of many tests.
    """
    import tensorflow as tf

    from random_bases.batches import without_autotuning

    iterate = tf.data.Dataset.__iter__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tf.data.Dataset, "__iter__", lambda dataset: iterate(without_autotuning(dataset)))
        yield iterate


@pytest.fixture(scope="module", autouse=True)
def frozen_heap():
    """What earlier files left is no part of later garbage collections: Keras's `quantize` makes many."""
    gc.collect()
    gc.freeze()
