"""Prints how long TensorFlow with its Keras, and then the package, take to import."""

import importlib
import json
import time

start = time.perf_counter()
importlib.import_module("tensorflow").keras.Model  # noqa: B018  (Keras is loaded when it is first used)
middle = time.perf_counter()
importlib.import_module("random_bases")
end = time.perf_counter()
print(json.dumps({"tensorflow": middle - start, "package": end - middle}))
