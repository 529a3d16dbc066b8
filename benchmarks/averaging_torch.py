"""P c and P^T g in PyTorch: `python -m benchmarks.averaging_torch SIZE VECTORS`.

Runs in the peer's Python, which need not have TensorFlow.
"""

import json
import os
import sys
import time

import numpy as np
import torch

_STEPS = 20


def main(size: int, vectors: int) -> None:
    """Prints the milliseconds of both products, and the memory above what importing took."""
    imported = _megabytes("VmRSS")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    directions = torch.randn(vectors, size)  # a direction a row, as in the papers' code
    c = torch.zeros(vectors)
    theta0 = torch.randn(size)
    seconds = []
    for _ in range(3 + _STEPS):
        start = time.perf_counter()
        gradient = theta0 + directions.T @ c  # of a loss that is half the sum of squares
        c -= 1e-6 * (directions @ gradient)
        seconds.append(time.perf_counter() - start)
    mb = _megabytes("VmRSS") - imported
    print(json.dumps({"ms": 1e3 * float(np.median(seconds[3:])), "mb": mb}))


def _megabytes(name: str) -> float:
    with open("/proc/self/status") as status:
        return int(status.read().split(f"{name}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
