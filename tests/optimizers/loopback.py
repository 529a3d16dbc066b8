"""Run by test_traffic.py: two workers in a network of their own; prints the bytes that travel in a step.

unshare -rn python -m tests.optimizers.loopback CASES, where CASES is JSON: {name: arguments of
RandomBasesDescent, or null for plain SGD}. Prints JSON: {name: {"seen": ..., "computed": ...}}, the bytes a
step that the kernel counted on the loopback interface (of both workers together) and that the optimizer
says each sends.
"""

import json
import sys

from tests.loopback import counter, launched

STEPS = 50


def work(cases):
    import numpy as np
    import tensorflow as tf

    import random_bases as rb
    from random_bases.keras_api import keras, set_random_seed

    strategy = rb.strategies.get("multi_worker")

    x, y = np.ones([16, 784], np.float32), np.zeros([16], np.int32)
    results = {}
    for name, arguments in cases.items():
        set_random_seed(0)
        with strategy.scope():
            # D = 101,770, FC-MNIST's.
            model = keras.Sequential(
                [keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
            )
            optimizer = keras.optimizers.SGD(0.01)
            if arguments is not None:
                optimizer = rb.RandomBasesDescent(optimizer, basis="hadamard", seed=0, **arguments)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer, loss, jit_compile=False)
        dataset = tf.data.Dataset.from_tensors((x, y)).repeat(2 * STEPS)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        count = counter(STEPS)
        model.fit(dataset.with_options(options), epochs=1, verbose=0, callbacks=[count])
        results[name] = {"seen": count.bytes, "computed": getattr(optimizer, "bytes_per_step", None)}
    return results


if __name__ == "__main__":
    sys.exit(launched("tests.optimizers.loopback", lambda: work(json.loads(sys.argv[1]))))
