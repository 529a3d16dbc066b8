"""Run by test_workers.py: two workers in a network of their own; each prints JSON.

unshare -rn python -m tests.evolution.loopback. Prints, for each population, {"seen": the bytes an update
that the kernel counted on the loopback interface, of both workers together; "computed": those that each says
it sends; "weights": a hash of them; "difference": from one worker's; "moved": from the initial ones}.
"""

import hashlib
import json
import os
import subprocess
import sys

from tests.optimizers.loopback import raise_loopback, received

UPDATES = 30
POPULATIONS = (8, 4096)


def trained(strategy, population):
    """What came out in a strategy's scope, and the bytes that were received meanwhile."""
    import numpy as np

    import random_bases as rb
    from random_bases.keras_api import keras, set_random_seed

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == UPDATES - 1:
                self.begin = received()
            elif batch == 2 * UPDATES - 1:
                self.bytes = (received() - self.begin) / UPDATES

    set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(loss="mse")
        nes = rb.NaturalEvolutionStrategies(
            model, population, sigma=0.1, learning_rate=0.01, minibatch="shared", seed=0
        )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[64, 4]).astype(np.float32), rng.normal(size=[64, 2]).astype(np.float32)
    before, count = flat(model), Count()
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
    print("RESULTS " + json.dumps(results))


def main():
    if "TF_CONFIG" in os.environ:
        return work()
    raise_loopback()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    launcher = [sys.executable, os.path.join(root, "scripts", "launch_workers.py"), "--workers=2"]
    return subprocess.call([*launcher, "--", sys.executable, "-m", "tests.evolution.loopback"])


if __name__ == "__main__":
    sys.exit(main())
