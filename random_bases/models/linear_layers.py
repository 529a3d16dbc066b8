"""Layers whose kernel is a matrix between inputs and outputs, and the products that its coordinates need.

With y = x W (the layer's linear part), W's gradient is x^T u, and its coordinates in a `KroneckerBasis` are
(x A)^T (u B), which takes no matrix of W's size and keeps only x A of x. Kernels of transposed convolutions
have their outputs first, y = x W^T: there it is (u A)^T (x B), and x B is what is kept.

Layers are not rewritten: their own `call` runs, and what comes out of its linear part passes through a
function that sees the layer's inputs, before the activation. (Cells of recurrent layers, which have two
linear parts, are in `recurrent_cells`; which layers of a model are linear is found in `tapping`.)
"""

import math
import string
from typing import Any, Callable, List, Mapping, Optional

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.kronecker import matrix_of
from random_bases.keras_api import keras

# y -> y, where the layer's inputs are the first argument.
Tap = Callable[[Any, Tensor], Tensor]


# The taps of a layer's kernels, by the attributes that hold these.
Taps = Mapping[str, Tap]


# What runs in place of layers' own calls.
Calls = Mapping[keras.layers.Layer, Callable]


class LinearLayer:
    """A layer's linear part.

    Args:
      layer: a Keras layer that `takes` has taken.
      around: layers that have to call this one for its linear part to be seen, and what they do instead of
        their own call, which does not.

    Attributes:
      attribute: the layer's attribute that holds its kernel.
      kernel: that variable, W.
      matrix: (positions, inputs, outputs) of W.
      turned: whether W's axis of "inputs" is that of the layer's outputs, and the other way round.
    """

    attribute = "kernel"
    turned = False

    def __init__(self, layer: keras.layers.Layer, around: Calls):
        self.layer = layer
        self.around = around
        self.kernel = getattr(layer, self.attribute)
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

    def call(self, taps: Taps, x: Any, *arguments, **options):
        """The layer's own call of inputs `x`, in which the linear part y becomes tap(x, y)."""
        tap, activation = taps[self.attribute], self.layer.activation

        def tapped(y):
            y = tap(x, y)
            return y if activation is None else activation(y)

        self.layer.__dict__["activation"] = tapped  # past Keras's tracking
        try:
            return type(self.layer).call(self.layer, x, *arguments, **options)
        finally:
            self.layer.__dict__["activation"] = activation


class Dense(LinearLayer):
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


class EinsumDense(LinearLayer):
    """y = einsum(x, W), where W's first axes are x's, and its last ones y's."""

    def __init__(self, layer: keras.layers.Layer, around: Calls):
        super().__init__(layer, around)
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


class Convolution(LinearLayer):
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


class TransposedConvolution(Convolution):
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


class Embedding(LinearLayer):
    """y = W[ids]: x W for rows x that have a one each."""

    attribute = "embeddings"

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

    def call(self, taps: Taps, x: Any, *arguments, **options):
        return taps[self.attribute](x, type(self.layer).call(self.layer, x, *arguments, **options))


def _outwards(inner: Tensor, b: Tensor) -> Tensor:
    """[..., r] times B^T: [..., outputs]."""
    return tf.einsum("...r,nr->...n", inner, tf.cast(b, inner.dtype))
