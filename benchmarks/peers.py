"""SubspaceModel and RandomProjection against `intrinsic-dimensionality` (PyTorch), each in a process.

Network, batch and d are those of Li et al. 2018 for MNIST. The peer is
https://github.com/jgamper/intrinsic-dimensionality (its wheel on PyPI holds no code); say where it is:

    PEER_PYTHON=/usr/bin/python3 PEER_PATH=/path/to/intrinsic-dimensionality \
        python -m benchmarks --only=peers
"""

import os
from typing import List

import numpy as np

from benchmarks.measure import Figure, in_process

DIMENSIONS = 750
BATCH = 128
_REPEATS = 3
# Of ours, then of the peer.
_PAIRS = (
    ("model hadamard", "fastfood"),
    ("model fastfood", "fastfood"),
    ("model rademacher", "dense"),
    ("model normal", "dense"),
    ("layer hadamard", "fastfood"),
    ("layer rademacher", "dense"),
)


def run() -> List[Figure]:
    """Times and peak memory, ours and the peer's processes alternately.

    Raises:
      ValueError: if PEER_PYTHON or PEER_PATH is not set.
    """
    if not {"PEER_PYTHON", "PEER_PATH"} <= set(os.environ):
        raise ValueError("Set PEER_PYTHON and PEER_PATH: see benchmarks/peers.py.")
    python, path = os.environ["PEER_PYTHON"], os.environ["PEER_PATH"]
    figures = []
    for ours, peer in _PAIRS:
        kind, basis = ours.split()
        pairs = [
            (
                in_process("benchmarks.peers_ours", kind, basis),
                in_process("benchmarks.peers_theirs", peer, python=python, path=path),
            )
            for _ in range(_REPEATS)
        ]
        for what, key, unit in (("step", "ms", "ms"), ("memory above the imports", "mb", "MB")):
            value, reference = (float(np.median([pair[i][key] for pair in pairs])) for i in (0, 1))
            against = f"{peer} of intrinsic-dimensionality"
            what = f"{what}, {ours}, FC-MNIST 200-200, d = {DIMENSIONS}"
            figures.append(Figure(what, against, value, reference, unit, value / reference, "<= 1"))
    return figures
