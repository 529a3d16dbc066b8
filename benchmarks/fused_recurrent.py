"""Fused factored bases of recurrent layers against SGD: processor time of a training step."""

import functools
from typing import List

from benchmarks import fused
from benchmarks.measure import Figure
from random_bases.keras_api import keras

_WIDTH = 512
_KINDS = {"LSTM": keras.layers.LSTM, "GRU": keras.layers.GRU, "SimpleRNN": keras.layers.SimpleRNN}


def network(kind: type) -> keras.Model:
    """Two layers on each other, of sequences [batch, 128, 512]."""
    layers = [kind(_WIDTH, return_sequences=True), kind(_WIDTH)]
    return keras.Sequential([keras.Input((fused.LENGTH, _WIDTH)), *layers])


def run() -> List[Figure]:
    """The figures of this part."""
    cases = [
        fused.Case(f"two layers of {name}, width {_WIDTH}", functools.partial(network, kind), True, ())
        for name, kind in _KINDS.items()
    ]
    return [fused.compare(case, *target) for case in cases for target in ((0.01, 0.7), (0.1, 0.85))]
