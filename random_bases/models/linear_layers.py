"""Layers whose kernel is a matrix between inputs and outputs, and the products that its coordinates need.

With y = x W (the layer's linear part), W's gradient is x^T u, and its coordinates in a `KroneckerBasis` are
(x A)^T (u B), which takes no matrix of W's size and keeps only x A of x. Kernels of transposed convolutions
have their outputs first, y = x W^T: there it is (u A)^T (x B), and x B is what is kept.

Layers are not rewritten: their own `call` runs, and what comes out of its linear part passes through a
function that sees the layer's inputs, before the activation.
"""

import contextlib
import math
import string
import threading
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import keras_api
from random_bases.bases.kronecker import Matrix, matrix_of
from random_bases.keras_api import keras

# y -> y, where the layer's inputs are the first argument.
Tap = Callable[[Any, Tensor], Tensor]


class LinearLayer:
    """A layer's linear part.

    Args:
      layer: a Keras layer that `of` found suitable.

    Attributes:
      kernel: its variable W.
      matrix: (positions, inputs, outputs) of W.
      turned: whether W's axis of "inputs" is that of the layer's outputs, and the other way round.
    """

    turned = False

    def __init__(self, layer: keras.layers.Layer):
        self.layer = layer
        self.kernel = layer.kernel
        self.matrix = matrix_of(self.kernel.shape)

    @classmethod
    def takes(cls, layer: keras.layers.Layer) -> bool:
        """Whether a layer of the right class, as it is set up, is one."""
        del layer
        return True

    def takes_inputs(self, x: Any) -> bool:
        """Whether inputs are such that the products that follow are of them."""
        return isinstance(x, tf.Tensor) and x.dtype.is_floating

    def keep(self, x: Tensor, a: Optional[Tensor]) -> Tensor:
        """X A, what the backward pass needs of the inputs; `a`, A [inputs, r], None for the identity.

        Where the layer is `turned`, `a` is B, and `b` of `cores` A.
        """
        raise NotImplementedError

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        """(x A)^T (u B) at each position, [positions, r, s], from what `keep` returned."""
        raise NotImplementedError

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        """What the layer's linear part is of inputs `x` with the matrix A B^T for a kernel, in thin products.

        Args:
          x: the layer's inputs, which `takes_inputs` has taken.
          a: A [positions * inputs, r].
          b: B [outputs, r].

        Returns:
          A tensor of y's shape.
        """
        raise NotImplementedError

    def call(self, tap: Tap, x: Any, *arguments, **options):
        """The layer's own call of inputs `x`, in which the linear part y becomes tap(x, y)."""
        activation = self.layer.activation

        def tapped(y):
            y = tap(x, y)
            return y if activation is None else activation(y)

        self.layer.__dict__["activation"] = tapped  # past Keras's tracking
        try:
            return type(self.layer).call(self.layer, x, *arguments, **options)
        finally:
            self.layer.__dict__["activation"] = activation


class _Dense(LinearLayer):
    """y[..., n] = x[..., m] W[m, n]."""

    def keep(self, x: Tensor, a: Optional[Tensor]) -> Tensor:
        x = tf.reshape(x, [-1, self.matrix[1]])
        return x if a is None else tf.matmul(x, tf.cast(a, x.dtype))

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        u = tf.reshape(u, [-1, self.matrix[2]])
        u = u if b is None else tf.matmul(u, tf.cast(b, u.dtype))
        return tf.matmul(kept, u, transpose_a=True)[tf.newaxis]

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        return _outwards(tf.einsum("...m,mr->...r", x, tf.cast(a, x.dtype)), b)


class _EinsumDense(LinearLayer):
    """y = einsum(x, W), where W's first axes are x's, and its last ones y's."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(layer)
        of_x, of_w, of_y = _subscripts(layer)
        inputs = [size for letter, size in zip(of_w, self.kernel.shape) if letter not in of_y]
        outputs = [size for letter, size in zip(of_w, self.kernel.shape) if letter in of_y]
        self._inputs, self._outputs = inputs, outputs
        self.matrix = (1, math.prod(inputs), math.prod(outputs))
        contracted, free = of_w[: len(inputs)], of_w[len(inputs) :]
        rows = "".join(letter for letter in of_y if letter not in free)
        self._of_inputs = f"{of_x},{contracted}R->{rows}R"
        self._plain_inputs = f"{of_x}->{rows}{contracted}"
        self._of_outputs = f"{of_y},{free}S->{rows}S"
        self._plain_outputs = f"{of_y}->{rows}{free}"
        self._outwards = f"{rows}R,{free}R->{of_y}"

    @classmethod
    def takes(cls, layer: keras.layers.Layer) -> bool:
        of_x, of_w, of_y = _subscripts(layer)
        inputs = [letter for letter in of_w if letter not in of_y]
        outputs = [letter for letter in of_w if letter in of_y]
        return (
            "." not in of_x + of_w + of_y
            and bool(inputs and outputs)
            and list(of_w) == inputs + outputs
            and not set(outputs) & set(of_x)  # one matrix for all rows
            and set(inputs) <= set(of_x)
            and set(of_x) - set(inputs) == set(of_y) - set(outputs)
        )

    def keep(self, x: Tensor, a: Optional[Tensor]) -> Tensor:
        if a is None:
            return tf.reshape(tf.einsum(self._plain_inputs, x), [-1, self.matrix[1]])
        a = tf.reshape(tf.cast(a, x.dtype), [*self._inputs, -1])
        return tf.reshape(tf.einsum(self._of_inputs, x, a), [-1, a.shape[-1]])

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        if b is None:
            u = tf.reshape(tf.einsum(self._plain_outputs, u), [-1, self.matrix[2]])
        else:
            b = tf.reshape(tf.cast(b, u.dtype), [*self._outputs, -1])
            u = tf.reshape(tf.einsum(self._of_outputs, u, b), [-1, b.shape[-1]])
        return tf.matmul(kept, u, transpose_a=True)[tf.newaxis]

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        inner = tf.einsum(self._of_inputs, x, tf.reshape(tf.cast(a, x.dtype), [*self._inputs, -1]))
        return tf.einsum(self._outwards, inner, tf.reshape(tf.cast(b, x.dtype), [*self._outputs, -1]))


def _subscripts(layer: keras.layers.Layer) -> List[str]:
    """Of x, W and y; letters for what "..." stands for, which is never in a kernel's."""
    inputs, output = layer.equation.replace(" ", "").split("->")
    of_x, of_w = inputs.split(",")
    taken = set(layer.equation)
    letters = [letter for letter in string.ascii_lowercase if letter not in taken]
    rank = getattr(layer, "input_spec", None) and layer.input_spec.ndim
    if "..." in of_x and rank:
        stands = "".join(letters[: rank - len(of_x.replace("...", ""))])
        of_x, output = of_x.replace("...", stands), output.replace("...", stands)
    return [of_x, of_w, output]


