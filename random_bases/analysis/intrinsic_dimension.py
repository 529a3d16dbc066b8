"""The intrinsic dimension of a task: the smallest d at which training in d random directions works.

Li, Farkhoor, Liu and Yosinski 2018 (arXiv:1804.08838, section 2) call d_int90 the smallest d whose
solutions reach 90% of what the directly trained network reaches. Here it is searched for: d grows by a
constant factor until it works, and the bracket is then bisected geometrically. Nothing here trains:
the caller gives a function that evaluates a d.
"""

import math
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from random_bases import arguments


class Evaluation(NamedTuple):
    """One training in a subspace: d, the seed and the accuracy reached."""

    dimensions: int
    seed: int
    accuracy: float


class Point(NamedTuple):
    """All evaluations at one d.

    Attributes:
      dimensions: d.
      accuracies: one a seed.
    """

    dimensions: int
    accuracies: Tuple[float, ...]

    @property
    def mean(self) -> float:
        """What is compared to the threshold."""
        return math.fsum(self.accuracies) / len(self.accuracies)


class IntrinsicDimension(NamedTuple):
    """The outcome of a search.

    Attributes:
      dimensions: the smallest d evaluated whose mean accuracy reaches the threshold; None if none does.
      below: the largest d evaluated below it: the intrinsic dimension lies above. None if d = 1 works.
      threshold: the accuracy asked for.
      evaluations: all that was evaluated, in that order.
    """

    dimensions: Optional[int]
    below: Optional[int]
    threshold: float
    evaluations: Tuple[Evaluation, ...]

    def curve(self) -> List[Point]:
        """Accuracy against d, d ascending."""
        accuracies: Dict[int, List[float]] = {}
        for evaluation in self.evaluations:
            accuracies.setdefault(evaluation.dimensions, []).append(evaluation.accuracy)
        return [Point(d, tuple(accuracies[d])) for d in sorted(accuracies)]


def search(
    evaluate: Callable[[int, int], float],
    threshold: float,
    start: Sequence[int],
    largest: int,
    seeds: Sequence[int] = (0, 1, 2),
    growth: float = 2.0,
    resolution: float = 0.1,
) -> IntrinsicDimension:
    """Searches the smallest d at which the mean accuracy over `seeds` reaches `threshold`.

    First all of `start` is evaluated. While none of the d evaluated reaches the threshold, the largest
    is multiplied by `growth`; while all do, the smallest is divided by it. Then the interval between the
    smallest d that reaches it and the one evaluated next below, which does not, is halved
    geometrically, until its ends differ by at most `resolution`, relative to the lower one, or by 1.

    That is bisection where accuracy grows with d. Where seeds make it noisy, the result still holds as
    it is stated: it reaches the threshold, and nothing smaller that was evaluated does.

    Args:
      evaluate: (d, seed) -> accuracy, a finite number; called once for each pair.
      threshold: the accuracy asked for, say 90% of the directly trained network's.
      start: the d to begin with; several give more of the curve of accuracy against d.
      largest: the number of parameters, D: no d above it is evaluated.
      seeds: the repeats.
      growth: more than 1.
      resolution: more than 0.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
      ValueError: for an accuracy that is not finite.
    """
    check_search(start, largest, seeds, growth, resolution)
    threshold = arguments.number("threshold", threshold)
    start, seeds, largest = [int(d) for d in start], [int(seed) for seed in seeds], int(largest)
    evaluations: List[Evaluation] = []
    means: Dict[int, float] = {}
    waiting = sorted(set(start))
    while True:
        for dimensions in waiting:
            point = []
            for seed in seeds:
                accuracy = float(evaluate(dimensions, seed))
                if not math.isfinite(accuracy):
                    raise ValueError(f"evaluate({dimensions}, {seed}) gave {accuracy}; it must be finite.")
                point.append(Evaluation(dimensions, seed, accuracy))
            evaluations += point
            means[dimensions] = Point(dimensions, tuple(each.accuracy for each in point)).mean
        reached = min((d for d, mean in means.items() if mean >= threshold), default=None)
        below = max((d for d in means if reached is None or d < reached), default=None)
        following = _next(reached, below, largest, growth, resolution)
        if following is None:
            return IntrinsicDimension(reached, below, threshold, tuple(evaluations))
        waiting = [following]


def check_search(
    start: Sequence[int], largest: int, seeds: Sequence[int], growth: float, resolution: float
) -> None:
    """Raises what `search` raises for these arguments: before a threshold is paid for."""
    largest = arguments.integer("largest", largest, 1)
    arguments.integers("start", start, 1, largest)
    seeds = arguments.integers("seeds", seeds, 0)
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds={seeds!r} is not possible; allowed: all different.")
    if not arguments.number("growth", growth) > 1:
        raise ValueError(f"growth={growth} is not possible; allowed: more than 1.")
    arguments.positive("resolution", resolution)


def _next(
    reached: Optional[int], below: Optional[int], largest: int, growth: float, resolution: float
) -> Optional[int]:
    """The d to evaluate next, between `below` and `reached`; None at the end of the search."""
    if reached is None:
        assert below is not None
        return None if below == largest else min(largest, max(below + 1, round(below * growth)))
    if below is None:
        return None if reached == 1 else max(1, min(reached - 1, round(reached / growth)))
    if reached - below <= max(1, resolution * below):
        return None
    return min(reached - 1, max(below + 1, round(math.sqrt(below * reached))))
