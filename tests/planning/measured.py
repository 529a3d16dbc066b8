"""Peak memory of training steps in XLA's buffers: `XLA_FLAGS=--xla_dump_to=FOLDER ... python -m ... FOLDER`.

XLA assigns all buffers of a program when it compiles it, and says what they come to: arguments, results and
temporaries, those that share memory once. No timing and no other program changes that.
"""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np

import random_bases as rb
from random_bases import keras_api
from random_bases.keras_api import GENERATION, keras, set_random_seed

ROOT = Path(__file__).resolve().parents[2]
FRACTION = 50  # D / d
RANK = 4
# Model, batch: where weights are most of it, and where activations are.
CASES = [("mlp", 64), ("cnn", 128), ("transformer", 4), ("transformer", 64)]
METHODS = ["sgd", "adamw", "rbd", "rbd_error_feedback", "kronecker"] + ["lora"] * (GENERATION == "keras3")


def build(name):
    """A model, and the shape of an example."""
    set_random_seed(0)
    layers = keras.layers
    if name == "mlp":
        shape = (512,)
        x = y = keras.Input(shape)
        for _ in range(3):
            y = layers.Dense(512, "relu")(y)
    elif name == "cnn":
        shape = (32, 32, 3)
        x = y = keras.Input(shape)
        for filters in (32, 64, 64):
            y = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(y)
        y = layers.Dense(256, "relu")(layers.Flatten()(y))
    else:
        shape = (32,)
        x = keras.Input(shape, dtype="int32")
        y = layers.Embedding(1000, 128)(x)
        for _ in range(2):
            z = layers.LayerNormalization()(y)
            y = layers.Add()([y, layers.MultiHeadAttention(4, 32)(z, z)])
            z = layers.LayerNormalization()(y)
            y = layers.Add()([y, layers.Dense(128)(layers.Dense(512, "gelu")(z))])
        y = layers.GlobalAveragePooling1D()(y)
    model = keras.Model(x, layers.Dense(10)(y))
    compile_(model, keras.optimizers.SGD(0.1))
    return model, shape


def compile_(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras_api.compile_model(model, jit_compile=True, optimizer=optimizer, loss=loss)


def data(shape, batch):
    x = np.zeros((batch, *shape), np.int32 if shape == (32,) else np.float32)
    return x, np.zeros(batch, np.int32)


def prepared(method, model):
    """The model that `method` trains, compiled for it."""
    d = model.count_params() // FRACTION
    optimizer = keras.optimizers.SGD(0.1)
    if method in ("adamw", "lora"):
        optimizer = keras.optimizers.AdamW(0.1)
    if method == "lora":
        for layer in model._flatten_layers():
            if not isinstance(layer, keras.Model) and hasattr(layer, "enable_lora"):
                layer.enable_lora(RANK)
        for variable in model.trainable_variables:
            variable.trainable = "lora" in variable.path
    if method.startswith("rbd"):
        remembers = method == "rbd_error_feedback"
        optimizer = rb.RandomBasesDescent(optimizer, d, basis="hadamard", seed=0, error_feedback=remembers)
    if method == "kronecker":
        model = rb.SubspaceModel(model, d, basis="kronecker", seed=0, redraw_every=1)
    compile_(model, optimizer)
    return model


def measure(name, batch, method, folder):
    """Bytes of the largest program of a training step."""
    shutil.rmtree(folder, ignore_errors=True)
    model, shape = build(name)
    prepared(method, model).train_on_batch(*data(shape, batch))
    reports = Path(folder).glob("*memory-usage-report.txt")
    return max(int(re.search(r"Total bytes used: (\d+)", report.read_text())[1]) for report in reports)


if __name__ == "__main__":
    found = [[*case, method, measure(*case, method, sys.argv[1])] for case in CASES for method in METHODS]
    print(json.dumps(found))
