"""The machine: what it is, and the memory that this process has of it."""

import ctypes
import gc
import os
import platform
from pathlib import Path
from typing import Any, Dict

import tensorflow as tf

from random_bases.keras_api import keras


def peak_megabytes() -> float:
    """The largest resident memory that this process has had, or has had since `forget_peak`."""
    return _megabytes("VmHWM")


def forget_peak() -> None:
    """Gives free memory back to the system, and has `peak_megabytes` begin anew (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def resident_megabytes() -> float:
    """The resident memory that this process has."""
    return _megabytes("VmRSS")


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def description() -> Dict[str, Any]:
    """What figures were measured on: processor, cores, versions."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "avx512": "avx512f" in flags,
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }
