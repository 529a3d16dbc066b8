"""Which layers of a model are linear, and their calls with taps in place of their own."""

import contextlib
import functools
import inspect
import threading
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple, Type

import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.bases.kronecker import Matrix, matrix_of
from random_bases.keras_api import keras
from random_bases.models import linear_layers, recurrent_cells
from random_bases.models.linear_layers import LinearLayer


def _kinds() -> Dict[Any, Tuple[Type[LinearLayer], ...]]:
    """Keras's class -> what its layers' linear parts are."""
    layers = keras.layers
    einsum = getattr(layers, "EinsumDense", None) or layers.experimental.EinsumDense
    return {
        layers.Dense: (linear_layers.Dense,),
        einsum: (linear_layers.EinsumDense,),
        # Before convolutions, of which they are subclasses in Keras 2.
        layers.Conv1DTranspose: (linear_layers.TransposedConvolution,),
        layers.Conv2DTranspose: (linear_layers.TransposedConvolution,),
        layers.Conv3DTranspose: (linear_layers.TransposedConvolution,),
        layers.Conv1D: (linear_layers.Convolution,),
        layers.Conv2D: (linear_layers.Convolution,),
        layers.Conv3D: (linear_layers.Convolution,),
        layers.Embedding: (linear_layers.Embedding,),
        **recurrent_cells.kinds(),
    }


def of(model: keras.Model, variables: Sequence) -> Dict[int, LinearLayer]:
    """The layers of `model` whose kernel is among `variables`: id(variable) -> layer.

    Layers with a `call` of a class that is not Keras's, with a kernel that is the product of others (LoRA)
    or quantised, and those that share their kernel with another layer are none.
    """
    trained = {id(variable) for variable in variables}
    kinds = _kinds()
    found: Dict[int, LinearLayer] = {}
    shared = set()
    layers = keras_api.layers_of(model)
    around = _around_cells(layers)
    for layer in layers:
        cls = next((each for each in kinds if isinstance(layer, each)), None)
        if cls is None or not layer.built or type(layer).call is not cls.call:
            continue
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None) is not None:
            continue
        for kind in kinds[cls]:
            if not kind.takes(layer):
                continue
            linear = kind(layer, around.get(id(layer), {}))
            identity = id(linear.kernel)
            if identity in found and found[identity].layer is not layer:
                shared.add(identity)
            if identity in trained:
                found[identity] = linear
    return {identity: each for identity, each in found.items() if identity not in shared}


def _around_cells(layers: Sequence[keras.layers.Layer]) -> Dict[int, Dict[keras.layers.Layer, Callable]]:
    """id(cell) -> what recurrent layers do in place of a call of their own that does not call the cell."""
    found: Dict[int, Dict[keras.layers.Layer, Callable]] = {}
    unused = _unused_cells(layers)
    for layer in layers:
        loop = keras_api.loop_of_cell(layer) if isinstance(layer, keras.layers.RNN) else None
        if loop is not None and id(layer.cell) not in unused:
            found.setdefault(id(layer.cell), {})[layer] = loop
    return found


def _unused_cells(layers: Sequence[keras.layers.Layer]) -> Set[int]:
    """The id of each cell in whose place cuDNN may compute."""
    computed = (keras.layers.LSTM, keras.layers.GRU) if tf.config.list_physical_devices("GPU") else ()
    return {id(layer.cell) for layer in layers if isinstance(layer, computed)}


def read_whole(model: keras.Model, linear: Iterable[LinearLayer]) -> List[LinearLayer]:
    """Those of `linear` that may not be called: cuDNN computes in their place, with kernels as they are.

    What is drawn for a kernel does not depend on it: a run may go on, or be replayed, on another machine.
    """
    unused = _unused_cells(keras_api.layers_of(model))
    return [each for each in linear if id(each.layer) in unused]


def matrices(linear: Mapping[int, LinearLayer], variables: Sequence) -> List[Matrix]:
    """The matrix of each variable: as its linear layer uses it, else by its shape."""
    return [linear[id(v)].matrix if id(v) in linear else matrix_of(tuple(v.shape)) for v in variables]


class TappedKernel(NamedTuple):
    """A linear layer's kernel in a forward pass.

    Attributes:
      linear: the layer.
      plain: what the layer reads its kernel as.
      tap: what the linear part passes through.
    """

    linear: LinearLayer
    plain: Tensor
    tap: linear_layers.Tap


def calls(kernels: Iterable[TappedKernel], substitution) -> Dict[keras.layers.Layer, Callable]:
    """What runs in place of layers' `call` for their linear parts to pass through taps.

    Args:
      kernels: each with its tap.
      substitution: the `keras_api.Substitution` in which kernels read as what they are elsewhere.
    """
    of_layers: Dict[int, List[TappedKernel]] = {}
    functions: Dict[keras.layers.Layer, Callable] = {}
    for kernel in kernels:
        of_layers.setdefault(id(kernel.linear.layer), []).append(kernel)
        functions.update(kernel.linear.around)
    for each in of_layers.values():
        functions[each[0].linear.layer] = _call(each, substitution)
    return functions


def _call(kernels: Sequence[TappedKernel], substitution) -> Callable:
    """In place of one layer's `call`."""
    linear = kernels[0].linear
    taps = {kernel.linear.attribute: kernel.tap for kernel in kernels}

    def call(x, *arguments, **options):
        if not linear.takes_inputs(x):  # then it reads the kernel as it is elsewhere
            return type(linear.layer).call(linear.layer, x, *arguments, **options)
        with contextlib.ExitStack() as scopes:
            for kernel in kernels:
                scopes.enter_context(substitution.reading(kernel.linear.kernel, kernel.plain))
            return linear.call(taps, x, *arguments, **options)

    return call


# What this thread's models do in place of layers' calls: id(layer) -> function. Replicas are threads.
_HERE = threading.local()
_LOCK = threading.Lock()
_USES: Dict[int, int] = {}


@contextlib.contextmanager
def rerouted(functions: Mapping[keras.layers.Layer, Callable]):
    """A scope in which layers' `call`, with its arguments, is a function's, in this thread."""
    before = getattr(_HERE, "functions", {})
    layers = list(functions)
    _HERE.functions = {**before, **{id(layer): function for layer, function in functions.items()}}
    with _LOCK:
        for layer in layers:
            _USES[id(layer)] = _USES.get(id(layer), 0) + 1
            if _USES[id(layer)] == 1:
                layer.__dict__["call"] = _rerouting(layer)
    try:
        yield
    finally:
        _HERE.functions = before
        with _LOCK:
            for layer in layers:
                _USES[id(layer)] -= 1
                if not _USES[id(layer)]:
                    del _USES[id(layer)], layer.__dict__["call"]


def _rerouting(layer: keras.layers.Layer) -> Callable:
    own = functools.partial(type(layer).call, layer)

    def call(*arguments, **options):
        function = getattr(_HERE, "functions", {}).get(id(layer), own)
        return function(*arguments, **options)

    # Layers around this one ask whether it takes a mask, or `training`, before they hand it on.
    call.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
    return tf.autograph.experimental.do_not_convert(call)
