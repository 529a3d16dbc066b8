"""Accumulated gradients: how many micro-batches are an update, and through which wrapper it is made."""

from random_bases.keras_api import keras


def check_optimizer(optimizer):
    """Raises as Keras there does for an optimizer with a `minimize` of its own, which is not called."""
    inner = getattr(optimizer, "inner_optimizer", None)
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        return check_optimizer(inner)
    cls, parent = type(optimizer).__mro__[:2]
    # Some versions ask so, and die of a parent that has none; the last ones let that pass.
    if cls.minimize != parent.minimize:
        raise ValueError("The optimizer must not override OptimizerV2.minimize.")
    return None


class AccumulatingOptimizer(keras.optimizers.Optimizer):
    """Through what `use_v2_gradient_accumulation_optimizer=True` has another optimizer make the update.

    Its own `apply_gradients` is OptimizerV2's, so the other's is never called: what reaches that one are
    aggregated gradients, one variable at a time. OptimizerV2 also sets options of clipping: those go to it.
    """

    def __init__(self, optimizer):
        self._wrapped = optimizer
        super().__init__(name="GradientAccumulationOptimizer")

    def _create_all_weights(self, var_list):
        _ = self.iterations  # its own; the other one's stays as it is
        self._wrapped._create_all_weights(var_list)

    def _prepare(self, var_list):
        self._wrapped._prepare(var_list)

    def _transform_unaggregated_gradients(self, grads_and_vars):
        return self._wrapped._transform_unaggregated_gradients(grads_and_vars)

    def _aggregate_gradients(self, grads_and_vars):
        return self._wrapped._aggregate_gradients(grads_and_vars)

    def _transform_gradients(self, grads_and_vars):
        return self._wrapped._transform_gradients(grads_and_vars)

    def _resource_apply_dense(self, grad, handle, apply_state):
        return self._wrapped._resource_apply_dense(grad, handle, apply_state)

    def get_config(self):
        return {"optimizer": self._wrapped.get_config()}


def _handed_on(name):
    def write(self, value):
        setattr(self._wrapped, name, value)

    return property(lambda self: getattr(self._wrapped, name), write)


for _name in ("clipnorm", "clipvalue", "global_clipnorm"):
    setattr(AccumulatingOptimizer, _name, _handed_on(_name))
