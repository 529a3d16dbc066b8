"""Run by test_workers.py: two workers in a network of their own; each prints JSON.

unshare -rn python -m tests.evolution.loopback. Prints, for each population, {"seen": the bytes an update
that the kernel counted on the loopback interface, of both workers together; "computed": those that each says
it sends; "weights": a hash of them; "difference": from one worker's; "moved": from the initial ones}.
"""

import hashlib
import sys

from tests.loopback import counter, launched

UPDATES = 30
POPULATIONS = (8, 4096)


def trained(strategy, population):
    """What came out in a strategy's scope, and the bytes that were received meanwhile."""
    import numpy as np

    import random_bases as rb
    from random_bases.keras_api import keras, set_random_seed

    set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(loss="mse")
        nes = rb.NaturalEvolutionStrategies(
            model, population, sigma=0.1, learning_rate=0.01, minibatch="shared", seed=0
        )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[64, 4]).astype(np.float32), rng.normal(size=[64, 2]).astype(np.float32)
    before, count = flat(model), counter(UPDATES)
    nes.fit(x, y, batch_size=16, steps_per_epoch=2 * UPDATES, verbose=0, callbacks=[count])
    return before, flat(model), count.bytes, nes.bytes_per_update


def flat(model):
    import numpy as np

    return np.concatenate([np.ravel(weights) for weights in model.get_weights()])


def work():
    import numpy as np
    import tensorflow as tf

    import random_bases as rb

    strategy = rb.strategies.get("multi_worker")
    results = {}
    for population in POPULATIONS:
        before, after, seen, computed = trained(strategy, population)
        _, alone, _, _ = trained(tf.distribute.get_strategy(), population)
        results[population] = {
            "seen": seen,
            "computed": computed,
            "weights": hashlib.sha256(after.tobytes()).hexdigest(),
            "difference": float(np.abs(after - alone).max()),
            "moved": float(np.abs(after - before).max()),
        }
    return results


if __name__ == "__main__":
    sys.exit(launched("tests.evolution.loopback", work))
