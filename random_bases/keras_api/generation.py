"""The one place that chooses a Keras: that of `tf.keras`, whichever generation it is.

Everything else in the package imports `keras` from here. Three generations are supported:

| `GENERATION`  | comes with                                   | optimizer API               |
| ------------- | -------------------------------------------- | --------------------------- |
| `"keras3"`    | TensorFlow >= 2.16                           | `keras.Optimizer` of Keras 3 |
| `"tf_keras"`  | TensorFlow >= 2.16, `TF_USE_LEGACY_KERAS=1`  | the one of Keras 2.11 - 2.15 |
| `"keras2.6"`  | the Poplar SDK's TensorFlow 2.6              | `OptimizerV2`               |
"""

import importlib
import os

import tensorflow as tf

_requested = os.environ.get("KERAS_BACKEND", "tensorflow")
if _requested != "tensorflow":
    raise ImportError(
        f"random_bases needs Keras on TensorFlow, but KERAS_BACKEND={_requested!r}. "
        "Unset it, or set KERAS_BACKEND=tensorflow."
    )

if tf.__version__.startswith("2.6."):
    keras = tf.keras
else:
    # Since TF 2.16 `tf.keras` is a reduced view of one of two packages: `keras` or `tf_keras`.
    keras = importlib.import_module(tf.keras.Model.__module__.split(".")[0])
KERAS_VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])

if KERAS_VERSION >= (3, 0):
    GENERATION = "keras3"
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            "random_bases needs Keras on TensorFlow, but Keras is configured (keras.json) for "
            f"{keras.config.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )
elif KERAS_VERSION >= (2, 11):
    GENERATION = "tf_keras"
elif KERAS_VERSION == (2, 6):
    GENERATION = "keras2.6"
else:
    raise ImportError(
        f"random_bases does not know Keras {keras.__version__}; use TensorFlow >= 2.16, or the "
        "Poplar SDK's TensorFlow 2.6."
    )
