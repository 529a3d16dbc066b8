"""A warning when a loss grows in the first steps of training, with what to do about it."""

import math
import warnings

from random_bases.keras_api import keras

_STEPS = 50
_FEWEST = 5  # of which the mean is no accident of a batch
_GROWTH = 2.0  # above what batches differ by


class WarnOfGrowth(keras.callbacks.Callback):
    """Warns once in a `fit` if its loss more than doubles in the first epoch's first 50 steps.

    The loss is Keras's mean over the steps so far, of at least five; the first one must be positive. One that
    is infinite or not a number is warned of at once.

    Args:
      advice: what to lower, in words.
    """

    _supports_tf_logs = True  # read in the first steps only, not copied in all

    def __init__(self, advice: str):
        super().__init__()
        self._advice = advice
        self._first = math.nan
        self._left = 0

    def on_train_begin(self, logs=None):
        del logs
        self._first, self._left = math.nan, _STEPS

    def on_train_batch_end(self, batch, logs=None):
        if not self._left or "loss" not in (logs or {}):
            return
        self._left -= 1
        loss = float(logs["loss"])
        if self._left == _STEPS - 1:
            self._first = loss
        judged = self._left <= _STEPS - _FEWEST
        if not math.isfinite(loss) or judged and 0 < _GROWTH * self._first < loss:
            self._left = 0
            warnings.warn(
                f"The loss has grown from {self._first:.3g} to {loss:.3g} in the first {batch + 1} steps: "
                f"{self._advice}.",
                stacklevel=2,
            )

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        self._left = 0
