"""What a short description of a trained network says of its error on new examples.

Lotfi et al. 2022, "PAC-Bayes compression bounds so tight that they can explain generalization"
(arXiv:2211.13609): a network that was found by its training data, but can be described in few bits by what
was fixed before, cannot have fitted these by chance.
"""

import math

from random_bases import arguments

_PRECISION = 1e-12


def compression_bound(error: float, examples: int, bits: int, delta: float = 0.05) -> float:
    """A bound of the error on new examples, which holds with probability 1 - delta.

    A description of l bits has the prior probability P = 2^-l 6 / (pi l)^2, which adds up to 1 over all
    descriptions. With Chernoff's bound for each network, and their union, all of them have

        kl(error || risk) <= (ln(1 / P) + ln(1 / delta)) / examples

    where the risk is larger than the error; kl is that of two coins. What is returned is the largest such
    risk: 1 says nothing.

    Args:
      error: the share of the training examples that the network gets wrong, in [0, 1].
      examples: how many there are; drawn independently, as new ones will be.
      bits: of the description: 8 times the bytes of a compressed file. Whatever else the network comes from
        (architecture, initialisation, basis, seed) must have been chosen without the data; what was chosen
        with it, of k possibilities, takes log2(k) bits more.
      delta: in (0, 1): how probable it may be that the bound does not hold.

    Returns:
      A number in [error, 1].

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> bits = 8 * sub.export_compressed("trained.rb", bits=4)
    >>> rb.analysis.generalization.compression_bound(error=0.08, examples=55_000, bits=bits)
    """
    error = arguments.number("error", error, 0.0)
    arguments.check(error <= 1, "error", error, "a number in [0, 1]")
    examples = arguments.integer("examples", examples, 1)
    bits = arguments.integer("bits", bits, 1)
    delta = arguments.positive("delta", delta)
    arguments.check(delta < 1, "delta", delta, "a number in (0, 1)")
    prior = bits * math.log(2) + 2 * math.log(bits) + math.log(math.pi**2 / 6)
    limit = (prior - math.log(delta)) / examples
    low, high = error, 1.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(error, middle) <= limit else (low, middle)
    return high


def _divergence(q: float, p: float) -> float:
    """kl(q || p) of coins that fall on one side with probabilities q and p."""
    parts = ((q, p), (1 - q, 1 - p))
    return sum(math.inf if b == 0 else a * math.log(a / b) for a, b in parts if a > 0)
