"""RandomBasesDescent for Keras 3."""

import tensorflow as tf

from random_bases.keras_api import keras, register_serializable, trained_of
from random_bases.optimizers.collectives import current_replicas
from random_bases.optimizers.wrapper import Wrapper
from random_bases.tensors import densify

# What Keras does around `_backend_update_step`, private: the inner optimizer does it, to what is projected.
_AROUND = (
    "_clip_gradients",
    "_apply_weight_decay",
    "_update_model_variables_moving_average",
    "_overwrite_model_variables_with_average_value",
)
_MOVED = ("gradient_accumulation_steps", "loss_scale_factor")


@register_serializable
class RandomBasesDescent(Wrapper, keras.optimizers.Optimizer):
    __doc__ = Wrapper.__doc__

    def _wrap(self, inner_optimizer, rule, name):
        if type(inner_optimizer).apply is not keras.optimizers.Optimizer.apply:
            raise TypeError(
                f"inner_optimizer={inner_optimizer!r} overrides `apply`, which would not be called; allowed: "
                "an optimizer that overrides `update_step`."
            )
        if name == inner_optimizer.name:
            raise ValueError(
                f"name={name!r} is the name of inner_optimizer, too: variables of one path cannot be in "
                ".h5 files; allowed: another name."
            )
        # Two arguments move from the inner optimizer to this one: accumulation must come before the
        # projection, and LossScaleOptimizer switches off the loss scaling of what it wraps.
        keras.optimizers.Optimizer.__init__(
            self,
            learning_rate=0.0,
            name=name,
            **{argument: getattr(inner_optimizer, argument) for argument in _MOVED},
        )
        for argument in _MOVED:
            setattr(inner_optimizer, argument, None)
        self._is_building = False
        self.inner_optimizer = inner_optimizer
        self.rule = rule
        for name in _AROUND:
            assert hasattr(keras.optimizers.Optimizer, name), name
        # The hook that Keras's own backends override, private: make sure that it is still there.
        assert hasattr(keras.optimizers.Optimizer, "_backend_update_step")
        assert hasattr(keras.optimizers.Optimizer, "_backend_apply_gradients")
        # The inner optimizer's own reduction, private too: of D numbers that are equal already. Once,
        # here: replicas are traced in threads of their own.
        assert hasattr(inner_optimizer, "_all_reduce_sum_gradients")
        inner_optimizer._all_reduce_sum_gradients = _already_reduced

    @property
    def use_ema(self):
        return not self._is_building and self.inner_optimizer.use_ema

    @use_ema.setter
    def use_ema(self, use_ema):
        Wrapper.use_ema.fset(self, use_ema)

    @property
    def variables(self):
        return self._variables + self.rule.own_state + self.inner_optimizer.variables

    def build(self, variables):
        if self.built or not variables:  # none: how Keras loads an .h5 file
            return
        trained = trained_of(variables)
        # A tf.Variable has no path.
        self.rule.build(
            [v.shape for v in trained],
            [getattr(v, "path", v.name) for v in trained],
            tf.distribute.get_strategy().num_replicas_in_sync,
        )
        self._make_states()
        self.inner_optimizer.build(variables)
        # Which would make moving averages, too, if it saw that the inner optimizer has some.
        self._is_building = True
        super().build(variables)
        self._is_building = False

    def _make_state(self, spec):
        several = spec.own and self.rule.replica_count > 1
        with keras.name_scope(self.name):  # as `add_variable`, which does not know this argument
            variable = keras.Variable(
                "zeros",
                shape=spec.shape,
                dtype=spec.dtype,
                trainable=False,
                aggregation="mean" if several else "none",
                synchronization="on_read" if several else "auto",
                name=spec.name,
            )
        if not spec.own:
            self._track_variable(variable)
        return variable

    def apply(self, grads, trainable_variables=None):
        # Accumulation adds gradients up, which `IndexedSlices` do not support.
        grads = list(grads)
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        for i, (grad, variable) in enumerate(zip(grads, variables)):
            grads[i] = None if grad is None else densify(grad, variable.shape)
        super().apply(grads, trainable_variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """The weight update: `grads` are complete, and those that were None are left out."""
        del learning_rate  # the inner optimizer's own
        trained = trained_of(self._trainable_variables)
        gradient_of = {id(variable): grad for grad, variable in zip(grads, trainable_variables)}
        every = [gradient_of.get(id(variable)) for variable in trained]
        sketched = self.rule(every, self.inner_optimizer.iterations, current_replicas())
        pairs = [(g, v) for g, v in zip(sketched, trained) if g is not None]
        # Not `apply`, which would apply the variables' constraints; that of this optimizer does.
        self.inner_optimizer._backend_apply_gradients([g for g, _ in pairs], [v for _, v in pairs])
        self.inner_optimizer.iterations.assign_add(1)

    # `_AROUND`.

    def _clip_gradients(self, grads):
        return grads

    def _apply_weight_decay(self, variables):
        pass

    def _update_model_variables_moving_average(self, trainable_variables):
        pass

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        pass

    @property
    def _model_variables_moving_average(self):
        return self.inner_optimizer._model_variables_moving_average  # for SwapEMAWeights

    def set_weights(self, weights):
        own = self.rule.own_state
        first, second = len(self._variables), len(self._variables) + len(own)
        super().set_weights(weights[:first])
        for variable, value in zip(own, weights[first:second]):
            variable.assign(value)
        self.inner_optimizer.set_weights(weights[second:])

    def get_config(self):
        config = super().get_config()
        config["inner_optimizer"]["config"].update({argument: getattr(self, argument) for argument in _MOVED})
        return {"name": self.name, **config}


def _already_reduced(grads_and_vars):
    return grads_and_vars
