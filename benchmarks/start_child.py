"""Prints how long TensorFlow with its Keras, and then the package, take to import."""

import json
import time

start = time.perf_counter()
import tensorflow as tf  # noqa: E402

tf.keras.Model  # noqa: B018  (loads Keras)
middle = time.perf_counter()
import random_bases  # noqa: E402, F401

end = time.perf_counter()
print(json.dumps({"tensorflow": middle - start, "package": end - middle}))
