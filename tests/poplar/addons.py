"""`ipu_tensorflow_addons`: its layers and optimizers, as far as its public sources tell what they compute.

Layers keep their weights under the names and in the shapes that they have there, and take the contract's
arguments. What it refuses there ("included for consistency with Keras") is refused here.
"""

import tensorflow as tf

from random_bases.keras_api import keras
from tests.poplar.contract import arguments, signature

_LAYERS = "ipu_tensorflow_addons.keras.layers."
_OPTIMIZERS = "ipu_tensorflow_addons.keras.optimizers."
IMPLEMENTED = {}


def _of(module):
    """Puts a class at its place, by the contract's name."""

    def place(cls):
        cls.full_name = f"{module}.{cls.__name__}"
        IMPLEMENTED[cls.full_name] = cls
        return cls

    return place


def _values(cls, given, named):
    """(the contract's parameters with their values, what is for Keras's own class)."""
    given, named = arguments(cls.full_name, given, named)
    bound = signature(cls.full_name).bind(*given, **named)
    bound.apply_defaults()
    values = dict(bound.arguments)
    return values, values.pop("kwargs", {})


@_of(_LAYERS + "ipu_layer")
class IPULayer(keras.layers.Layer):
    refused = ()

    def __init__(self, *given, **named):
        self.values, others = _values(type(self), given, named)
        for name in self.refused:
            if self.values[name]:
                raise NotImplementedError(f"{type(self).__name__} does not support {name}.")
        super().__init__(**others)

    def value(self, name):
        return self.values[name]

    def get_config(self):
        return dict(self.values)


@tf.custom_gradient
def _lookup(table, indices):
    flat, shape = tf.reshape(indices, [-1, 1]), table.shape

    def gradient(upstream):
        return tf.scatter_nd(flat, tf.reshape(upstream, [-1, shape[1]]), shape), None

    return tf.gather(table, indices), gradient


@_of(_LAYERS + "embedding_lookup")
class Embedding(IPULayer):
    """The gradient of the table is dense."""

    refused = (
        "embeddings_regularizer",
        "activity_regularizer",
        "embeddings_constraint",
        "mask_zero",
        "input_length",
    )

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            "embeddings",
            (self.value("input_dim"), self.value("output_dim")),
            initializer=keras.initializers.get(self.value("embeddings_initializer")),
        )
        self.built = True

    def call(self, inputs, inputs_are_sorted=False, training=None):
        return _lookup(self.embeddings, tf.cast(inputs, tf.int32))


