"""Seeds to samples: pure functions of (seed, draw, direction, element)."""

from random_bases.sampling import counter, native
from random_bases.sampling.distributions import DISTRIBUTIONS, Distribution, get_distribution
from random_bases.sampling.seeds import STREAM_VERSION, as_seed, derive_key

GENERATORS = {"counter": counter, "native": native}


def get_generator(name: str):
    """Returns the generator module `name`: "counter" (one stream everywhere) or "native" (the device's).

    Raises:
      ValueError: if `name` is neither.
    """
    if name not in GENERATORS:
        raise ValueError(f"generator={name!r} is unknown; allowed: {sorted(GENERATORS)}.")
    return GENERATORS[name]


__all__ = [
    "DISTRIBUTIONS",
    "GENERATORS",
    "STREAM_VERSION",
    "Distribution",
    "as_seed",
    "counter",
    "derive_key",
    "get_distribution",
    "get_generator",
    "native",
]
