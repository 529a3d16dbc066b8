"""replay: a logged run repeated, without data or gradients."""

import os
from typing import Any, Dict, Optional, Sequence

from random_bases import files, keras_api
from random_bases.keras_api import keras
from random_bases.replay import movers
from random_bases.replay.format import FORMAT_VERSION, DamagedLogError, Log, Record, ReplayError, hash_of
from random_bases.sampling import STREAM_VERSION


def replay(log: files.AnyPath, model: keras.Model, step: Optional[int] = None) -> keras.Model:
    """Rebuilds the weights of a step of a logged run, without data or gradients.

    Args:
      log: path of a file that a `ReplayLog` wrote.
      model: a built Keras model with the weights from which the run started: of the same architecture
        and initialised with the same seed; of a `SubspaceModel` the one that it wrapped. Their hash tells
        whether they are.
      step: after how many steps; None: all, of a log whose training ended.

    Returns:
      `model` itself, changed in place: its trainable weights are those after `step` steps, bit for bit on
      the same kind of machine with the same TensorFlow; each hash on the way is checked.

    Raises:
      TypeError: if `model` is no Keras model.
      DamagedLogError: if the log is broken before that step, naming the record, or has no end.
      ReplayError: if it is for other random streams, another Keras, architecture or theta0, or if the
        weights' hash differs from a recorded one.
      ValueError: if `step` is out of range, or `model` not built.

    If any is raised, the model is as it was.
    """
    keras_api.check_built(model)
    path = os.fspath(log)
    opened = Log(path)
    header = opened.header
    variables = keras_api.trained_of(model.trainable_variables)
    expected = (
        ("format_version", FORMAT_VERSION),
        ("stream_version", STREAM_VERSION),
        ("keras", keras_api.GENERATION),
        ("variables", keras_api.describe(variables)),
        ("theta0_sha256", hash_of(variables)),
    )
    for name, value in expected:
        if header[name] != value:
            raise ReplayError(f"log={path!r} has {name}={header[name]!r}; this model and version: {value!r}.")
    records = opened.upto(step)
    theta0 = [variable.numpy() for variable in variables]
    try:
        with files.shaped(f"log={path!r}", DamagedLogError):
            _rebuild(header, model, records, path)
    except BaseException:
        for variable, value in zip(variables, theta0):
            variable.assign(value)
        raise
    return model


def _rebuild(header: Dict[str, Any], model: keras.Model, records: Sequence[Record], path: str) -> None:
    advance = movers.of_header(header).again(header, model)
    for record in records:
        if record.kind == b"S":
            advance(record.learning_rate, record.coordinates, record.step)
        elif hash_of(keras_api.trained_of(model.trainable_variables)) != record.digest:
            raise ReplayError(
                f"log={path!r}: the weights after {record.step} steps are not those of the run. Does this "
                "machine compute as the one that wrote it?"
            )
