"""PowerSGD of Vogels, Karimireddy and Jaggi 2019 (arXiv:1905.13727), the peer of error feedback.

Algorithms 1 and 2 for one worker. A gradient that is a matrix M [n, m] is compressed with its memory E:

    M <- M + E;   P <- M Q;   P <- orthonormal P;   Q <- M^T P;   update = P Q^T;   E <- M - P Q^T

P and Q, r (n + m) numbers, are what workers would reduce; Q is kept for the next step. Kernels of
convolutions are matrices [everything else, outputs]; vectors travel as they are.
"""

import math
from typing import List, Optional, Sequence

import tensorflow as tf
from tensorflow import Tensor

from random_bases.keras_api import keras

_BYTES = 4


class LowRank:
    """What the inner optimizer gets in place of gradients, and the memory of what that leaves out.

    Args:
      shapes: of the gradients.
      rank: r; a matrix with a smaller side gets as many as that has.
      seed: of the first Q, an int.

    Attributes:
      errors: a variable [n, m] for each matrix, None for a vector.
      bytes_per_step: of P, Q and the vectors, float32.
    """

    def __init__(self, shapes: Sequence[Sequence[int]], rank: int = 1, seed: int = 0):
        self._shapes = [tuple(shape) for shape in shapes]
        self.errors: List[Optional[tf.Variable]] = []
        self._q: List[Optional[tf.Variable]] = []
        numbers = 0
        for index, shape in enumerate(self._shapes):
            if len(shape) < 2:
                self.errors.append(None)
                self._q.append(None)
                numbers += math.prod(shape)
                continue
            n, m = math.prod(shape[:-1]), shape[-1]
            r = min(rank, n, m)
            self.errors.append(tf.Variable(tf.zeros([n, m]), trainable=False))
            start = tf.random.stateless_normal([m, r], [seed, index])
            self._q.append(tf.Variable(start, trainable=False))
            numbers += r * (n + m)
        self.bytes_per_step = _BYTES * numbers

    def __call__(self, gradients: Sequence[Tensor]) -> List[Tensor]:
        """One step: tensors of the gradients' shapes."""
        columns = zip(gradients, self._shapes, self.errors, self._q)
        return [g if error is None else self._matrix(g, shape, error, q) for g, shape, error, q in columns]

    def _matrix(self, gradient: Tensor, shape, error: tf.Variable, kept: tf.Variable) -> Tensor:
        matrix = tf.reshape(gradient, error.shape) + error
        p, _ = tf.linalg.qr(matrix @ kept)  # Gram-Schmidt, as theirs, but for signs, which Q undoes
        q = tf.matmul(matrix, p, transpose_a=True)
        update = tf.matmul(p, q, transpose_b=True)
        error.assign(matrix - update)
        kept.assign(q)
        return tf.reshape(update, shape)


class PowerSGD(keras.optimizers.SGD):
    """Keras's SGD, with `LowRank` before it; what it keeps is in no checkpoint.

    Args:
      learning_rate: SGD's.
      variables: what will be trained, in the order in which the gradients come.
      rank: as of `LowRank`.
    """

    def __init__(self, learning_rate: float, variables: Sequence, rank: int = 1):
        super().__init__(learning_rate)
        self._low_rank = LowRank([variable.shape for variable in variables], rank)

    @property
    def bytes_per_step(self) -> int:
        """As of `LowRank`."""
        return self._low_rank.bytes_per_step

    def apply_gradients(self, grads_and_vars, *arguments, **keywords):
        """One step along what `LowRank` makes of the gradients."""
        gradients, variables = zip(*grads_and_vars)
        return super().apply_gradients(zip(self._low_rank(gradients), variables), *arguments, **keywords)
