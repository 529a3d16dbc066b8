"""Settings of the whole suite; the `slow` marker and its default are in pyproject.toml."""

import os

from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is first imported

# The same examples in every run, and no deadline: tf.function traces on the first one.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")
