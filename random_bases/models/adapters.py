"""Many fine-tuned models over one base: what each adds is a file of coordinates and a seed.

Fine-tuning in a random subspace of low-rank factors is that of Uni-LoRA (Li et al. 2025, arXiv:2506.00799)
and NOLA (Koohpayegani et al. 2024, arXiv:2310.02556); in one of all weights, of Aghajanyan et al. 2021
(arXiv:2012.13255).
"""

import os
from typing import Any, Dict, List, Mapping, Tuple, Union

import numpy as np
import tensorflow as tf

from random_bases import arguments, files, keras_api
from random_bases.keras_api import keras
from random_bases.models import compression


class Adapters:
    """Files of `SubspaceModel.export_compressed` over one base model, which is never built again.

    The base may be of any kind: with LoRA variables that were trained and other weights frozen, quantised or
    not. It has the weights from which the files were trained; their hash, taken once, is checked for each
    file. What is kept of a file is its coordinates; of the base, a copy of what files change.

    Args:
      model: a built Keras model; changed in place by `use`; nothing else may change its trained weights.

    Attributes:
      model: as above.

    Raises:
      TypeError, ValueError: if `model` is no built Keras model.

    Example:
    >>> adapters = rb.Adapters(base)
    >>> adapters.load("french", "french.rb")
    >>> adapters.load("german", "german.rb")
    >>> adapters.use("french")
    >>> adapters.use({"french": 0.5, "german": 0.5})  # merged
    >>> adapters.use(None)  # the base
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self._base = compression.Base(model)
        self._adapted = keras_api.adapted_state(model)
        self._loaded: Dict[str, compression.Loaded] = {}
        self._originals: Dict[int, Tuple[Any, tf.Tensor]] = {}
        self._used: Dict[str, float] = {}

    @property
    def names(self) -> List[str]:
        """The names of what is loaded."""
        return list(self._loaded)

    @property
    def used(self) -> Dict[str, float]:
        """What is in the model's weights now: names and factors; empty: the base."""
        return dict(self._used)

    def load(self, name: str, path: files.AnyPath) -> None:
        """Reads a file, to be used by this name; the model stays as it is.

        Args:
          name: a new one, or one that is not in use, whose file it takes the place of.
          path: of the file.

        Raises:
          CompressedFileError, OSError: as `load_compressed`: the model's own weights, not those of what is in
            use, must be what the file was trained from.
          TypeError: if `name` is no string.
          ValueError: if it is in use, or if layers of the model were adapted (`adapt`) to other data.
        """
        arguments.check(isinstance(name, str), "name", name, "a string", TypeError)
        arguments.check(name not in self._used, "name", name, "one that is not in use")
        loaded = compression.read(path, self._base)
        learned = {id(variable) for variable in keras_api.adapted_variables(self.model)}
        same = all(np.array_equal(v.numpy(), value) for v, value in loaded.state if id(v) in learned)
        if (loaded.adapted or [None] * len(self._adapted)) != self._adapted or not same:
            raise ValueError(
                f"path={os.fspath(path)!r}: its model has layers that learned other things by `adapt` than "
                f"those of model={self.model.name!r}; load it by itself, with load_compressed."
            )
        for variable in [*loaded.parametrisation.variables, *(variable for variable, _ in loaded.state)]:
            self._originals.setdefault(id(variable), (variable, keras_api.value_of(variable)))
        self._loaded[name] = loaded

    def use(self, adapters: Union[None, str, Mapping[str, float]]) -> None:
        """Puts what is loaded into the model's weights, in place of what was there.

        Args:
          adapters: a name; or names and factors w, for theta0 + sum of w P c, each with its own P; None: the
            base's own weights.

        Raises:
          TypeError, ValueError: for a name that is not loaded, or a factor that is no finite number; or if
            several have state, such as moving statistics, which cannot be merged.
        """
        factors = self._factors(adapters)
        values = {key: value for key, (_, value) in self._originals.items()}
        moved: Dict[int, tf.Tensor] = {}
        state: List[Tuple[Any, np.ndarray]] = []
        for name, factor in factors.items():
            parametrisation, coordinates = self._loaded[name].parametrisation, self._loaded[name].coordinates
            directions = parametrisation.expand(tf.constant(np.float32(factor) * coordinates))
            for variable, direction in zip(parametrisation.variables, directions):
                key = id(variable)
                moved[key] = moved[key] + direction if key in moved else direction
            state = self._loaded[name].state
        if len(factors) > 1 and state:
            raise ValueError(
                f"adapters={adapters!r} cannot be merged: {keras_api.path_of(state[0][0])!r} is a state that "
                "each has of its own; allowed for such models: one name."
            )
        for key, direction in moved.items():
            values[key] += tf.cast(direction, values[key].dtype)
        values.update({id(variable): value for variable, value in state})
        for key, (variable, _) in self._originals.items():
            variable.assign(values[key])
        self._used = factors

    def _factors(self, adapters: Union[None, str, Mapping[str, float]]) -> Dict[str, float]:
        if adapters is None:
            return {}
        if isinstance(adapters, str):
            adapters = {adapters: 1.0}
        what = "a name, a dict of names and factors, or None"
        arguments.check(isinstance(adapters, Mapping), "adapters", adapters, what, TypeError)
        for name in adapters:
            arguments.one_of("adapters", name, self.names)
        return {name: arguments.number(f"adapters[{name!r}]", factor) for name, factor in adapters.items()}