class _Convolution(LinearLayer):
    """y = x * W, positions being those of the kernel in its window."""

    @classmethod
    def takes(cls, layer: keras.layers.Layer) -> bool:
        return (
            layer.data_format == "channels_last"
            and getattr(layer, "groups", 1) == 1
            and str(layer.padding).lower() in ("valid", "same")
        )

    def keep(self, x: Tensor, a: Optional[Tensor]) -> Tensor:
        return x if a is None else tf.tensordot(x, tf.cast(a, x.dtype), 1)

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        u = u if b is None else tf.tensordot(u, tf.cast(b, u.dtype), 1)
        window = list(self.layer.kernel_size)
        core = tf.zeros([*window, kept.shape[-1], u.shape[-1]], u.dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(core)
            y = self._convolution(kept, core)
        return tf.reshape(tape.gradient(y, core, u), [math.prod(window), *core.shape[-2:]])

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        # A product of each position by itself, then a convolution that moves and adds them up, whose kernel
        # is of zeros and ones: so none has a kernel of an offspring's own, where offspring are mapped over.
        positions, inputs, _ = self.matrix
        rank = a.shape[-1]
        a = tf.transpose(tf.reshape(tf.cast(a, x.dtype), [positions, inputs, rank]), [1, 0, 2])
        of_positions = tf.einsum("...m,mk->...k", x, tf.reshape(a, [inputs, positions * rank]))
        moved = np.eye(positions)[:, :, np.newaxis, np.newaxis] * np.eye(rank)
        moved = moved.reshape([*self.layer.kernel_size, positions * rank, rank])
        return _outwards(self._convolution(of_positions, tf.constant(moved, x.dtype)), b)

    def _convolution(self, x: Tensor, kernel: Tensor) -> Tensor:
        """As the layer's, with another kernel."""
        return tf.nn.convolution(
            x,
            kernel,
            strides=list(self.layer.strides),
            padding=self.layer.padding.upper(),
            data_format=_data_format(self.layer),
            dilations=list(self.layer.dilation_rate),
        )


class _TransposedConvolution(_Convolution):
    """The transpose of a convolution from y to x."""

    turned = True

    @classmethod
    def takes(cls, layer: keras.layers.Layer) -> bool:
        plain = layer.output_padding is None and set(layer.dilation_rate) == {1}
        return super().takes(layer) and plain

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        return super().cores(self.keep(u, b), kept, None)

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        # As of a convolution: it moves first, then each position has its product.
        positions, outputs, _ = self.matrix
        rank = a.shape[-1]
        inner = tf.tensordot(x, tf.cast(b, x.dtype), 1)
        moved = np.eye(positions)[:, :, np.newaxis, np.newaxis] * np.eye(rank)
        moved = moved.reshape([*self.layer.kernel_size, positions * rank, rank])
        shape = self.layer.compute_output_shape(x.shape)
        of_positions = tf.nn.conv_transpose(
            inner,
            tf.constant(moved, x.dtype),
            [tf.shape(x)[0], *shape[1:-1], positions * rank],
            list(self.layer.strides),
            self.layer.padding.upper(),
            _data_format(self.layer),
        )
        a = tf.transpose(tf.reshape(tf.cast(a, x.dtype), [positions, outputs, rank]), [0, 2, 1])
        return tf.einsum("...k,kn->...n", of_positions, tf.reshape(a, [positions * rank, outputs]))


def _data_format(layer: keras.layers.Layer) -> str:
    return {1: "NWC", 2: "NHWC", 3: "NDHWC"}[len(layer.kernel_size)]


class _Embedding(LinearLayer):
    """y = W[ids]: x W for rows x that have a one each."""

    def __init__(self, layer: keras.layers.Layer):
        self.layer = layer
        self.kernel = layer.embeddings
        self.matrix = matrix_of(self.kernel.shape)

    def takes_inputs(self, x: Any) -> bool:
        return isinstance(x, tf.Tensor)

    def keep(self, x: Tensor, a: Optional[Tensor]) -> Tensor:
        ids = tf.reshape(tf.cast(x, tf.int32), [-1])
        return ids if a is None else tf.gather(a, ids)

    def cores(self, kept: Tensor, u: Tensor, b: Optional[Tensor]) -> Tensor:
        u = tf.reshape(u, [-1, self.matrix[2]])
        u = u if b is None else tf.matmul(u, tf.cast(b, u.dtype))
        if kept.dtype.is_integer:
            return tf.math.unsorted_segment_sum(u, kept, self.matrix[1])[tf.newaxis]
        return tf.matmul(tf.cast(kept, u.dtype), u, transpose_a=True)[tf.newaxis]

    def product(self, x: Any, a: Tensor, b: Tensor) -> Tensor:
        return _outwards(tf.gather(a, tf.cast(x, tf.int32)), b)

    def call(self, tap: Tap, x: Any, *arguments, **options):
        return tap(x, type(self.layer).call(self.layer, x, *arguments, **options))


def _outwards(inner: Tensor, b: Tensor) -> Tensor:
    """[..., r] times B^T: [..., outputs]."""
    return tf.einsum("...r,nr->...n", inner, tf.cast(b, inner.dtype))


def _kinds() -> Dict[Any, Type[LinearLayer]]:
    """Keras's class -> what its layers' linear part is."""
    layers = keras.layers
    einsum = getattr(layers, "EinsumDense", None) or layers.experimental.EinsumDense
    return {
        layers.Dense: _Dense,
        einsum: _EinsumDense,
        # Before convolutions, of which they are subclasses in Keras 2.
        layers.Conv1DTranspose: _TransposedConvolution,
        layers.Conv2DTranspose: _TransposedConvolution,
        layers.Conv3DTranspose: _TransposedConvolution,
        layers.Conv1D: _Convolution,
        layers.Conv2D: _Convolution,
        layers.Conv3D: _Convolution,
        layers.Embedding: _Embedding,
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
    for layer in keras_api.layers_of(model):
        cls = next((each for each in kinds if isinstance(layer, each)), None)
        if cls is None or not layer.built or type(layer).call is not cls.call:
            continue
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None) is not None:
            continue
        if not kinds[cls].takes(layer):
            continue
        linear = kinds[cls](layer)
        identity = id(linear.kernel)
        if identity in found and found[identity].layer is not layer:
            shared.add(identity)
        if identity in trained:
            found[identity] = linear
    return {identity: each for identity, each in found.items() if identity not in shared}


def matrices(linear: Mapping[int, LinearLayer], variables: Sequence) -> List[Matrix]:
    """The matrix of each variable: as its linear layer uses it, else by its shape."""
    return [linear[id(v)].matrix if id(v) in linear else matrix_of(tuple(v.shape)) for v in variables]


def tapped(linear: LinearLayer, substitution, plain: Tensor, tap: Tap) -> Callable:
    """What runs in place of a linear layer's `call` for its linear part to pass through a tap.

    Args:
      linear: the layer.
      substitution: the `keras_api.Substitution` in which the kernel reads as what it is elsewhere.
      plain: what the layer reads its kernel as.
      tap: the tap.
    """

    def call(x, *arguments, **options):
        if not linear.takes_inputs(x):  # then it reads the kernel as it is elsewhere
            return type(linear.layer).call(linear.layer, x, *arguments, **options)
        with substitution.reading(linear.kernel, plain):
            return linear.call(tap, x, *arguments, **options)

    return call


# --- Rerouting -----------------------------------------------------------------------------------

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
    @tf.autograph.experimental.do_not_convert
    def call(*arguments, **options):
        function = getattr(_HERE, "functions", {}).get(id(layer))
        if function is None:
            return type(layer).call(layer, *arguments, **options)
        return function(*arguments, **options)

    return call
