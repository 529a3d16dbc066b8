"""What Graphcore's Keras puts in place of `fit` and `evaluate` for models made in an IPUStrategy's scope.

The step is the one that the contract tells: no train_step, but gradients from `optimizer.get_gradients` and
then `optimizer.apply_gradients`, in one program for all replicas that takes several steps.
"""

import functools

import numpy as np
import tensorflow as tf

from random_bases.batches import without_autotuning
from random_bases.keras_api import keras
from tests.poplar import pipelines
from tests.poplar.contract import CONTRACT, SYMBOLS, arguments
from tests.poplar.strategy import IPUStrategyV1

_EXTENSION = "keras.ipu.extensions.model_extensions.ModelExtension."
_REFUSED = tuple(CONTRACT["overrides_refused_in_fit"])


def patches():
    """{name: method} to put on keras.Model while the double is there."""
    return {
        "__init__": _extending(keras.Model.__init__),
        "fit": _for_ipus(fit, keras.Model.fit),
        "evaluate": _for_ipus(evaluate, keras.Model.evaluate),
    }


def _on_ipus(model):
    return hasattr(type(model), "__original_class__")


def _for_ipus(ours, theirs):
    def method(self, *given, **named):
        return (ours if _on_ipus(self) else theirs)(self, *given, **named)

    return method


def _extending(init):
    """Models made in the scope change their class, to one that has the extension's methods, too."""

    def __init__(self, *given, **named):
        init(self, *given, **named)
        if isinstance(tf.distribute.get_strategy(), IPUStrategyV1) and not _on_ipus(self):
            self.__class__ = _extended(type(self))

    return __init__


@functools.lru_cache(maxsize=None)
def _extended(cls):
    return type(cls)(
        cls.__name__, (cls, Extension), {"__original_class__": cls, "__module__": cls.__module__}
    )


class Extension:
    """The methods that the contract gives models."""


def _without_double(name):
    def method(self, *given, **named):
        raise NotImplementedError(f"The double has no {name}.")

    return method


def _option(name):
    """Keeps the arguments of a `set_..._options`, as the contract reads them."""

    def method(self, *given, **named):
        given, named = arguments(_EXTENSION + name, given, named)
        parameters = [parameter["name"] for parameter in SYMBOLS[_EXTENSION + name]["parameters"]]
        options = {**dict(zip(parameters, given)), **named}
        object.__setattr__(self, "_double_options", {**_options(self), name: options})

    return method


_METHODS = {
    name: _option(name)
    for name in ("set_replication_options", "set_gradient_accumulation_options", "set_pipelining_options")
}
_METHODS["get_pipeline_stage_assignment"] = pipelines.get_pipeline_stage_assignment
_METHODS["set_pipeline_stage_assignment"] = pipelines.set_pipeline_stage_assignment
for _name, _entry in SYMBOLS.items():
    if _name.startswith(_EXTENSION) and _entry["kind"] == "method":
        _short = _name[len(_EXTENSION) :]
        setattr(Extension, _short, _METHODS.get(_short, _without_double(_short)))


def _options(model):
    return getattr(model, "_double_options", {})


def _accumulation(model):
    """(micro batches of an update, how their gradients are reduced)."""
    pipelined = pipelines.stages(model) > 0
    name = "set_pipelining_options" if pipelined else "set_gradient_accumulation_options"
    options = _options(model).get(name, {})
    number = options.get("gradient_accumulation_steps_per_replica")
    if pipelined and number is None:
        raise ValueError("A pipelined model needs gradient_accumulation_steps_per_replica.")
    return number or 1, options.get("gradient_accumulation_reduction_method", "sum")


def fit(
    self, x=None, y=None, batch_size=None, epochs=1, verbose=0, callbacks=None, validation_data=None,
    shuffle=True, initial_epoch=0, steps_per_epoch=None, validation_steps=None,
    validation_batch_size=None, validation_freq=1,
):  # fmt: skip
    for name in _REFUSED:
        if getattr(type(self), name) is not getattr(keras.Model, name):
            raise RuntimeError(f"Models on the IPU cannot override {name}: {type(self).__name__} does.")
    self.distribute_strategy.replicate(pipelines.ipus(self))
    accumulated, reduction = _accumulation(self)
    batches, steps = _batches(self, x, y, batch_size, steps_per_epoch)
    per_execution = _per_execution(self, steps)
    if steps % accumulated or per_execution % accumulated:
        raise ValueError(
            f"steps_per_execution={per_execution} and {steps} steps must be divisible by "
            f"gradient_accumulation_steps_per_replica={accumulated}."
        )
    step = _training_step(self, accumulated, reduction)
    program = _program(self, ("fit", per_execution, accumulated), step, per_execution // accumulated)
    callbacks = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=self, epochs=epochs, steps=steps, verbose=0
    )
    self.stop_training = False
    callbacks.on_train_begin()
    iterator, logs = iter(batches.repeat()), {}
    for epoch in range(initial_epoch, epochs):
        self.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        for begin in range(0, steps, per_execution):
            callbacks.on_train_batch_begin(begin)
            logs = _execute(self, program, iterator, per_execution, accumulated)
            callbacks.on_train_batch_end(begin + per_execution - 1, logs)
        logs = dict(logs)
        if validation_data is not None and (epoch + 1) % validation_freq == 0:
            x, y = validation_data if isinstance(validation_data, tuple) else (validation_data, None)
            found = self.evaluate(x, y, validation_batch_size, steps=validation_steps, return_dict=True)
            logs.update({f"val_{name}": value for name, value in found.items()})
        callbacks.on_epoch_end(epoch, logs)
        if self.stop_training:
            break
    callbacks.on_train_end(logs)
    return self.history


