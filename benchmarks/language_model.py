"""A small language model, from scratch: AdamW on all weights against Adam on coordinates of factored bases.

python -m benchmarks.language_model [STEPS]

The text is Python's own documentation, `pydoc_data.topics`, which comes with every Python: half a million
characters of English and examples, the last tenth held out. Characters, a causal transformer of two blocks of
width 128, 2,048 tokens a step (600 steps by default, a minute or two for each line), rates that fall linearly
to zero, one seed. Prints the loss on the text that was held out, in nats a character, and processor time of
all threads.
"""

import json
import pydoc_data.topics
import sys
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

import random_bases as rb
from experiments import machine
from experiments.results import format_table
from random_bases import keras_api
from random_bases.keras_api import keras

_LENGTH, _BATCH = 128, 16
_WIDTH, _BLOCKS, _HEADS = 128, 2, 4


class Case(NamedTuple):
    """A training: of all weights, or of d = D / 10 coordinates in a basis that is redrawn, or not."""

    optimizer: str
    rate: float
    coordinates: bool = False
    redraw_every: Optional[int] = None


CASES = (
    Case("adamw", 0.001),
    Case("adamw", 0.003),
    Case("adamw", 0.01),
    Case("adam", 0.01, True, 100),
    Case("adam", 0.03, True, 100),
    Case("adam", 0.01, True, 20),
    Case("adam", 0.01, True),
    Case("sgd", 1.0, True, 1),
)


class Text:
    """Characters as numbers."""

    def __init__(self):
        topics = pydoc_data.topics.topics
        text = "\n".join(topics[name] for name in sorted(topics))
        self.characters = sorted(set(text))
        number = {character: i for i, character in enumerate(self.characters)}
        ids = np.array([number[character] for character in text], np.int32)
        self._train, self._held_out = np.split(ids, [len(ids) * 9 // 10])

    def batches(self, steps: int) -> Tuple[np.ndarray, np.ndarray]:
        """X and y, [steps * batch, length], from random places."""
        starts = np.random.default_rng(0).integers(0, len(self._train) - _LENGTH - 1, steps * _BATCH)
        windows = np.stack([self._train[start : start + _LENGTH + 1] for start in starts])
        return windows[:, :-1], windows[:, 1:]

    def held_out(self) -> Tuple[np.ndarray, np.ndarray]:
        """X and y of what follows."""
        rows = (len(self._held_out) - 1) // _LENGTH
        x, y = (self._held_out[i : i + rows * _LENGTH].reshape(rows, _LENGTH) for i in (0, 1))
        return x, y


@rb.keras_api.register_serializable
class Positions(keras.layers.Layer):
    """Adds a vector of each position's own."""

    def build(self, shape):
        self.table = self.add_weight(name="table", shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.table


def transformer(vocabulary: int) -> keras.Model:
    """Logits of the next character at each position."""
    layers = keras.layers
    keras_api.set_random_seed(0)
    x = keras.Input((_LENGTH,), dtype="int32")
    y = Positions()(layers.Embedding(vocabulary, _WIDTH)(x))
    for _ in range(_BLOCKS):
        z = layers.LayerNormalization()(y)
        attention = layers.MultiHeadAttention(_HEADS, _WIDTH // _HEADS)
        y = layers.Add()([y, attention(z, z, use_causal_mask=True)])
        z = layers.LayerNormalization()(y)
        y = layers.Add()([y, layers.Dense(_WIDTH)(layers.Dense(4 * _WIDTH, "gelu")(z))])
    return keras.Model(x, layers.Dense(vocabulary)(layers.LayerNormalization()(y)))


def train(case: Case, text: Text, steps: int) -> Dict[str, Any]:
    """A row of the table."""
    model = transformer(len(text.characters))
    size = dimensions = model.count_params()
    rate = keras.optimizers.schedules.PolynomialDecay(case.rate, steps, 0.0)
    optimizer = {
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=0.01),
        "adam": lambda: keras.optimizers.Adam(rate),
        "sgd": lambda: keras.optimizers.SGD(rate),
    }[case.optimizer]()
    if case.coordinates:
        dimensions = size // 10
        model = rb.SubspaceModel(model, dimensions, "kronecker", seed=0, redraw_every=case.redraw_every)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras_api.compile_model(model, jit_compile=True, optimizer=optimizer, loss=loss)
    x, y = text.batches(steps + 1)
    first = slice(0, _BATCH)
    # The step that compiles is the first of steps + 1; the last has a rate of zero.
    model.fit(x[first], y[first], batch_size=_BATCH, verbose=0)
    began = time.process_time()
    model.fit(x[_BATCH:], y[_BATCH:], batch_size=_BATCH, shuffle=False, verbose=0)
    seconds = time.process_time() - began
    return {
        **case._asdict(),
        "numbers": dimensions,
        "loss": model.evaluate(*text.held_out(), batch_size=_BATCH, verbose=0),
        "milliseconds": 1e3 * seconds / steps,
    }


def main(steps: int) -> None:
    """Prints the table, then JSON."""
    text = Text()
    rows = [train(case, text, steps) for case in CASES]
    print(format_table([{key: str(value) for key, value in row.items()} for row in rows]))
    print(json.dumps({"machine": machine.description(), "steps": steps, "rows": rows}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
