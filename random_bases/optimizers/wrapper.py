"""What RandomBasesDescent hands on to its inner optimizer, whichever the Keras."""

from typing import Optional

from random_bases.keras_api import keras
from random_bases.optimizers.rule import RandomBasesRule


class Wrapper:
    """Stands for `inner_optimizer`, with `rule` before it; the adapters inherit from this first."""

    rule: RandomBasesRule

    @property
    def seed(self) -> int:
        """The seed of the directions."""
        return self.rule.seed

    @property
    def bytes_per_step(self) -> Optional[int]:
        """What each replica sends to others in a step, in bytes; None before the first step is traced.

        Counted from the tensors exchanged, as rings send them: 2 (K - 1) / K times what is reduced over
        K replicas, K - 1 times what is gathered.
        """
        return self.rule.bytes_per_step

    @property
    def iterations(self):
        """The number of weight updates made."""
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, variable):
        self.inner_optimizer.iterations = variable

    @property
    def learning_rate(self):
        """The inner optimizer's."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self):
        inner = keras.optimizers.serialize(self.inner_optimizer)
        return {"inner_optimizer": inner, **self.rule.get_config()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner = keras.optimizers.deserialize(config.pop("inner_optimizer"), custom_objects)
        return cls(inner, **config)
