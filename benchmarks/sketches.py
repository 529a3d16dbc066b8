"""One sketch (P^T v, P P^T v) of FC-MNIST's size: how near the machine's limit, how far from others."""

import functools
from typing import List

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, alternate, compare
from benchmarks.yardstick import compile_sketch
from random_bases.sampling import derive_key
from random_bases.sampling.seeds import SAMPLES, as_seed
from random_bases.subspace import Subspace

SIZE = 101_770
DIMENSIONS = 250


def run() -> List[Figure]:
    """The figures of this part."""
    return [*_against_yardstick(), *_against_tensorflow(), *_compartments()]


def _vector(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


def _sketcher(name: str, size: int):
    basis = rb.bases.get(name, size, DIMENSIONS)
    v = tf.constant(_vector(size))
    return lambda: [part.numpy() for part in basis.sketch(v, 0)]


def _against_yardstick() -> List[Figure]:
    figures = []
    for name, size, target in (("normal", SIZE, ">= 0.5"), ("rademacher", SIZE // 64 * 64, None)):
        sketch, v = compile_sketch(name, size, DIMENSIONS), _vector(size)
        key = derive_key(as_seed(0), tf.constant(0), SAMPLES).numpy()
        for ours, limit in zip(_sketcher(name, size)(), sketch(v, key)):
            np.testing.assert_allclose(ours, limit, atol=1e-3)
        times = alternate({name: _sketcher(name, size), "C": functools.partial(sketch, v, key)}, repeats=31)
        label = f"{name} sketch, D = {size:,}, d = {DIMENSIONS}"
        figures.append(compare(label, "C yardstick (speed)", times, target, inverse=True))
    return figures


def _against_tensorflow() -> List[Figure]:
    v = tf.constant(_vector(SIZE))

    @tf.function(jit_compile=True)
    def blocks(v, seed):
        """What one would write: blocks of 10 directions from TensorFlow's own generator."""

        def block(index, c, out):
            p = tf.random.stateless_normal([10, SIZE], tf.stack([seed, index]))
            part = tf.linalg.matvec(p, v)
            c = tf.tensor_scatter_nd_update(c, [[index]], [part])
            return index + 1, c, out + tf.linalg.matvec(p, part, transpose_a=True)

        return tf.while_loop(
            lambda index, *_: index < DIMENSIONS // 10,
            block,
            (tf.constant(0), tf.zeros([DIMENSIONS // 10, 10]), tf.zeros([SIZE])),
        )

    remembered = tf.constant(
        rb.sampling.get_distribution("rademacher")
        .from_native((DIMENSIONS, SIZE), tf.constant([0, 0]))
        .numpy()
    )

    def stored():
        c = tf.linalg.matvec(remembered, v)
        return tf.linalg.matvec(remembered, c, transpose_a=True).numpy()

    times = alternate(
        {
            "normal": _sketcher("normal", SIZE),
            "rademacher": _sketcher("rademacher", SIZE),
            "hadamard": _sketcher("hadamard", SIZE),
            "partition": _sketcher("partition", SIZE),
            "blocks": lambda: blocks(v, tf.constant(0))[2].numpy(),
            "stored": stored,
        },
        repeats=21,
    )

    def figure(name, reference, against, target, inverse=False):
        pair = {name: times[name], reference: times[reference]}
        return compare(f"{name} sketch, D = {SIZE:,}, d = {DIMENSIONS}", against, pair, target, inverse)

    memory = "the same P kept in memory (100 MB)"
    return [
        figure("normal", "blocks", "stateless_normal blocks + matmul (times faster)", ">= 6", True),
        figure("rademacher", "stored", memory, "<= 1"),
        figure("normal", "stored", memory, "<= 3"),
        figure("hadamard", "stored", memory, None),
        figure("partition", "hadamard", "hadamard", None),
        figure("rademacher", "normal", "normal (times faster)", ">= 4", True),
    ]


def _compartments() -> List[Figure]:
    v = [tf.constant(_vector(SIZE))]

    def sketcher(compartments):
        subspace = Subspace([[SIZE]], DIMENSIONS, "normal", compartments)
        program = tf.function(lambda v, draw: subspace.sketch(v, 0, draw))
        return lambda: program(v, tf.constant(0))[1][0].numpy()

    times = alternate({"ten": sketcher(10), "one": sketcher("network")}, repeats=31)
    return [compare("10 equal compartments, normal, total d = 250", "1 compartment", times, "<= 0.2")]
