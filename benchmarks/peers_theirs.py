"""The same with intrinsic-dimensionality: `python -m benchmarks.peers_theirs (dense|fastfood)`.

Runs in the peer's Python, which need not have TensorFlow.
"""

import json
import os
import sys
import time

import numpy as np
import torch
from intrinsic.dense import DenseWrap
from intrinsic.fastfood import FastfoodWrap
from torch import nn

_BATCH, _DIMENSIONS, _STEPS = 128, 750, 20


def main(kind: str) -> None:
    """Prints the milliseconds of a step and the peak memory above what importing took."""
    imported = _megabytes("VmRSS")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = nn.Sequential(
        nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
    )
    wrap = {"dense": DenseWrap, "fastfood": FastfoodWrap}[kind]
    model = wrap(network, _DIMENSIONS, device="cpu")
    optimizer = torch.optim.Adam([model.V], 1e-3)
    x = torch.randn(_BATCH, 784)
    y = torch.randint(10, (_BATCH,))
    seconds = []
    for _ in range(3 + _STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    mb = _megabytes("VmHWM") - imported
    print(json.dumps({"ms": 1e3 * float(np.median(seconds[3:])), "mb": mb}))


def _megabytes(name: str) -> float:
    with open("/proc/self/status") as status:
        return int(status.read().split(f"{name}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
