"""Run by test_traffic.py: two workers in a network of their own; prints the bytes that travel in a step.

unshare -rn python -m tests.optimizers.loopback CASES, where CASES is JSON: {name: arguments of
RandomBasesDescent, or null for plain SGD}. Prints JSON: {name: {"seen": ..., "computed": ...}}, the bytes a
step that the kernel counted on the loopback interface (of both workers together) and that the optimizer
says each sends.
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

STEPS = 50


def raise_loopback():
    """`ip link set lo up`, without ip."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def received():
    with open("/proc/net/dev") as file:
        (line,) = [line for line in file if line.strip().startswith("lo:")]
    return int(line.split(":")[1].split()[0])


def work(cases):
    import numpy as np
    import tensorflow as tf

    import random_bases as rb
    from random_bases.keras_api import keras, set_random_seed

    strategy = rb.strategies.get("multi_worker")

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == STEPS - 1:
                self.begin = received()
            elif batch == 2 * STEPS - 1:
                self.bytes = (received() - self.begin) / STEPS

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
        count = Count()
        model.fit(dataset.with_options(options), epochs=1, verbose=0, callbacks=[count])
        results[name] = {"seen": count.bytes, "computed": getattr(optimizer, "bytes_per_step", None)}
    print("RESULTS " + json.dumps(results))


def main():
    if "TF_CONFIG" in os.environ:
        return work(json.loads(sys.argv[1]))
    raise_loopback()
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    launcher = [sys.executable, os.path.join(root, "scripts", "launch_workers.py"), "--workers=2"]
    return subprocess.call([*launcher, "--", sys.executable, "-m", "tests.optimizers.loopback", sys.argv[1]])


if __name__ == "__main__":
    sys.exit(main())
