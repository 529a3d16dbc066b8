"""Where SGD with error feedback becomes unstable on quadratics, in units of d / tr(H).

python -m benchmarks.feedback_limits [--json=FILE]

Exact gradients and orthonormal directions, in NumPy; rates are tried in steps of sqrt(2), 3000 updates each,
and the limit is the last before the first that is unstable. About two minutes.
"""

import json
from pathlib import Path
from typing import List, NamedTuple

import numpy as np
import tensorflow as tf  # first: Keras 2.6 under absl needs it before app.run
from absl import app, flags

_UPDATES = 3000
_RATES = 2.0 ** np.arange(-7, 3, 0.5)

_JSON = flags.DEFINE_string("json", None, "A file to write the limits to.")


class Setting(NamedTuple):
    """A quadratic with curvatures i ** -decay, i from 1 to `size`, and how it is descended."""

    size: int
    dimensions: int
    decay: float
    momentum: float = 0.0
    redraw_every: int = 1
    replicas: int = 1


SETTINGS = [
    Setting(size, dimensions, decay, **changes)
    for size, dimensions, decay in ((128, 16, 0.0), (128, 8, 1.0), (128, 4, 1.0), (64, 8, 0.5))
    for changes in ({}, {"momentum": 0.5}, {"momentum": 0.9}, {"redraw_every": 4}, {"replicas": 4})
]


def is_stable(setting: Setting, relative: float, updates: int = _UPDATES) -> bool:
    """Whether the loss falls at a rate of `relative` d / tr(H); replicas "split" the directions."""
    random = np.random.RandomState(0)
    curvatures = np.arange(1.0, setting.size + 1) ** -setting.decay
    rate = relative * setting.dimensions / curvatures.sum()
    weights, velocity = np.ones(setting.size), np.zeros(setting.size)
    memories = np.zeros([setting.replicas, setting.size])
    own = setting.dimensions // setting.replicas
    bases: List[np.ndarray] = []
    for update in range(updates):
        if update % setting.redraw_every == 0:
            bases = [np.linalg.qr(random.normal(size=[setting.size, own]))[0] for _ in memories]
        memories += curvatures * weights
        moved = np.stack([basis @ (basis.T @ memory) for basis, memory in zip(bases, memories)])
        memories -= moved
        velocity = setting.momentum * velocity + moved.mean(axis=0)
        weights = weights - rate * velocity
        if not (curvatures * weights**2).sum() < 1e6 * curvatures.sum():
            return False
    return bool((curvatures * weights**2).sum() < curvatures.sum())


def limit(setting: Setting) -> float:
    """The last rate that is stable before the first that is not, in units of d / tr(H)."""
    found = 0.0
    for rate in _RATES:
        if not is_stable(setting, rate):
            break
        found = rate
    return float(f"{found:.3g}")


def main(arguments):
    """Prints the limits, and writes them."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    rows = []
    for setting in SETTINGS:
        rows.append({**setting._asdict(), "limit": limit(setting)})
        print(json.dumps(rows[-1]), flush=True)
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    del tf
    app.run(main)
