"""Distributions of the entries of a direction: words to samples.

All have mean 0 and variance 1, except the two `-2020` variants, which repeat the 2020 implementation
(Gressmann et al. 2020, Figure 5) and exist to reproduce it.

Rademacher signs, Bernoulli values and uniforms are exact functions of the words' bits on every device.
Normals involve a logarithm and fused multiply-adds, which compilers round differently: they agree
within 1e-6 (absolute) across devices and compilers.
"""

import math
from typing import Callable, Dict, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from random_bases.arguments import fraction, number
from random_bases.sampling.polynomials import horner, sine_cosine
from random_bases.sampling.tracing import traced_once

Samples = Tuple[tf.Tensor, ...]

_SIGN_BIT = -(2**31)


class Distribution(NamedTuple):
    """A distribution of samples.

    Attributes:
      name: its name in `basis=`.
      mean: its expectation.
      variance: its variance.
      group_sizes: how many samples each tensor of `from_words` holds of one block.
      from_words: two int32 tensors [rows, blocks] -> one float32 tensor [rows, p, blocks] for each p
        of `group_sizes`.
      from_native: (shape, seed int32 [2]) -> float32 samples by `tf.random.stateless_*`.
      kurtosis: the fourth central moment over the squared variance.
    """

    name: str
    mean: float
    variance: float
    group_sizes: Tuple[int, ...]
    from_words: Callable[[tf.Tensor, tf.Tensor], Samples]
    from_native: Callable[[Tuple[int, ...], tf.Tensor], tf.Tensor]
    kurtosis: float

    @property
    def block(self) -> int:
        """How many samples two words give."""
        return sum(self.group_sizes)


