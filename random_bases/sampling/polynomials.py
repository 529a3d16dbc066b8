"""Elementary functions written out as polynomials.

Compilers differ in theirs, and XLA calls libm for sine and cosine, one element at a time.
"""

from typing import Tuple

import numpy as np
import tensorflow as tf


def horner(x: tf.Tensor, coefficients: Tuple[float, ...]) -> tf.Tensor:
    """The polynomial with these coefficients, the highest power's first, at `x`."""
    value = tf.constant(coefficients[0], tf.float32)
    for coefficient in coefficients[1:]:
        value = value * x + np.float32(coefficient)
    return value


def sine_cosine(angle: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Sine and cosine of angles in [-pi/4, pi/4]: the polynomials of Cephes's sinf and cosf."""
    square = angle * angle
    sine = angle + angle * square * horner(square, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
    cosine = 1.0 + square * (
        square * horner(square, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)) - 0.5
    )
    return sine, cosine
