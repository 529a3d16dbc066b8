"""Layers made of random bases.

Li et al. 2018, "Measuring the intrinsic dimension of objective landscapes", arXiv:1804.08838.
"""

from typing import Any, Dict, Optional, Tuple, Union

import tensorflow as tf

from random_bases import arguments, bases, device
from random_bases.bases.basis import Basis
from random_bases.keras_api import add_float32_weight, keras, register_serializable
from random_bases.sampling.seeds import Seed, as_seed


@register_serializable
class RandomProjection(keras.layers.Layer):
    """A weight generator: P c, of d trainable coordinates c and a random basis P that is never stored.

    `call` ignores its inputs and returns P c (Li et al. 2018, equation 2, without theta0): no batch
    axis. The forward pass draws P from the seed; the backward pass draws the same P again and returns
    P^T g. Nothing of size d * n is ever kept. Derivatives of every order are right.

    The coordinates are float32 and so is the product, whatever the dtype policy; what is returned has
    the policy's compute dtype.

    Args:
      units: n, the length of what is returned.
      dimensions: d, the number of coordinates, 1 <= d <= n.
      basis: a basis's name, or a `Basis` as a pattern: see `random_bases.bases.get`.
      seed: an int in [0, 2**64), or a pair of int32; None: one that Python's `random` draws. Layers of one
        seed have the same directions.
      coordinates_initializer, coordinates_regularizer: of the coordinates, as for any Keras layer.
      **kwargs: of `keras.layers.Layer`: `name`, `dtype`, `trainable`.

    Attributes:
      coordinates: the trainable weight, float32 [d].
      basis: the `Basis`.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> generator = random_bases.layers.RandomProjection(units=784 * 10, dimensions=100, seed=1)
    >>> kernel = tf.reshape(generator(), [784, 10])
    """

    def __init__(
        self,
        units: int,
        dimensions: int,
        basis: Union[str, Basis] = "normal",
        seed: Optional[Seed] = None,
        coordinates_initializer="zeros",
        coordinates_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = arguments.integer("units", units, 1)
        self.basis = bases.get(basis, size=self.units, dimensions=dimensions)
        self.dimensions = self.basis.dimensions
        with tf.init_scope():  # a model may be built while a function is traced
            self.seed = tuple(as_seed(device.seed(None) if seed is None else seed).numpy().tolist())
        self.coordinates_initializer = keras.initializers.get(coordinates_initializer)
        self.coordinates_regularizer = keras.regularizers.get(coordinates_regularizer)
        # A mask of the ignored inputs is no error, and says nothing of the output.
        self.supports_masking = True
        self.coordinates = add_float32_weight(
            self,
            name="coordinates",
            shape=(self.dimensions,),
            initializer=self.coordinates_initializer,
            regularizer=self.coordinates_regularizer,
        )
        self.built = True

    def __call__(self, inputs=None, **kwargs):
        # Keras 2 wants a first argument.
        return super().__call__(inputs, **kwargs)

    def call(self, inputs=None):
        """P c, compute dtype [units]; `inputs` may be anything."""
        point = self.basis.expand(tf.convert_to_tensor(self.coordinates), self.seed)
        return tf.cast(point, self.compute_dtype)

    def compute_mask(self, inputs=None, mask=None, **kwargs) -> None:
        """None: elements are no time steps."""

    def compute_output_shape(self, input_shape=None) -> Tuple[int, ...]:
        """(units,)."""
        return (self.units,)

    def get_config(self) -> Dict[str, Any]:
        config = super().get_config()
        config.update(
            units=self.units,
            dimensions=self.dimensions,
            basis=bases.serialize(self.basis),
            seed=list(self.seed),
            coordinates_initializer=keras.initializers.serialize(self.coordinates_initializer),
            coordinates_regularizer=keras.regularizers.serialize(self.coordinates_regularizer),
        )
        return config

    @classmethod
    def from_config(cls, config: Dict[str, Any]) -> "RandomProjection":
        return cls(**{**config, "basis": bases.deserialize(config["basis"])})
