"""The yardstick: `yardstick.c`, compiled for this machine when it is run."""

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Tuple

import numpy as np

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-mrecip=none", "-fopenmp")


def compile_sketch(distribution: str, size: int, dimensions: int) -> Callable:
    """The function (v, key) -> (P^T v, P P^T v) in C.

    Args:
      distribution: "normal" or "rademacher".
      size: n, a multiple of the samples that two words give: 2 or 64.
      dimensions: d.

    Returns:
      A function of float32 [n] and int32 [2] (see `random_bases.sampling.derive_key`) to float32 [d]
      and float32 [n].

    Raises:
      FileNotFoundError, CalledProcessError: if there is no gcc, or it fails.
    """
    planes = {"normal": 2, "rademacher": 64}[distribution]
    if size % planes:
        raise ValueError(f"size={size} must be a multiple of {planes}.")
    # Threads that wait would spin, and slow down what is measured next.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "yardstick.so")
        subprocess.run(
            ["gcc", *_FLAGS, "-shared", "-fPIC", str(_SOURCE), "-o", str(library), "-lm"], check=True
        )
        function = getattr(ctypes.CDLL(str(library)), f"sketch_{distribution}")
    pointer = np.ctypeslib.ndpointer(np.float32, flags="C")
    function.argtypes = [ctypes.c_int] * 2 + [np.ctypeslib.ndpointer(np.int32, flags="C")] + [pointer] * 3

    def sketch(v: np.ndarray, key: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        elements = np.ascontiguousarray(v.reshape(-1, planes).T).reshape(-1)
        c, out = np.empty(dimensions, np.float32), np.empty(size, np.float32)
        function(size, dimensions, key, elements, c, out)
        return c, np.ascontiguousarray(out.reshape(planes, -1).T).reshape(-1)

    return sketch