def evaluate(
    self, x=None, y=None, batch_size=None, verbose=0, sample_weight=None, steps=None, callbacks=None,
    return_dict=False,
):  # fmt: skip
    batches, steps = _batches(self, x, y, batch_size, steps)
    per_execution = _per_execution(self, steps)

    def step(batch):
        x, y = batch
        outputs = self(x, training=False)
        self.compiled_loss(y, outputs, regularization_losses=self.losses)
        self.compiled_metrics.update_state(y, outputs)

    program = _program(self, ("evaluate", per_execution), step, per_execution)
    self.reset_metrics()
    iterator, logs = iter(batches), {}
    for _ in range(0, steps, per_execution):
        logs = _execute(self, program, iterator, per_execution, accumulated=1)
    return logs if return_dict else list(logs.values())


def _training_step(model, accumulated, reduction):
    """The function of `accumulated` micro batches [accumulated, ...] that makes one update of the weights."""
    if reduction not in ("sum", "mean", "running_mean"):
        raise ValueError(f"gradient_accumulation_reduction_method={reduction!r}.")

    def gradients(batch):
        x, y = batch
        outputs = model(x, training=True)
        loss = model.compiled_loss(y, outputs, regularization_losses=model.losses)
        model.compiled_metrics.update_state(y, outputs)
        return model.optimizer.get_gradients(loss, model.trainable_weights)

    def step(batch):
        total = None
        for micro in range(accumulated):
            of_micro = batch
            if accumulated > 1:
                of_micro = tf.nest.map_structure(lambda t, micro=micro: t[micro], batch)
            found = [tf.convert_to_tensor(gradient) for gradient in gradients(of_micro)]
            total = found if total is None else [a + b for a, b in zip(total, found)]
        if reduction != "sum":
            total = [gradient / accumulated for gradient in total]
        model.optimizer.apply_gradients(zip(total, model.trainable_weights))

    return step


def _batches(model, x, y, batch_size, steps):
    """A dataset of batches of static shapes, and the steps that each replica takes of it."""
    replicas = model.distribute_strategy.double.count
    if not isinstance(x, tf.data.Dataset):
        if y is None or not hasattr(x, "shape"):
            raise ValueError("x must be arrays or a tf.data.Dataset; generators have no static shapes.")
        size = batch_size or 32
        if len(x) % size:
            raise ValueError(f"{len(x)} examples cannot be divided into batches of {size}.")
        x = tf.data.Dataset.from_tensor_slices((_narrow(x), _narrow(y))).batch(size, drop_remainder=True)
    for spec in tf.nest.flatten(x.element_spec):
        if not spec.shape.is_fully_defined():
            raise ValueError(f"A batch has shape {spec.shape}: use batch(..., drop_remainder=True).")
    if steps is None:
        steps = int(x.cardinality())
        if steps < 0:
            raise ValueError("The dataset's size is not known: give the steps.")
    if steps // replicas < 1:
        raise ValueError(f"{steps} batches are fewer than the {replicas} replicas.")
    return without_autotuning(x), steps // replicas


def _narrow(array):
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _per_execution(model, steps):
    per_execution = min(int(model._steps_per_execution.numpy()), steps)
    if steps % per_execution:
        raise ValueError(f"steps_per_execution={per_execution} does not divide {steps} steps of a replica.")
    return per_execution


def _program(model, key, step, repetitions):
    """A program that takes `step` so often, of batches stacked along the first axis."""
    programs = model.__dict__.setdefault("_double_programs", {})
    key = (*key, id(model.optimizer), id(model.compiled_loss))
    if key not in programs:

        def run(*stacked):
            def body(i):
                step(tf.nest.map_structure(lambda t: tf.gather(t, i), stacked))
                return (i + 1,)

            tf.while_loop(lambda i: i < repetitions, body, (tf.constant(0),), parallel_iterations=1)
            return {metric.name: metric.result() for metric in model.metrics}

        programs[key] = tf.function(run, autograph=False)
    return programs[key]


def _execute(model, program, iterator, steps, accumulated):
    """`steps` steps on each replica; the metrics of the last one, or their mean or sum."""
    strategy = model.distribute_strategy
    replicas = strategy.double.count
    elements = [next(iterator) for _ in range(steps * replicas)]
    each = []
    for replica in range(replicas):
        mine = elements[replica::replicas]
        stacked = tf.nest.map_structure(lambda *tensors: tf.stack(tensors), *mine)
        if accumulated > 1:
            stacked = tf.nest.map_structure(
                lambda t: tf.reshape(t, [steps // accumulated, accumulated, *t.shape[1:]]), stacked
            )
        each.append((tuple(stacked), {}))
    results = strategy.run_replicas(program, each)
    return _reduced(model, results)


def _reduced(model, results):
    options = _options(model).get("set_replication_options", {})
    method = str(options.get("replicated_metric_reduction_method", "NONE")).upper()
    if method not in ("NONE", "MEAN", "SUM"):
        raise NotImplementedError(f"The double has no replicated_metric_reduction_method={method!r}.")
    names = list(results[0])
    values = {name: [float(result[name]) for result in results] for name in names}
    reduce = {"NONE": lambda v: v[-1], "MEAN": np.mean, "SUM": np.sum}[method]
    return {name: float(reduce(values[name])) for name in names}
