"""What Graphcore's Keras puts in place of `fit`, `evaluate` and `predict` of models made in the scope.

The step is the one that the contract tells: no train_step, but gradients from `optimizer.get_gradients` and
then `optimizer.apply_gradients`, in one program for all replicas that takes several steps. Subclassed models
are traced first, by their `call` on symbolic inputs (tracing.py).
"""

import functools

import numpy as np
import tensorflow as tf
from keras.engine import data_adapter, functional

from random_bases.batches import without_autotuning
from random_bases.keras_api import keras
from tests.poplar import accumulation, pipelines, tracing
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
        "predict": _for_ipus(predict, keras.Model.predict),
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
    of_graphs = {}
    if not issubclass(cls, functional.Functional):
        of_graphs = dict(tracing.OF_FUNCTIONAL)
        if cls.build is keras.Model.build:
            of_graphs["build"] = tracing.build_of_shapes
    return type(cls)(
        cls.__name__,
        (cls, Extension),
        {"__original_class__": cls, "__module__": cls.__module__, **of_graphs},
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
        if name == "set_gradient_accumulation_options":
            # Known by this name there; the only one of its attributes that is asked for.
            v2 = options.get("use_v2_gradient_accumulation_optimizer", False)
            object.__setattr__(self, "_use_v2_gradient_accumulation_optimizer", v2)
        object.__setattr__(self, "_double_options", {**_options(self), name: options})
        vars(self).pop("_double_programs", None)

    return method


def _queue_option(name, queue, refused):
    """As `_option`, of arguments of a queue that Keras makes: how data come and go, not what."""

    def method(self, **named):
        arguments(queue, [None] if "dataset" in refused else [], named)
        for each in refused:
            if each in named:
                raise ValueError(f"{name}: {each!r} is set by Keras.")

    return method


_METHODS = {
    name: _option(name)
    for name in ("set_replication_options", "set_gradient_accumulation_options", "set_pipelining_options")
}
for _short in ("get", "set", "reset"):
    _METHODS[f"{_short}_pipeline_stage_assignment"] = getattr(
        pipelines, f"{_short}_pipeline_stage_assignment"
    )
_METHODS["set_infeed_queue_options"] = _queue_option(
    "set_infeed_queue_options", "tensorflow.python.ipu.ipu_infeed_queue.IPUInfeedQueue", ("dataset",)
)
_METHODS["set_outfeed_queue_options"] = _queue_option(
    "set_outfeed_queue_options",
    "tensorflow.python.ipu.ipu_outfeed_queue.IPUOutfeedQueue",
    ("outfeed_mode", "device_ordinal"),
)
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
    reduction = options.get("gradient_accumulation_reduction_method", "sum")
    return number or 1, getattr(reduction, "name", reduction).lower()


def fit(
    self, x=None, y=None, batch_size=None, epochs=1, verbose=0, callbacks=None, validation_data=None,
    shuffle=True, initial_epoch=0, steps_per_epoch=None, validation_steps=None,
    validation_batch_size=None, validation_freq=1,
):  # fmt: skip
    for name in _REFUSED:
        if getattr(self, name).__func__ is not getattr(keras.Model, name):
            raise RuntimeError(f"Models on the IPU cannot override {name}: {type(self).__name__} does.")
    batches, steps = _batches(self, x, y, batch_size, steps_per_epoch)
    accumulated, reduction = _accumulation(self)
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
    batches, steps = _batches(self, x, y, batch_size, steps, sample_weight)
    per_execution = _per_execution(self, steps)

    def step(batch):
        x, y, weights = _parts(batch)
        outputs = self(x, training=False)
        self.compiled_loss(y, outputs, weights, regularization_losses=self.losses)
        self.compiled_metrics.update_state(y, outputs, weights)

    program = _program(self, ("evaluate", per_execution), step, per_execution)
    self.reset_metrics()
    iterator, logs = iter(batches), {}
    for _ in range(0, steps, per_execution):
        logs = _execute(self, program, iterator, per_execution, accumulated=1)
    values = list(logs.values())
    return logs if return_dict else values[0] if len(values) == 1 else values


def predict(self, x, batch_size=None, verbose=0, steps=None, callbacks=None):
    batches, steps = _batches(self, x, None, batch_size, steps)
    strategy, per_execution = self.distribute_strategy, _per_execution(self, steps)

    def run(*stacked):
        return tf.map_fn(
            lambda batch: self(_parts(batch)[0], training=False),
            stacked,
            fn_output_signature=tf.nest.map_structure(
                lambda tensor: tf.TensorSpec(None, tensor.dtype), self.outputs[0]
            ),
        )

    if len(self.outputs) != 1:
        raise NotImplementedError("The double predicts one output.")
    program = tf.function(run, autograph=False)
    iterator, found = iter(batches), []
    for _ in range(0, steps, per_execution):
        each = _elements(self, iterator, per_execution)
        results = strategy.run_replicas(program, each)
        # One step's batches of all replicas, then the next one's.
        found.append(np.stack([result.numpy() for result in results], axis=1))
    return np.concatenate([array.reshape(-1, *array.shape[3:]) for array in found])


def _parts(batch):
    """(x, y, weights) of a batch of an element's structure."""
    return data_adapter.unpack_x_y_sample_weight(data_adapter.expand_1d(batch))


def _training_step(model, accumulated, reduction):
    """The function of `accumulated` micro batches [accumulated, ...] that makes one update of the weights."""
    if reduction not in ("sum", "mean", "running_mean"):
        raise ValueError(f"gradient_accumulation_reduction_method={reduction!r}.")

    optimizer = model.optimizer
    if accumulated > 1:
        accumulation.check_optimizer(optimizer)
        if getattr(model, "_use_v2_gradient_accumulation_optimizer", False):
            optimizer = accumulation.AccumulatingOptimizer(optimizer)

    def gradients(batch):
        x, y, weights = _parts(batch)
        outputs = model(x, training=True)
        loss = model.compiled_loss(y, outputs, weights, regularization_losses=model.losses)
        model.compiled_metrics.update_state(y, outputs, weights)
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
        optimizer.apply_gradients(zip(total, model.trainable_weights))

    return step


def _batches(model, x, y, batch_size, steps, sample_weight=None):
    """A dataset of batches of static shapes, and the steps that each replica takes of it. Builds models."""
    if not isinstance(x, tf.data.Dataset):
        arrays = [array for array in (x, y, sample_weight) if array is not None]
        lengths = {len(array) for array in tf.nest.flatten(arrays) if hasattr(array, "shape")}
        if len(lengths) != 1:
            raise ValueError("x must be arrays or a tf.data.Dataset; generators have no static shapes.")
        (length,), size = lengths, batch_size or 32
        if length % size:
            raise ValueError(f"{length} examples cannot be divided into batches of {size}.")
        x = tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(size, drop_remainder=True)
    if any(spec.dtype == tf.float64 for spec in tf.nest.flatten(x.element_spec)):
        x = x.map(_narrow)
    for spec in tf.nest.flatten(x.element_spec):
        if not spec.shape.is_fully_defined():
            raise ValueError(f"A batch has shape {spec.shape}: use batch(..., drop_remainder=True).")
    strategy = model.distribute_strategy
    with strategy.scope():
        tracing.build(model, data_adapter.unpack_x_y_sample_weight(x.element_spec)[0])
    mapping = _options(model).get("set_pipelining_options", {}).get("device_mapping")
    strategy.replicate(pipelines.ipus(model, mapping))  # which are known when it is built
    replicas = strategy.double.count
    if steps is None:
        steps = int(x.cardinality())
        if steps < 0:
            raise ValueError("The dataset's size is not known: give the steps.")
    if steps // replicas < 1:
        raise ValueError(f"{steps} batches are fewer than the {replicas} replicas.")
    return without_autotuning(x), steps // replicas


def _narrow(*element):
    """An element of a dataset without float64."""

    def narrow(tensor):
        return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor

    return tf.nest.map_structure(narrow, element if len(element) > 1 else element[0])


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
    results = model.distribute_strategy.run_replicas(program, _elements(model, iterator, steps, accumulated))
    return _reduced(model, results)


def _elements(model, iterator, steps, accumulated=1):
    """The arguments of a program on each replica: the elements of its steps, stacked."""
    replicas = model.distribute_strategy.double.count
    elements = [next(iterator) for _ in range(steps * replicas)]
    each = []
    for replica in range(replicas):
        mine = elements[replica::replicas]
        stacked = tf.nest.map_structure(lambda *tensors: tf.stack(tensors), *mine)
        if accumulated > 1:
            stacked = tf.nest.map_structure(
                lambda t: tf.reshape(t, [steps // accumulated, accumulated, *t.shape[1:]]), stacked
            )
        each.append((tuple(stacked) if isinstance(stacked, (tuple, list)) else (stacked,), {}))
    return each


def _reduced(model, results):
    options = _options(model).get("set_replication_options", {})
    method = options.get("replicated_metric_reduction_method", "NONE")
    method = getattr(method, "name", method).upper()
    if method not in ("NONE", "LIST", "MEAN", "SUM"):
        raise ValueError(f"replicated_metric_reduction_method={method!r}.")
    names = list(results[0])
    values = {name: [float(result[name]) for result in results] for name in names}
    reduce = {"NONE": lambda v: v[-1], "LIST": list, "MEAN": np.mean, "SUM": np.sum}[method]
    found = {name: reduce(values[name]) for name in names}
    return found if method == "LIST" else {name: float(value) for name, value in found.items()}
