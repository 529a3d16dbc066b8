"""The problems of `benchmarks.evolution`, in NumPy alone: ours and the peer's process import this."""

import os
from typing import List, Tuple

import numpy as np

# name: (population, sigma, learning rate, updates)
PROBLEMS = {"quadratic": (100, 0.1, 0.5, 100), "fc_mnist": (250, 0.02, 0.004, 100)}
SIZE = 1000
BATCH = 32


def start(problem: str) -> List[np.ndarray]:
    """The parameters to begin with: arrays."""
    random = np.random.RandomState(0)
    if problem == "quadratic":
        return [random.normal(size=(SIZE, 1)).astype(np.float32)]
    arrays = []
    for rows, columns in ((784, 128), (128, 10)):
        limit = np.sqrt(6 / (rows + columns))  # Glorot's
        arrays.append(random.uniform(-limit, limit, (rows, columns)).astype(np.float32))
        arrays.append(np.zeros(columns, np.float32))
    return arrays


def curvature() -> np.ndarray:
    """The diagonal of the quadratic's Hessian, float32 [SIZE]."""
    return np.linspace(0.1, 2.0, SIZE).astype(np.float32)


def images(directory: str) -> Tuple[np.ndarray, np.ndarray]:
    """MNIST's training images, float32 [60000, 784], and labels, int32."""
    with np.load(os.path.join(directory, "mnist.npz")) as data:
        x = data["x_train"].reshape(-1, 784).astype(np.float32) / 255
        return x, data["y_train"].astype(np.int32)