def _and(word: tf.Tensor, mask: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(word, tf.constant(mask, tf.int32))


def _minus_two_log(word: tf.Tensor) -> tf.Tensor:
    """-2 ln u for u in (0, 1], of the low 31 bits of a word: u = (bits + 1) / 2**31.

    Written out because XLA and Eigen have different logarithms, and libm's is not vectorised. The
    mantissa is taken from [sqrt(1/2), sqrt(2)), where ln(1 + x) keeps its relative accuracy around
    u = 1: the square root that follows would magnify an absolute error. The polynomial is that of
    Cephes's logf.
    """
    # At the largest words the sum rounds to 2**31: u = 1, whose logarithm is 0 exactly.
    real = tf.cast(_and(word, 0x7FFFFFFF), tf.float32) + 1.0
    half = 0x3F3504F3  # the bits of sqrt(1/2)
    bits = tf.bitcast(real, tf.int32) + (0x3F800000 - half)
    exponent = tf.bitwise.right_shift(bits, tf.constant(23, tf.int32)) - (127 + 31)
    x = tf.bitcast(_and(bits, 0x007FFFFF) + half, tf.float32) - 1.0
    square = x * x
    log1p = x + square * (
        x
        * horner(
            x,
            (
                7.0376836292e-2,
                -1.1514610310e-1,
                1.1676998740e-1,
                -1.2420140846e-1,
                1.4249322787e-1,
                -1.6668057665e-1,
                2.0000714765e-1,
                -2.4999993993e-1,
                3.3333331174e-1,
            ),
        )
        - 0.5
    )
    return -2.0 * (log1p + tf.cast(exponent, tf.float32) * np.float32(math.log(2.0)))


def _sine_cosine_of_word(word: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Sine and cosine of an angle uniform in [-pi/4, pi/4), of the low 30 bits of a word."""
    angle = tf.cast(tf.bitwise.left_shift(word, tf.constant(2, tf.int32)), tf.float32)
    return sine_cosine(angle * np.float32(math.pi / 4 / 2**31))


@traced_once
def _normal_from_words(x0: tf.Tensor, x1: tf.Tensor) -> Samples:
    """Box and Muller 1958: two words give two independent standard normals, at most 6.56 in size.

    The angle is uniform on the circle: the low 30 bits of `x1` place it in the quarter around 0, bit
    30 reflects it at the diagonal, and the sign bit takes it to the opposite side.
    """
    radius = tf.sqrt(tf.maximum(_minus_two_log(x0), 0.0))
    radius = tf.bitcast(tf.bitwise.bitwise_or(tf.bitcast(radius, tf.int32), _and(x1, _SIGN_BIT)), tf.float32)
    sine, cosine = _sine_cosine_of_word(x1)
    reflect = tf.not_equal(_and(x1, 1 << 30), 0)
    first = radius * tf.where(reflect, sine, cosine)
    second = radius * tf.where(reflect, cosine, sine)
    return first[:, tf.newaxis, :], second[:, tf.newaxis, :]


def _symmetric_unit(word: tf.Tensor) -> tf.Tensor:
    """The word as a fraction in [-1, 1]."""
    return tf.cast(word, tf.float32) * np.float32(2.0**-31)


def _uniform_from_words(half_width: float) -> Callable[[tf.Tensor, tf.Tensor], Samples]:
    scale = np.float32(half_width)

    def from_words(x0, x1):
        return tuple((_symmetric_unit(x) * scale)[:, tf.newaxis, :] for x in (x0, x1))

    return from_words


def _uniform_native(half_width: float):
    def from_native(shape, seed):
        return half_width * (2.0 * tf.random.stateless_uniform(shape, seed) - 1.0)

    return from_native


def signs_of_words(words: tf.Tensor) -> tf.Tensor:
    """The 32 bits of each word [k, blocks] as signs -1.0, 1.0 [k, 32, blocks], low bit first."""
    to_sign_bit = tf.constant(np.arange(31, -1, -1)[:, np.newaxis], tf.int32)
    bits = _and(tf.bitwise.left_shift(words[:, tf.newaxis, :], to_sign_bit), _SIGN_BIT)
    one = tf.constant(0x3F800000, tf.int32)
    return tf.bitcast(tf.bitwise.bitwise_or(bits, one), tf.float32)


def _rademacher_from_words(x0: tf.Tensor, x1: tf.Tensor) -> Samples:
    return signs_of_words(x0), signs_of_words(x1)


def _rademacher_native(shape, seed):
    half = tf.random.stateless_uniform(shape, seed) - 0.5
    return tf.where(half < 0.0, -1.0, 1.0)


def _shifted_rademacher(x0: tf.Tensor, x1: tf.Tensor) -> Samples:
    return tuple(signs - 0.5 for signs in _rademacher_from_words(x0, x1))


def bernoulli(p: float = 0.5) -> Distribution:
    """The Bernoulli(p) distribution, standardised: sqrt((1-p)/p) with probability p, else -sqrt(p/(1-p)).

    Args:
      p: probability of the positive value, resolved to 2**-32.

    Raises:
      ValueError: unless 0 < p < 1 (within the resolution).
    """
    p = number("p", p)
    if not 2.0**-32 <= p <= 1 - 2.0**-32:
        raise ValueError(f"p={p!r} must be a number with 0 < p < 1.")
    high = np.float32(math.sqrt((1 - p) / p))
    low = np.float32(-math.sqrt(p / (1 - p)))
    threshold = round(p * 2**32) - 2**31

    def from_words(x0, x1):
        return tuple(tf.where(x < threshold, high, low)[:, tf.newaxis, :] for x in (x0, x1))

    def from_native(shape, seed):
        return tf.where(tf.random.stateless_uniform(shape, seed) < p, high, low)

    return Distribution("bernoulli", 0.0, 1.0, (1, 1), from_words, from_native, 1 / (p * (1 - p)) - 3)


def sparse(density: float = 1 / 3) -> Distribution:
    """+-sqrt(1/density) with probability density/2 each, else 0 (Achlioptas 2003: density = 1/3).

    A word's sign bit is the sign, its other 31 bits say whether the sample is zero.

    Args:
      density: probability of a sample that is not zero, resolved to 2**-31.

    Raises:
      ValueError: unless 0 < density <= 1 (within the resolution).
    """
    density = fraction("density", density)
    if density < 2.0**-31:
        raise ValueError(f"density={density!r} must be at least 2**-31, the resolution.")
    size = np.float32(math.sqrt(1 / density))
    largest = round(density * 2**31) - 1

    def from_word(word):
        signed = tf.bitwise.bitwise_or(_and(word, _SIGN_BIT), tf.bitcast(tf.constant(size), tf.int32))
        return tf.where(_and(word, 0x7FFFFFFF) <= largest, tf.bitcast(signed, tf.float32), 0.0)

    def from_words(x0, x1):
        return tuple(from_word(x)[:, tf.newaxis, :] for x in (x0, x1))

    def from_native(shape, seed):
        uniform = tf.random.stateless_uniform(shape, seed)
        return tf.where(uniform < density, tf.where(uniform < density / 2, size, -size), 0.0)

    return Distribution("sparse", 0.0, 1.0, (1, 1), from_words, from_native, 1 / density)


DISTRIBUTIONS: Dict[str, Distribution] = {
    distribution.name: distribution
    for distribution in (
        Distribution("normal", 0.0, 1.0, (1, 1), _normal_from_words, tf.random.stateless_normal, 3.0),
        Distribution(
            "uniform",
            0.0,
            1.0,
            (1, 1),
            _uniform_from_words(math.sqrt(3.0)),
            _uniform_native(math.sqrt(3.0)),
            1.8,
        ),
        Distribution("rademacher", 0.0, 1.0, (32, 32), _rademacher_from_words, _rademacher_native, 1.0),
        bernoulli(),
        sparse(),
        # Uniform on [-1, 1], as the 2020 code has it.
        Distribution(
            "uniform-2020", 0.0, 1.0 / 3.0, (1, 1), _uniform_from_words(1.0), _uniform_native(1.0), 1.8
        ),
        # -1.5 or 0.5, as the 2020 code's "Bernoulli-0.5" has it.
        Distribution(
            "bernoulli-2020",
            -0.5,
            1.0,
            (32, 32),
            _shifted_rademacher,
            lambda shape, seed: _rademacher_native(shape, seed) - 0.5,
            1.0,
        ),
    )
}


def get_distribution(name: str, **options) -> Distribution:
    """Returns the distribution `name`.

    Args:
      name: a key of `DISTRIBUTIONS`.
      **options: `p` for "bernoulli", `density` for "sparse"; none for the others.

    Raises:
      ValueError: for an unknown name.
      TypeError: for an option that the distribution does not have.
    """
    if name not in DISTRIBUTIONS:
        raise ValueError(f"distribution={name!r} is unknown; allowed: {sorted(DISTRIBUTIONS)}.")
    if name == "bernoulli":
        return bernoulli(**options)
    if name == "sparse":
        return sparse(**options)
    if options:
        raise TypeError(f"distribution {name!r} has no options, got {sorted(options)}.")
    return DISTRIBUTIONS[name]
