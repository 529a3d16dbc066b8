"""Fused factored bases against SGD: processor time of a training step, and peak memory.

In processor time of all threads: what else the machine does changes wall-clock times by more than the
differences. `python -m benchmarks.fused METHOD FRACTION` is a process that measures memory and prints JSON:
METHOD is "sgd", "adamw", "lora" or "fused", FRACTION d / D.
"""

import functools
import json
import sys
import time
from typing import Callable, List, NamedTuple

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, alternate, in_process
from experiments import machine, networks
from random_bases import keras_api
from random_bases.keras_api import keras

_TOKENS = 2048
LENGTH = 128
# Of the memory measurement: about 100 million parameters with the vocabulary.
_LARGE = {"width": 768, "blocks": 12, "vocabulary": 20_000}


class Case(NamedTuple):
    """A network, and the highest ratio of a step's time to SGD's for some d / D."""

    name: str
    build: Callable[[], keras.Model]
    jit_compile: bool
    targets: tuple


def mlp(width: int = 512, blocks: int = 6) -> keras.Model:
    """Blocks of two Dense layers, to four times the width and back."""
    x = y = keras.Input((width,))
    for _ in range(blocks):
        y = keras.layers.Dense(width)(keras.layers.Dense(4 * width, "relu")(y))
    return keras.Model(x, y)


def transformer(width: int = 512, blocks: int = 6, vocabulary: int = 0, heads: int = 8) -> keras.Model:
    """An encoder's blocks, of tokens [batch, 128] or, without a vocabulary, of [batch, 128, width]."""
    layers = keras.layers
    if vocabulary:
        x = keras.Input((LENGTH,), dtype="int32")
        y = layers.Embedding(vocabulary, width)(x)
    else:
        x = y = keras.Input((LENGTH, width))
    for _ in range(blocks):
        z = layers.LayerNormalization()(y)
        y = layers.Add()([y, layers.MultiHeadAttention(heads, width // heads)(z, z)])
        z = layers.LayerNormalization()(y)
        y = layers.Add()([y, layers.Dense(width)(layers.Dense(4 * width, "gelu")(z))])
    return keras.Model(x, y)


_CASES = (
    Case("MLP, width 512", mlp, True, ((0.01, 0.7), (0.1, 0.85))),
    Case("transformer, width 512", transformer, True, ((0.01, 0.7), (0.1, 0.85))),
    Case("CNN", lambda: networks.get("cnn", (32, 32, 3)), False, ((0.1, 1.0),)),
    Case("ResNet-8", lambda: networks.get("resnet8", (32, 32, 3)), False, ((0.1, 1.0),)),
)


def run() -> List[Figure]:
    """The figures of this part."""
    return [*(compare(case, *target) for case in _CASES for target in case.targets), *_memory()]


def compare(case: Case, fraction: float, target: float) -> Figure:
    """A step's processor time, fused with d = `fraction` D, beside SGD's."""
    steps = {}
    for name in ("fused", "sgd"):
        model = case.build()
        size = model.count_params()
        if name == "fused":
            model = _fused(model, fraction)
        steps[name] = _step(model, keras.optimizers.SGD(1e-3), case.jit_compile)
    seconds = alternate(steps, repeats=5, clock=time.process_time)
    value, reference = 1e3 * seconds["fused"], 1e3 * seconds["sgd"]
    what = f"step, processor time, {case.name}, kronecker d = {fraction:g} D, D = {size:,}"
    return Figure(what, "SGD", value, reference, "ms", value / reference, f"<= {target:g}")


def _fused(model: keras.Model, fraction: float) -> keras.Model:
    dimensions = round(fraction * sum(int(np.prod(v.shape)) for v in model.trainable_variables))
    return rb.SubspaceModel(model, dimensions, basis="kronecker", seed=0, redraw_every=1)


def _step(model: keras.Model, optimizer, jit_compile: bool) -> Callable[[], None]:
    """A training step on one batch: of 2,048 tokens (rows), or 32 images."""
    network = getattr(model, "model", model)
    shape = network.input_shape[1:]
    batch = {3: 32}.get(len(shape), _TOKENS // LENGTH if shape[0] == LENGTH else _TOKENS)
    generator = np.random.default_rng(0)
    x = generator.normal(size=[batch, *shape]).astype(np.float32)
    if "int" in str(network.inputs[0].dtype):
        x = generator.integers(0, 1000, [batch, *shape]).astype(np.int32)
    y = np.zeros([batch, *network.output_shape[1:]], np.float32)
    keras_api.compile_model(model, jit_compile=jit_compile, optimizer=optimizer, loss="mse")
    data = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    return functools.partial(model.fit, data, steps_per_epoch=1, epochs=1, verbose=0)


def _memory() -> List[Figure]:
    found = {name: in_process("benchmarks.fused", name, 0.01) for name in ("fused", "sgd", "adamw", "lora")}
    figures = []
    for name, target in (("sgd", 0.7), ("adamw", 0.4), ("lora", 1.0)):
        value, reference = found["fused"]["mb"], found[name]["mb"]
        what = f"peak memory, transformer of {found[name]['parameters']:,} parameters, kronecker d = 0.01 D"
        against = {"sgd": "SGD", "adamw": "AdamW", "lora": "enable_lora(8), AdamW"}[name]
        figures.append(Figure(what, against, value, reference, "MB", value / reference, f"<= {target:g}"))
    return figures


def _child(method: str, fraction: float) -> None:
    before = machine.resident_megabytes()
    model = transformer(**_LARGE)
    parameters = model.count_params()
    optimizer = keras.optimizers.SGD(1e-3) if method in ("sgd", "fused") else keras.optimizers.AdamW(1e-4)
    if method == "lora":
        for layer in model._flatten_layers():
            if isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
                layer.enable_lora(8)
            elif layer.weights and not isinstance(layer, (keras.Model, keras.layers.MultiHeadAttention)):
                layer.trainable = False
    if method == "fused":
        model = _fused(model, fraction)
    step = _step(model, optimizer, jit_compile=True)
    step()
    compiling = machine.peak_megabytes() - before
    machine.forget_peak()
    step()
    print(
        json.dumps(
            {"mb": machine.peak_megabytes() - before, "compiling": compiling, "parameters": parameters}
        )
    )


if __name__ == "__main__":
    _child(sys.argv[1], float(sys.argv[2]))
