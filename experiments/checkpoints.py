"""Checkpoints of a run, one after each epoch: which of them can be gone on from.

A checkpoint is whole if TensorFlow reads every tensor in it (each has a checksum) and if it is of the epoch
that its name says. TensorFlow's own record of the newest, the file `checkpoint`, is written, for its tools,
but not believed.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import tensorflow as tf

from experiments import results
from random_bases.keras_api import keras

_NAME = "ckpt"
_FILES = re.compile(rf"{_NAME}-(\d+)\.(index|data-\d+-of-\d+)")
# What a kill in the middle of saving leaves.
_TEMPORARY = re.compile(rf"{_NAME}-\d+_temp.*|checkpoint\.tmp.*")
_KEPT = 2  # after an epoch; so there is one while another is written, or found to be damaged
_VALUE = "{}/.ATTRIBUTES/VARIABLE_VALUE"
# Of a run: where its data lies does not change it, and one of fewer epochs is its beginning.
_FREE = ("data_dir", "epochs")


class EpochCheckpoint(keras.callbacks.Callback):
    """Saves model, optimizer and configuration after each epoch, and keeps the last two.

    Every worker saves, as TensorFlow asks for, to `own`; all restore from the chief's, `directory`.

    Args:
      model, optimizer: built ones.
      config: the run's configuration, which tells its checkpoints from those of another.
      default: as of `results.check_config`.
      directory: of the chief's checkpoints.
      own: where this process saves.
    """

    def __init__(
        self, model, optimizer, config: Dict[str, Any], default: Dict[str, Any], directory: Path, own: Path
    ):
        super().__init__()
        self._parts = {
            "model": model,
            "optimizer": optimizer,
            "epoch": tf.Variable(0, dtype=tf.int64, trainable=False),
        }
        # Not in `on_train_begin`, which may run in a strategy's scope: replicas cannot share strings.
        saved = tf.Variable(json.dumps(config, sort_keys=True), dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(config=saved, **self._parts)
        self._config, self._default = config, default
        self._directory, self._own = directory, own

    def restore(self, most: int) -> int:
        """Restores the newest checkpoint that is whole; returns the number of epochs done, 0 without any.

        Args:
          most: of how many epochs there are metrics; a later checkpoint is passed over.

        Raises:
          DamagedError: if there are checkpoints, but none that can be gone on from, or one of another run; if
            there is none, but metrics of more epochs than the one that a kill can have left.
        """
        passed_over = []
        for epoch in sorted(_epochs(self._directory), reverse=True):
            path = self._directory / f"{_NAME}-{epoch}"
            wrong = _what_is_wrong(path, epoch)
            if not wrong and epoch > most:
                wrong = f"metrics.csv has whole rows of {most} epochs only"
            if wrong:
                passed_over.append(f"{path}: {wrong}")
                continue
            self._check_run(path)
            if passed_over:
                logging.getLogger("random_bases").warning(
                    "Going on from %s. %s.", path, "; ".join(passed_over)
                )
            # Without the configuration, which earlier versions did not save: partial.
            status = tf.train.Checkpoint(**self._parts).restore(str(path))
            status.assert_existing_objects_matched().expect_partial()
            return epoch
        if passed_over:
            raise results.DamagedError(
                f"{self._directory} has no checkpoint to go on from. {'; '.join(passed_over)}. Overwrite the "
                "run, or put back what it had."
            )
        if most > 1:
            raise results.DamagedError(
                f"{self._directory} has no checkpoint, but metrics.csv has {most} epochs. Overwrite the run, "
                "or put back what it had."
            )
        return 0

    def _check_run(self, path: Path) -> None:
        """Raises unless the checkpoint is of this configuration."""
        reader = tf.train.load_checkpoint(str(path))
        if reader.has_tensor(_VALUE.format("config")):
            found = json.loads(reader.get_tensor(_VALUE.format("config")))
            try:
                results.check_same(path, found, self._config, _FREE, self._default)
            except ValueError as error:
                raise results.DamagedError(str(error)) from None

    def on_train_begin(self, logs=None):
        del logs
        if self._own.exists():
            for path in self._own.iterdir():
                if _TEMPORARY.fullmatch(path.name):
                    tf.io.gfile.rmtree(str(path)) if path.is_dir() else path.unlink()

    def on_epoch_end(self, epoch, logs=None):
        del logs
        self._parts["epoch"].assign(epoch + 1)
        self._checkpoint.save_counter.assign(epoch)  # `save` adds 1, and names the files by it
        self._checkpoint.save(str(self._own / _NAME))
        kept = range(epoch + 2 - _KEPT, epoch + 2)
        for number in _epochs(self._own) - set(kept):
            for path in _files(self._own, number):
                path.unlink()


def _epochs(directory: Path) -> Set[int]:
    """The numbers of all checkpoints of which there is a file."""
    if not directory.exists():
        return set()
    found = (_FILES.fullmatch(path.name) for path in directory.iterdir())
    return {int(match[1]) for match in found if match}


def _files(directory: Path, epoch: int) -> List[Path]:
    found = ((path, _FILES.fullmatch(path.name)) for path in directory.iterdir())
    return [path for path, match in found if match and int(match[1]) == epoch]


def _what_is_wrong(path: Path, epoch: int) -> str:
    """Why a checkpoint cannot be restored; "" if it can."""
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
        found = int(reader.get_tensor(_VALUE.format("epoch")))
    except Exception as error:  # TensorFlow's reader raises almost any kind
        return f"it is damaged ({getattr(error, 'message', error)})"
    return "" if found == epoch else f"it is of epoch {found}"
