"""Keras callbacks that change how a model trains in random bases, or show what training does to it."""

import os
from typing import Any, Optional, Tuple, Union

import tensorflow as tf

from random_bases import arguments, device, keras_api
from random_bases.analysis.effective_rank import effective_ranks
from random_bases.analysis.gradient_correlation import correlation
from random_bases.analysis.objective import Loss, Objective
from random_bases.keras_api import keras, strategy_of
from random_bases.models import SubspaceModel
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


class CoordinateSummary(keras.callbacks.Callback):
    """Writes what the coordinates do as summaries that TensorBoard shows, after each epoch.

    | name                  | of what                                                                  |
    | --------------------- | ------------------------------------------------------------------------ |
    | `coordinates`         | a histogram of the coordinates                                           |
    | `coordinates/norm`    | their length                                                             |
    | `gradient/captured`   | the share of the gradient's square that lies along P P^T g: the square of |
    |                       | their cosine; with n trained weights in expectation d / n for             |
    |                       | orthonormal directions, about d / (n + d) for independent ones            |

    The coordinates are those that a `SubspaceModel` trains; with redraws, and of `RandomBasesDescent`, they
    are P^T g for the directions of the next update, with the gradient g of `data` (without what error
    feedback remembers). The package tensorboard must be installed, whose functions TensorFlow calls.

    Args:
      log_dir: where event files go, as of Keras's `TensorBoard`.
      data: a pair (x, y), or an iterable of pairs, on which the gradient is taken, in inference mode.
      loss: a Keras loss, its name or a function (y, predictions); None: the model's compiled one.
      every: summaries are written after every so many epochs.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value; when training begins, for a
        model that is neither a `SubspaceModel` nor trained by a `RandomBasesDescent` whose directions a seed
        draws.

    Example:
    >>> summary = rb.callbacks.CoordinateSummary("logs", (x[:1000], y[:1000]))
    >>> model.fit(x, y, epochs=10, callbacks=[summary])
    """

    def __init__(
        self, log_dir: Union[str, "os.PathLike[str]"], data: Any, loss: Optional[Loss] = None, every: int = 1
    ):
        super().__init__()
        self._log_dir = os.fspath(log_dir)
        self._data, self._loss = data, loss
        self._every = arguments.integer("every", every, 1)
        with tf.summary.create_noop_writer().as_default():
            tf.summary.scalar("installed", 1.0, step=0)  # which raises now, not after an epoch, if it is not

    def on_train_begin(self, logs=None):
        del logs
        model = self.model
        loss = getattr(model, "loss", None) if self._loss is None else self._loss
        self._optimizer, wrapped = None, model
        if isinstance(model, SubspaceModel):
            wrapped = model.model
        else:
            self._optimizer = getattr(model, "optimizer", None)
            if isinstance(self._optimizer, keras.mixed_precision.LossScaleOptimizer):
                self._optimizer = self._optimizer.inner_optimizer
            if not isinstance(self._optimizer, RandomBasesDescent):
                raise TypeError(
                    "CoordinateSummary needs a SubspaceModel, or a model whose optimizer is a "
                    f"RandomBasesDescent, not a {type(model).__name__} with {type(model.optimizer).__name__}."
                )
            if self._optimizer.rule.basis == "history":
                raise ValueError('CoordinateSummary needs directions that a seed draws; basis is "history".')
        self._objective = Objective(wrapped, self._data, loss)
        self._writer = tf.summary.create_file_writer(self._log_dir)

    def on_epoch_end(self, epoch, logs=None):
        del logs
        if (epoch + 1) % self._every:
            return
        coordinates, captured = self._measured()
        with self._writer.as_default():
            tf.summary.histogram("coordinates", coordinates, step=epoch)
            tf.summary.scalar("coordinates/norm", tf.norm(coordinates), step=epoch)
            tf.summary.scalar("gradient/captured", captured, step=epoch)
        self._writer.flush()

    def on_train_end(self, logs=None):
        del logs
        self._writer.close()

    def _measured(self) -> Tuple[tf.Tensor, float]:
        """The coordinates, float32 [d], and the share of the gradient."""
        if self._optimizer is None:
            model = self.model
            gradient = self._objective.gradient(model.theta())
            subspace, seed, draw = model.subspace, model.seed, model.draw
            trained = keras_api.value_of(model.coordinates) if model.redraw_every is None else None
        else:
            gradient = self._objective.gradient()
            rule = self._optimizer.rule
            subspace, seed, trained = rule.subspace, rule.seed, None
            draw = rule.directions.draws(keras_api.updates_of(self._optimizer.inner_optimizer))
        captured = correlation(gradient, subspace, seed, draw).network ** 2
        return subspace.project(gradient, seed, draw) if trained is None else trained, captured
