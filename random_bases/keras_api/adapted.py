"""What layers learned by `adapt` and no variable of a fixed shape holds: vocabularies, boundaries.

| layer                      | learns                     | holds it in                                   |
| -------------------------- | -------------------------- | --------------------------------------------- |
| Normalization              | mean, variance             | variables, and uses copies of them            |
| Discretization             | boundaries                 | an attribute; in Keras 2 a variable gives it  |
| StringLookup, IntegerLookup | vocabulary, TF-IDF weights | a table; a variable of any length             |
"""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from random_bases.keras_api.generation import GENERATION, keras

_LAYERS = keras.layers.experimental.preprocessing if GENERATION == "keras2.6" else keras.layers
_LOOKUPS = (_LAYERS.StringLookup, _LAYERS.IntegerLookup)  # TextVectorization has one inside
# What `fit`, `evaluate` and `predict` have traced: with what layers had learned then.
_TRACED = ("train_function", "test_function", "predict_function")

State = Optional[Dict[str, Any]]


def adapted_state(model: keras.Model) -> List[State]:
    """What each layer of a model learned, as JSON has it; None of one that learned nothing."""
    return [_state_of(layer) for layer in model._flatten_layers()]


def adapted_variables(model: keras.Model) -> List[Any]:
    """The variables that hold what layers learned: Normalization's."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, _LAYERS.Normalization)]
    return [variable for layer in layers for variable in layer.weights]


def restore_adapted(model: keras.Model, states: Sequence[State] = ()) -> None:
    """Gives layers what `adapted_state` returned of a model like this; none: they keep what they have.

    To be called after variables were assigned to: Normalization uses what it derives from them.
    """
    layers = list(model._flatten_layers())
    for layer, state in zip(layers, states):
        if state is not None and state != _state_of(layer):
            _restore(layer, state)
    for layer in layers:
        if isinstance(layer, _LAYERS.Normalization):
            layer.finalize_state()
    for name in _TRACED:
        setattr(model, name, None)


def _state_of(layer) -> State:
    if isinstance(layer, _LOOKUPS) and layer.get_vocabulary(include_special_tokens=False):
        vocabulary = layer.get_vocabulary()
        state = {"vocabulary": _listed(vocabulary)}
        if layer.output_mode == "tf_idf":
            state["idf_weights"] = _listed(layer.idf_weights)[: len(vocabulary)]  # others are padding
        return state
    if isinstance(layer, _LAYERS.Discretization) and layer.num_bins is not None and layer.bin_boundaries:
        state = {"summary": _listed(layer.summary)}
        # Keras 3 saves them alone.
        return {**state, "bin_boundaries": _listed(layer.bin_boundaries)} if GENERATION == "keras3" else state
    return None


def _restore(layer, state: Dict[str, Any]) -> None:
    if "vocabulary" in state:
        layer.set_vocabulary(state["vocabulary"], state.get("idf_weights"))
    elif GENERATION == "keras3":
        layer.summary = np.array(state["summary"], np.float32)
        layer.bin_boundaries = state["bin_boundaries"]
    else:
        layer.summary.assign(state["summary"])
        layer.finalize_state()


def _listed(values) -> list:
    """Values of any kind as Python's own."""
    return np.asarray(values).tolist()
