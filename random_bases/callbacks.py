"""Keras callbacks that change how a model trains in random bases, or show what training does to it."""

from random_bases import arguments, device, keras_api
from random_bases.analysis.effective_rank import effective_ranks
from random_bases.keras_api import keras, strategy_of
from random_bases.optimizers import RandomBasesDescent


class SwitchToInner(keras.callbacks.Callback):
    """Goes on without random bases from an epoch on: the inner optimizer of `RandomBasesDescent` takes over.

    So training starts in random bases and ends with, say, plain SGD. Momentum and the count of updates
    are the inner optimizer's all along and go on. Afterwards `model.optimizer` is the inner
    optimizer, and the model is saved with it. A fit resumed at or after `epoch` (`initial_epoch`)
    switches before its first step, so the state to restore is best kept in a `tf.train.Checkpoint` of the
    `RandomBasesDescent`, which holds the inner optimizer's; `BackupAndRestore` saves what
    `model.optimizer` is and cannot restore across the switch.

    Args:
      epoch: the first one without random bases, counted from 0.
      learning_rate: the one to go on with. RBD with rate lr moves like SGD with lr * d / D, so going on
        with the same would be D / d times as fast.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value; when training begins, for a
        model whose optimizer is not a `RandomBasesDescent`, or accumulates gradients, scales the loss or
        has a schedule as its learning rate.

    Example:
    >>> model.fit(x, y, epochs=10, callbacks=[rb.callbacks.SwitchToInner(epoch=8, learning_rate=0.1)])
    """

    def __init__(self, epoch: int, learning_rate: float):
        super().__init__()
        self.epoch = arguments.integer("epoch", epoch, 0)
        self.learning_rate = arguments.positive("learning_rate", learning_rate)
        self._inner = None

    def on_train_begin(self, logs=None):
        del logs
        device.of(strategy_of(self.model)).refuse("SwitchToInner, which replaces the optimizer within `fit`,")
        optimizer = self.model.optimizer
        if optimizer is self._inner:
            return  # another fit, after the switch
        if not isinstance(optimizer, RandomBasesDescent):
            raise TypeError(
                f"SwitchToInner needs a model whose optimizer is a RandomBasesDescent, not a "
                f"{type(optimizer).__name__}."
            )
        # Keras 3: the wrapper took this over from the inner optimizer, which would not do it.
        if getattr(optimizer, "gradient_accumulation_steps", None):
            raise ValueError("SwitchToInner does not support gradient_accumulation_steps.")
        if isinstance(optimizer.inner_optimizer.get_config()["learning_rate"], dict):
            raise ValueError(
                "SwitchToInner sets the inner optimizer's learning rate, which is a LearningRateSchedule; "
                "give it a number, and let a LearningRateScheduler callback change it."
            )

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        if epoch < self.epoch or self.model.optimizer is self._inner:
            return
        inner = self.model.optimizer.inner_optimizer
        inner.learning_rate = self.learning_rate
        self._inner = inner
        keras_api.attach_optimizer(self.model, inner)
        # What was traced has the other optimizer in it.
        self.model.make_train_function(force=True)


class EffectiveRanks(keras.callbacks.Callback):
    """Adds the effective rank of each trained kernel to an epoch's logs: see `rb.analysis.effective_rank`.

    They are named "effective_rank/dense/kernel". History has them, and so have callbacks that come after this
    one in the list, such as CSVLogger and TensorBoard. Singular values are computed by NumPy, in
    O(m n min(m, n)) time for a kernel [m, n].

    Args:
      every: ranks are computed after every so many epochs.

    Raises:
      TypeError, ValueError: if `every` has a wrong type or a wrong value.

    Example:
    >>> history = model.fit(x, y, epochs=10, callbacks=[rb.callbacks.EffectiveRanks()]).history
    """

    def __init__(self, every: int = 1):
        super().__init__()
        self._every = arguments.integer("every", every, 1)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and (epoch + 1) % self._every == 0:
            ranks = effective_ranks(self.model)
            logs.update({f"effective_rank/{path}": rank for path, rank in ranks.items()})