class _GroupNorm(IPULayer):
    def _build(self, channels):
        groups = self._groups(channels)
        if groups > channels or channels % groups:
            raise ValueError(f"{channels} channels cannot be in {groups} groups.")
        self.gamma = self.beta = None
        for name, wanted in (("gamma", "scale"), ("beta", "center")):
            if self.value(wanted):
                initializer = keras.initializers.get(self.value(f"{name}_initializer"))
                setattr(self, name, self.add_weight(name, [channels], initializer=initializer))
        self.built = True

    def _groups(self, channels):
        return self.values.get("groups", 1)

    def _normalized(self, x):
        """Of [batch, ..., channels]."""
        channels = x.shape[-1]
        groups, strided = self._groups(channels), self.values.get("strided_channel_grouping", True)
        # Strided: channel c is in group c % groups.
        split, axis = ([channels // groups, groups], -2) if strided else ([groups, channels // groups], -1)
        parts = tf.reshape(x, [-1, *x.shape[1:-1], *split])
        axes = [*range(1, x.shape.rank - 1), x.shape.rank - 1 if axis == -2 else x.shape.rank]
        mean, variance = tf.nn.moments(parts, axes, keepdims=True)
        x = tf.reshape((parts - mean) * tf.math.rsqrt(variance + self.value("epsilon")), [-1, *x.shape[1:]])
        x = x if self.gamma is None else x * self.gamma
        return x if self.beta is None else x + self.beta


class _OfChannels(_GroupNorm):
    def build(self, input_shape):
        axis = self.value("channels_axis") % len(input_shape)
        if axis not in (1, len(input_shape) - 1):
            raise ValueError("channels_axis must be 1 or -1.")
        self._axis = axis
        self._build(input_shape[axis])

    def call(self, inputs, training=None):
        last = inputs.shape.rank - 1
        order = [*(i for i in range(last + 1) if i != self._axis), self._axis]
        back = [order.index(i) for i in range(last + 1)]
        return tf.transpose(self._normalized(tf.transpose(inputs, order)), back)


@_of(_LAYERS + "normalization")
class GroupNormalization(_OfChannels):
    pass


@_of(_LAYERS + "normalization")
class InstanceNormalization(_OfChannels):
    def _groups(self, channels):
        return channels


@_of(_LAYERS + "normalization")
class LayerNormalization(_GroupNorm):
    refused = ("beta_regularizer", "gamma_regularizer", "beta_constraint", "gamma_constraint")

    def build(self, input_shape):
        axis = self.value("axis")
        axes = sorted(i % len(input_shape) for i in (axis if isinstance(axis, (list, tuple)) else [axis]))
        self._order = [*(i for i in range(len(input_shape)) if i not in axes), *axes]
        self._size = 1
        for i in axes:
            self._size *= input_shape[i]
        self._build(self._size)

    def call(self, inputs, training=None):
        x = tf.transpose(inputs, self._order)
        normalized = self._normalized(tf.reshape(x, [-1, self._size]))
        back = [self._order.index(i) for i in range(inputs.shape.rank)]
        return tf.transpose(tf.reshape(normalized, tf.shape(x)), back)


@_of(_LAYERS + "dense")
class SerialDense(IPULayer):
    def build(self, input_shape):
        self.kernel = self.add_weight(
            "kernel",
            (input_shape[-1], self.value("units")),
            initializer=keras.initializers.get(self.value("kernel_initializer")),
            regularizer=keras.regularizers.get(self.value("kernel_regularizer")),
        )
        self.bias = None
        if self.value("use_bias"):
            initializer = keras.initializers.get(self.value("bias_initializer"))
            self.bias = self.add_weight("bias", (self.value("units"),), initializer=initializer)
        self._activation = keras.activations.get(self.value("activation"))
        self.built = True

    def call(self, inputs, **unused):
        x = tf.matmul(inputs, self.kernel)
        return self._activation(x if self.bias is None else x + self.bias)


@_of(_LAYERS + "dropout")
class Dropout(IPULayer):
    """From no seed that TensorFlow knows."""

    def call(self, inputs, training=None):
        if not training:
            return tf.identity(inputs)
        return tf.nn.dropout(inputs, self.value("rate"), self.value("noise_shape"))


class _Same(IPULayer):
    def call(self, inputs, **unused):
        return tf.nest.map_structure(tf.identity, inputs)


@_of(_LAYERS + "recomputation")
class RecomputationCheckpoint(_Same):
    def __init__(self, **others):
        self.values = {}
        keras.layers.Layer.__init__(self, **others)


@_of(_LAYERS + "assume_equal_across_replicas")
class AssumeEqualAcrossReplicas(_Same):
    pass


class _Recurrent(IPULayer):
    """Weights are Keras's of the layer of that name; there are no masks."""

    refused = (
        "kernel_regularizer",
        "recurrent_regularizer",
        "bias_regularizer",
        "activity_regularizer",
        "kernel_constraint",
        "recurrent_constraint",
        "bias_constraint",
        "recurrent_dropout",
        "go_backwards",
        "unroll",
        "stateful",  # only here
    )

    def build(self, input_shape):
        units, gates = self.value("units"), self.gates
        for name, inputs in (("kernel", input_shape[-1]), ("recurrent_kernel", units)):
            key = "kernel_initializer" if name == "kernel" else "recurrent_initializer"
            initializer = keras.initializers.get(self.value(key))
            setattr(self, name, self.add_weight(name, (inputs, gates * units), initializer=initializer))
        self.biases = self.add_weight("biases", self._bias_shape(), initializer=self._initial_bias)
        self._activation = keras.activations.get(self.value("activation"))
        self._gate = keras.activations.get(self.value("recurrent_activation"))
        self.built = True

    def call(self, inputs, mask=None, training=None, initial_state=None):
        major = self.value("time_major")
        batch = tf.shape(inputs)[1 if major else 0]
        if training and self.value("dropout"):
            # One mask for all steps; from no seed that TensorFlow knows.
            shape = tf.stack([1, batch, inputs.shape[2]] if major else [batch, 1, inputs.shape[2]])
            inputs = tf.nn.dropout(inputs, self.value("dropout"), shape)
        state = initial_state or [tf.zeros([batch, self.value("units")])] * self.states
        last, sequence, state = keras.backend.rnn(
            self._step, inputs, list(tf.nest.flatten(state)), time_major=major
        )
        result = sequence if self.value("return_sequences") else last
        return (result, *state) if self.value("return_state") else result


@_of(_LAYERS + "rnn")
class PopnnLSTM(_Recurrent):
    gates, states = 4, 2

    def _bias_shape(self):
        return (4 * self.value("units"),)

    def _initial_bias(self, shape, dtype=None):
        bias = keras.initializers.get(self.value("bias_initializer"))(shape, dtype)
        if not self.value("unit_forget_bias"):
            return bias
        units = self.value("units")
        return tf.concat([tf.zeros([units]), tf.ones([units]), tf.zeros([2 * units])], 0)

    def _step(self, x, state):
        h, c = state
        z = tf.matmul(x, self.kernel) + tf.matmul(h, self.recurrent_kernel) + self.biases
        i, f, candidate, o = tf.split(z, 4, axis=1)
        c = self._gate(f) * c + self._gate(i) * self._activation(candidate)
        h = self._gate(o) * self._activation(c)
        return h, [h, c]


@_of(_LAYERS + "rnn")
class PopnnGRU(_Recurrent):
    gates, states = 3, 1

    def _bias_shape(self):
        size = 3 * self.value("units")
        return (2, size) if self.value("reset_after") else (size,)

    def _initial_bias(self, shape, dtype=None):
        return keras.initializers.get(self.value("bias_initializer"))(shape, dtype)

    def _step(self, x, state):
        (h,) = state
        units, after = self.value("units"), self.value("reset_after")
        of_inputs, of_state = (self.biases[0], self.biases[1]) if after else (self.biases, 0.0)
        xz, xr, xh = tf.split(tf.matmul(x, self.kernel) + of_inputs, 3, axis=1)
        if after:
            hz, hr, hh = tf.split(tf.matmul(h, self.recurrent_kernel) + of_state, 3, axis=1)
            z, r = self._gate(xz + hz), self._gate(xr + hr)
            candidate = self._activation(xh + r * hh)
        else:
            kernel = self.recurrent_kernel
            hz, hr = tf.split(tf.matmul(h, kernel[:, : 2 * units]), 2, axis=1)
            z, r = self._gate(xz + hz), self._gate(xr + hr)
            candidate = self._activation(xh + tf.matmul(r * h, kernel[:, 2 * units :]))
        h = z * h + (1 - z) * candidate
        return h, [h]


@_of(_OPTIMIZERS + "ipu_optimizer_base")
class IpuOptimizerBase(keras.optimizers.Optimizer):
    def __init__(self, *given, **named):
        self._values, others = _values(IpuOptimizerBase, given, named)
        super().__init__(self._values["name"], **others)

    def get_slot_dtype(self, var, slot_name):
        return var.dtype

    def add_slot(self, var, slot_name, initializer="zeros", shape=None, dtype=None):
        dtype = dtype or self.get_slot_dtype(var, slot_name) or var.dtype
        if dtype != var.dtype:
            raise NotImplementedError("The double has slots of their variables' types only.")
        return super().add_slot(var, slot_name, initializer, shape)

    def _resource_apply_sparse(self, grad, handle, indices, apply_state=None):
        raise NotImplementedError("The addons' optimizers take dense gradients only.")

    def get_config(self):
        names = ("optimizer_compute_precisions", "outline_apply_gradients", "outline_apply_gradients_kwargs")
        return {**super().get_config(), **{name: self._values[name] for name in names}}


class _Dtyped:
    """Keras's optimizer of that name, with types of its slots to choose."""

    def __init__(self, *given, **named):
        self._own, others = _values(type(self), given, named)
        keras_own = {name: value for name, value in self._own.items() if name not in self.own_names}
        super().__init__(**keras_own, **others)

    def get_slot_dtype(self, var, slot_name):
        return self._own.get(self.dtypes.get(slot_name))

    def get_config(self):
        return {**super().get_config(), **{name: self._own[name] for name in self.own_names}}


@_of(_OPTIMIZERS + "sgd_optimizer")
class SGDIpuOptimizer(_Dtyped, keras.optimizers.SGD, IpuOptimizerBase):
    own_names = ("momentum_accum_dtype",)
    dtypes = {"momentum": "momentum_accum_dtype"}
    _resource_apply_sparse = IpuOptimizerBase._resource_apply_sparse


@_of(_OPTIMIZERS + "adam_optimizer")
class AdamIpuOptimizer(_Dtyped, keras.optimizers.Adam, IpuOptimizerBase):
    own_names = ("m_dtype", "v_dtype", "vhat_dtype", "debiasing")
    dtypes = {"m": "m_dtype", "v": "v_dtype", "vhat": "vhat_dtype"}
    _resource_apply_sparse = IpuOptimizerBase._resource_apply_sparse

    def _resource_apply_dense(self, grad, var, apply_state=None):
        if not self._own["debiasing"]:
            raise NotImplementedError("The double has Adam with debiasing only.")
        return super()._resource_apply_dense(grad, var, apply_state)
