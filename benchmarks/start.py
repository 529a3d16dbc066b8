"""What importing the package costs, in new processes."""

from typing import List

import numpy as np

from benchmarks.measure import Figure, in_process

_REPEATS = 5


def run() -> List[Figure]:
    """The figures of this part."""
    times = [in_process("benchmarks.start_child") for _ in range(_REPEATS)]
    package, tensorflow = (float(np.median([t[name] for t in times])) for name in ("package", "tensorflow"))
    return [
        Figure("import random_bases, after Keras", "0.3 s", package, 0.3, "s", package / 0.3, "<= 1"),
        Figure(
            "import random_bases, after Keras",
            "import of Keras",
            package,
            tensorflow,
            "s",
            package / tensorflow,
        ),
    ]
