"""Cells of LSTM, GRU and SimpleRNN: two linear parts a time step, x W of the inputs and h U of the state.

A cell's own call has its products among its gates, where nothing can be put between them. So what is here
runs in its place: the formulas (Hochreiter and Schmidhuber 1997; Cho et al. 2014, arXiv:1406.1078) as Keras
has them with `implementation=2`. The layers around a cell, with loops, masks and states, are Keras's own;
LSTM and GRU of Keras 2, whose call has no cell in it, have that of `keras.layers.RNN`.
"""

from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.keras_api import keras
from random_bases.models.linear_layers import Dense, LinearLayer, Taps


class _InputKernel(Dense):
    """W, of a cell's inputs."""

    @classmethod
    def takes(cls, layer: keras.layers.Layer) -> bool:
        of_each_gate = layer.recurrent_dropout or (layer.dropout and getattr(layer, "implementation", 2) == 1)
        # Subclasses may have other gates. `keras.layers.LSTM` of Keras 2.6 has the class below LSTMCell.
        itself = any(type(layer) in (kind, _with_call(kind)) for kind in _STEPS)
        return itself and not of_each_gate

    def call(self, taps: Taps, x: Any, *arguments, **options):
        (step,) = (step for kind, step in _STEPS.items() if isinstance(self.layer, _with_call(kind)))
        return step(_Products(self.layer, taps), x, *arguments, **options)


class _RecurrentKernel(_InputKernel):
    """U, of a cell's state."""

    attribute = "recurrent_kernel"


def kinds() -> Dict[Any, Tuple[Type[LinearLayer], ...]]:
    """Keras's class -> what its layers' linear parts are."""
    return {_with_call(kind): (_InputKernel, _RecurrentKernel) for kind in _STEPS}


def _with_call(kind: type) -> type:
    """The class that `kind` has its `call` from."""
    return next(each for each in kind.__mro__ if "call" in vars(each))


class _Products:
    """What a cell's gates are computed of: products with its kernels, each through its tap, and biases."""

    def __init__(self, cell: keras.layers.Layer, taps: Taps):
        self.cell = cell
        self._taps = taps

    def of_inputs(self, x: Tensor, training: Any, gates: int) -> Tensor:
        """X W [batch, gates * units], of what dropout leaves of the inputs."""
        return self._product("kernel", keras_api.dropped_inputs(self.cell, x, training, gates))

    def of_state(self, h: Any, first: int = 0, last: Optional[int] = None) -> Tensor:
        """H U [batch, (last - first) * units], of the gates from `first` to before `last`."""
        return self._product("recurrent_kernel", h, first, last)

    def bias(self, like: Tensor) -> Tensor:
        """The bias, of the dtype of `like`; zero if the cell has none."""
        return tf.cast(self.cell.bias, like.dtype) if self.cell.use_bias else tf.zeros([], like.dtype)

    def _product(self, attribute: str, x: Any, first: int = 0, last: Optional[int] = None) -> Tensor:
        x = tf.convert_to_tensor(x)  # a state that stays is a variable, which functions of taps may not read
        kernel = tf.cast(tf.convert_to_tensor(getattr(self.cell, attribute)), x.dtype)
        tap = self._taps.get(attribute)
        if tap is None:
            tap, times = (lambda x, y: y), tf.matmul
        else:
            times = _times
        units, whole = self.cell.units, kernel.shape[-1]
        begin, end = first * units, whole if last is None else last * units
        if (begin, end) == (0, whole):  # no slice, which a loop would keep of each time step
            return tap(x, times(x, kernel))
        # Taps are of the whole kernel: the columns of other gates have no gradient from here.
        y = times(x, kernel[:, begin:end])
        return tap(x, tf.pad(y, [[0, 0], [begin, whole - end]]))[:, begin:end]


@tf.custom_gradient
def _times(x: Tensor, kernel: Tensor) -> Tuple[Tensor, Callable]:
    """X times a kernel that has no gradient: a loop would compute it all the same, and keep x for it."""
    return tf.matmul(x, kernel), lambda u: (tf.matmul(u, kernel, transpose_b=True), None)


def _lstm(products: _Products, x: Tensor, states: Any, training: Any = None) -> Tuple[Tensor, List[Tensor]]:
    cell = products.cell
    h, c = states
    z = products.of_inputs(x, training, gates=4) + products.of_state(h)
    i, f, candidate, o = tf.split(z + products.bias(z), 4, axis=1)
    c = cell.recurrent_activation(f) * c + cell.recurrent_activation(i) * cell.activation(candidate)
    h = cell.recurrent_activation(o) * cell.activation(c)
    return h, [h, c]


def _gru(products: _Products, x: Tensor, states: Any, training: Any = None) -> Tuple[Tensor, Any]:
    cell = products.cell
    (h,) = tf.nest.flatten(states)
    of_x = products.of_inputs(x, training, gates=3)
    bias = products.bias(of_x)
    if cell.reset_after:
        of_inputs, of_state = tf.unstack(bias) if cell.use_bias else (bias, bias)
        z_x, r_x, candidate_x = tf.split(of_x + of_inputs, 3, axis=1)
        z_h, r_h, candidate_h = tf.split(products.of_state(h) + of_state, 3, axis=1)
        candidate_h = cell.recurrent_activation(r_x + r_h) * candidate_h
    else:
        z_x, r_x, candidate_x = tf.split(of_x + bias, 3, axis=1)
        z_h, r_h = tf.split(products.of_state(h, 0, 2), 2, axis=1)
        candidate_h = products.of_state(cell.recurrent_activation(r_x + r_h) * h, 2)
    z = cell.recurrent_activation(z_x + z_h)
    h = z * h + (1 - z) * cell.activation(candidate_x + candidate_h)
    return h, [h] if tf.nest.is_nested(states) else h


def _simple(products: _Products, x: Tensor, states: Any, training: Any = None) -> Tuple[Tensor, Any]:
    (h,) = tf.nest.flatten(states)
    y = products.of_inputs(x, training, gates=1)
    h = products.cell.activation(y + products.bias(y) + products.of_state(h))
    return h, [h] if tf.nest.is_nested(states) else h


_STEPS: Dict[type, Callable] = {
    keras.layers.LSTMCell: _lstm,
    keras.layers.GRUCell: _gru,
    keras.layers.SimpleRNNCell: _simple,
}
