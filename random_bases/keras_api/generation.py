"""The one place that chooses a Keras: that of `tf.keras`, whichever generation it is.

Everything else in the package imports `keras` from here. Three generations are supported:

| `GENERATION`  | comes with                                   | optimizer API               |
| ------------- | -------------------------------------------- | --------------------------- |
| `"keras3"`    | TensorFlow >= 2.16 with Keras >= 3.10        | `keras.Optimizer` of Keras 3 |
| `"tf_keras"`  | TensorFlow >= 2.16, `TF_USE_LEGACY_KERAS=1`  | the one of Keras 2.11 - 2.15 |
| `"keras2.6"`  | the Poplar SDK's TensorFlow 2.6              | `OptimizerV2`               |
"""

import importlib

import tensorflow as tf

_ADVICE = "Set KERAS_BACKEND=tensorflow, which counts more than keras.json."

if tf.__version__.startswith("2.6."):
    keras = tf.keras
else:
    try:
        # Since TF 2.16 `tf.keras` is a reduced view of one of two packages: `keras` or `tf_keras`.
        keras = importlib.import_module(tf.keras.Model.__module__.split(".")[0])
    except ImportError as error:  # as of a backend that is not installed
        raise ImportError(
            f"random_bases needs Keras on TensorFlow, but tf.keras cannot be imported ({error}). {_ADVICE}"
        ) from error
KERAS_VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])

if KERAS_VERSION >= (3, 10):
    GENERATION = "keras3"
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            f"random_bases needs Keras on TensorFlow, but Keras runs on {keras.config.backend()!r}. {_ADVICE}"
        )
elif (2, 11) <= KERAS_VERSION < (3, 0):
    GENERATION = "tf_keras"
elif KERAS_VERSION == (2, 6):
    GENERATION = "keras2.6"
else:
    raise ImportError(
        f"random_bases does not know Keras {keras.__version__}; allowed: Keras >= 3.10, tf-keras, or the "
        "Poplar SDK's TensorFlow 2.6."
    )
