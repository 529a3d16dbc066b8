"""TrajectoryRecorder: a Keras callback that keeps a model's weights while it is trained."""

import logging
from pathlib import Path
from typing import Any, Optional, Union

from random_bases import arguments, locks
from random_bases.averaging.snapshots import DTYPES, INDEX, TrajectoryWriter, read_index
from random_bases.keras_api import keras


class TrajectoryRecorder(keras.callbacks.Callback):
    """Writes the weights, and all other variables, to a directory: every epoch, or every few steps.

    Snapshots are named by their step, the count of weight updates: `optimizer.iterations`. Each is
    written whole or not at all; `Trajectory` reads them. While a process trains, the directory is locked:
    each worker of a `MultiWorkerMirroredStrategy` needs one of its own.

    Args:
      directory: is made if absent.
      every: "epoch", or a count of steps, which must be a multiple of `steps_per_execution`.
      start, stop: the first and the last to record: epochs done, or steps, as `every` says.
        `start=0` records the initial weights, too, which a model has once it is built. `stop=None`: no end.
      most: how many snapshots to keep, the last ones; None: all.
      dtype: of the weights on disk, "float32" or "float16".
      resume: whether to continue what the directory holds: what was recorded after the step at which training
        continues is dropped, and the result is the same as if it had never stopped. Without it, a
        directory that holds snapshots is refused.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
      ValueError: when an epoch ends, if `model.optimizer` counted none of its steps, as in a model that is
        trained by others, which it holds itself.
      TrajectoryError: when training begins, if the directory holds another architecture's weights, or
        damaged files; after the first step, for a model that `fit` builds.
      InUseError: when training begins, if another process records there.

    Example:
    >>> model.fit(x, y, epochs=10, callbacks=[rb.TrajectoryRecorder("trajectory", every="epoch")])
    """

    def __init__(
        self,
        directory: Union[str, Path],
        every: Union[str, int] = "epoch",
        start: int = 1,
        stop: Optional[int] = None,
        most: Optional[int] = None,
        dtype: str = "float32",
        resume: bool = False,
    ):
        super().__init__()
        self.directory = Path(directory)
        self.every = arguments.optional(arguments.integer, "every", every, 1, otherwise="epoch")
        self.start = arguments.integer("start", start, 0)
        self.stop = arguments.optional(arguments.integer, "stop", stop, self.start)
        self.most = arguments.optional(arguments.integer, "most", most, 1)
        self.dtype = arguments.one_of("dtype", dtype, DTYPES)
        self.resume = arguments.boolean("resume", resume)
        self._lock: Any = None
        self._writer: Any = None  # a TrajectoryWriter, once the model has weights
        self._epoch: Optional[int] = None

    def on_train_begin(self, logs=None):
        del logs
        self._epoch = None
        if self._lock is None:  # or a `fit` was ended by an error
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = locks.take(self.directory)
        if self._writer is None:
            if not self.resume and (self.directory / INDEX).exists():
                self._refuse(len(read_index(self.directory)["snapshots"]))
        self._open = False

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        if self._epoch is None:  # the first one of this `fit`, after checkpoints were restored
            self._last = self._step()
            initial = self.start == 0 and (epoch if self.every == "epoch" else self._last) == 0
            if self.model.built:
                self._begin_writing()
            elif initial:
                raise ValueError(
                    f"start=0 is for the initial weights, but model={self.model.name!r} is not built: call "
                    "it on a batch, or its `build`, first."
                )
            if initial:
                self._record(0)
            elif self.resume and self.model.built:
                self._make_up_for(epoch)
        self._epoch = epoch
        self._before, self._ran = self._step(), False

    def _make_up_for(self, epoch: int) -> None:
        """Records what training goes on from, if the process was killed between backup and recording.

        Callbacks that save the model may stand before this one.
        """
        if self.every == "epoch":
            missing = epoch > 0 and epoch not in self._writer.epochs
        else:
            due = self._last > 0 and self._last % self.every == 0
            missing = due and self._last not in self._writer.steps
        if missing and self._wanted(epoch if self.every == "epoch" else self._last):
            self._record(epoch)

    def _begin_writing(self) -> None:
        """When the model has weights: drops what is of steps that this `fit` makes anew."""
        self._open = True
        if self._writer is None or self._writer.model is not self.model:
            self._writer = TrajectoryWriter(self.directory, self.model, self.dtype)
        self._drop_after(self._last)

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self._ran = True
        if not self._open:  # the first step has built the model
            self._begin_writing()
        if self.every == "epoch":
            return
        last, step = self._last, self._step()
        self._last = step
        if step // self.every == last // self.every:
            return
        if step % self.every or step - last > self.every:
            raise ValueError(
                f"every={self.every} steps is not possible: {step - last} steps are executed at once (from "
                f"{last} to {step}); it must be a multiple of that."
            )
        if self._wanted(step):
            self._record(self._epoch + 1)

    def on_epoch_end(self, epoch, logs=None):
        del logs
        self._check_counted()
        if self.every == "epoch" and self._wanted(epoch + 1):
            self._record(epoch + 1)

    def on_train_end(self, logs=None):
        del logs
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_counted(self) -> None:
        """Raises if an epoch's steps were not counted: then another optimizer made them."""
        optimizer = self.model.optimizer
        # Either may have made no update of a short epoch.
        late = getattr(optimizer, "gradient_accumulation_steps", None) or isinstance(
            optimizer, keras.mixed_precision.LossScaleOptimizer
        )
        if self._ran and self._step() == self._before and not late:
            raise ValueError(
                f"model={self.model.name!r} was trained for an epoch, of which its `optimizer` counted no "
                "step: TrajectoryRecorder cannot count those of other optimizers; have `compile` set the "
                "attribute `optimizer` to one of them."
            )

    def _drop_after(self, step: int) -> None:
        later = [each for each in self._writer.steps if each > step]
        if later and not self.resume:
            self._refuse(len(later))
        if later:
            self._writer.drop_after(step)
            logging.getLogger("random_bases").info(
                "%s: training continues at step %d; dropped the snapshots of steps %s",
                self.directory,
                step,
                later,
            )

    def _refuse(self, snapshots: int) -> None:
        if snapshots:
            raise ValueError(
                f"directory={str(self.directory)!r} holds {snapshots} snapshots of another training: "
                "resume=True goes on with them, dropping those of later steps; or choose another directory."
            )

    def _wanted(self, position: int) -> bool:
        return self.start <= position and (self.stop is None or position <= self.stop)

    def _record(self, epoch: int) -> None:
        self._writer.append(self._step(), epoch, self.most or 0)

    def _step(self) -> int:
        optimizer = self.model.optimizer
        if optimizer is None:
            raise ValueError(
                f"model={self.model.name!r} has no `optimizer`, whose `iterations` are the steps: give "
                "`compile` one."
            )
        return int(optimizer.iterations.numpy())
