"""Weights of Keras models to and from safetensors files, which other libraries read."""

import os
from typing import Any, Callable, Dict, Optional

import numpy as np

from random_bases import files, keras_api, safetensors
from random_bases.keras_api import keras
from random_bases.safetensors import SafetensorsError

Names = Callable[[str], str]


def save_safetensors(path: files.AnyPath, model: keras.Model, names: Optional[Names] = None) -> int:
    """Writes all weights of a model, frozen and quantised ones and moving statistics, too.

    Args:
      path: of the file, "....safetensors".
      model: a built Keras model.
      names: a function from a variable's path, "dense/kernel", to its name in the file; by default the path.

    Returns:
      The file's size in bytes.

    Raises:
      TypeError, ValueError: if `model` is no built Keras model, or two weights have one name.
      OSError: if the file cannot be written.

    Example:
    >>> rb.save_safetensors("model.safetensors", model)
    >>> rb.load_safetensors("model.safetensors", build_model())
    """
    arrays = {name: np.asarray(v.numpy()) for name, v in _named(model, names).items()}
    return safetensors.write(path, arrays, {"format": "random_bases"})


def load_safetensors(path: files.AnyPath, model: keras.Model, names: Optional[Names] = None) -> keras.Model:
    """Gives a model the weights of a file, which must have all of them, and no others.

    Args:
      path: of a safetensors file, by whichever library.
      model: a built Keras model.
      names: as of `save_safetensors`: the name in the file of each variable's path.

    Returns:
      `model` itself, changed in place.

    Raises:
      SafetensorsError: if the file is damaged, lacks weights, has others, or has one of another shape or
        dtype; the model is as it was.
      TypeError, ValueError, OSError: as `save_safetensors`.
    """
    variables, path = _named(model, names), os.fspath(path)
    arrays, _ = safetensors.read(path)
    missing, unknown = sorted(set(variables) - set(arrays)), sorted(set(arrays) - set(variables))
    if missing or unknown:
        raise SafetensorsError(
            f"path={path!r} lacks {missing} of model={model.name!r} and has {unknown} beside; give names= if "
            "they are named in another way."
        )
    for name, variable in variables.items():
        (wanted,), (found,) = keras_api.describe([variable]), keras_api.describe([arrays[name]])
        if wanted != found:
            raise SafetensorsError(f"path={path!r} has {name!r} as {found}; model={model.name!r}: {wanted}.")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    keras_api.restore_adapted(model)
    return model


def _named(model: keras.Model, names: Optional[Names]) -> Dict[str, Any]:
    keras_api.check_built(model)
    found: Dict[str, Any] = {}
    for variable in keras_api.weights_of(model):
        name = keras_api.path_of(variable)
        name = name if names is None else names(name)
        if name in found:
            raise ValueError(
                f"model={model.name!r} has two weights named {name!r}: give layers other names, or names=."
            )
        found[name] = variable
    return found
