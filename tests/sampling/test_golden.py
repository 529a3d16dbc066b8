"""Streams are forever: golden.json holds words, samples and coordinates as they were first drawn.

A change that breaks this test changes every basis that anyone has drawn. To write the file anew
nevertheless, or to add to it:

    PYTHONPATH=. python -c "from tests.sampling import test_golden; test_golden.write()"
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from random_bases import bases
from random_bases.sampling import DISTRIBUTIONS, as_seed, counter, derive_key
from random_bases.sampling.seeds import SAMPLES
from tests.dense_reference import eagerly

FILE = Path(__file__).with_name("golden.json")
# (seed, draw, direction, element)
ADDRESSES = [
    (0, 0, 0, 0),
    (0, 0, 1, 0),
    (0, 1, 0, 0),
    (1, 0, 0, 128),
    (2**32, 0, 0, 0),
    (2020, 17, 249, 101_760),
    (2**63 + 2**31 + 5, 2**20, 2**16 + 1, 2**24),
    (2**64 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 2**10),
]
# (size, dimensions, seed, draw, first)
HADAMARD = [
    (7, 3, 0, 0, 0),
    (64, 64, 1, 2, 3),
    (1000, 100, 2020, 17, 250),
    (1000, 20, 2**64 - 1, 2**31 - 1, 2**31 - 1),
    (20_000, 1000, 2020, 17, 250),
]
# (size, dimensions, seed, draw, first)
ORTHOGONAL = [(300, 100, 2020, 17, 250), (1000, 70, 2**64 - 1, 2**31 - 1, 2**31 - 200)]
# (size, dimensions, seed, draw, first)
FASTFOOD = [
    (1, 1, 0, 0, 0),
    (64, 64, 1, 2, 3),
    (1000, 100, 2020, 17, 250),
    (101, 7, 2**64 - 1, 2**31 - 1, 2**31 - 1),
]
# (size, dimensions, seed, draw, first)
PARTITION = [
    (7, 3, 0, 0, 0),
    (64, 64, 1, 2, 3),
    (1000, 101, 2020, 17, 250),
    (1000, 20, 2**64 - 1, 2**31 - 1, 2**31 - 1),
]
WORDS, ELEMENTS = 24, 10


def key_of(seed, draw):
    return derive_key(as_seed(seed), tf.constant(draw), SAMPLES)


def words(seed, draw, direction, element):
    block = tf.constant(element // 2)
    x0, x1 = counter.words(key_of(seed, draw), tf.constant(direction), 1, block, WORDS)
    return {"x0": x0[0].numpy().tolist(), "x1": x1[0].numpy().tolist()}


def samples(distribution, seed, draw, direction, element):
    """All addresses begin a block of any distribution."""
    block = tf.constant(element // distribution.block)
    tiles = counter.tile(distribution, key_of(seed, draw), tf.constant(direction), 1, block, ELEMENTS)
    ordered = tf.transpose(tf.concat(tiles, axis=1)[0])
    return tf.reshape(ordered, [-1])[:ELEMENTS].numpy().astype(float).tolist()


def sketch(name, size, dimensions, seed, draw, first):
    v = ((np.arange(size) * 37 % 101 - 50) / 50).astype(np.float32)
    c, moved = bases.get(name, size, dimensions).sketch(v, seed, draw, first)
    return {"c": c.numpy().astype(float).tolist(), "sketch": moved[:50].numpy().astype(float).tolist()}


def compute():
    with eagerly():
        return {
            "words": {str(address): words(*address) for address in ADDRESSES},
            "samples": {
                name: {str(address): samples(distribution, *address) for address in ADDRESSES}
                for name, distribution in DISTRIBUTIONS.items()
            },
            "hadamard": {str(case): sketch("hadamard", *case) for case in HADAMARD},
            "orthogonal": {str(case): sketch("orthogonal", *case) for case in ORTHOGONAL},
            "fastfood": {str(case): sketch("fastfood", *case) for case in FASTFOOD},
            "partition": {str(case): sketch("partition", *case) for case in PARTITION},
        }


def write():
    lists_on_a_line = re.sub(r"\s+(?=-?\d|\])", " ", json.dumps(compute(), indent=1))
    FILE.write_text(lists_on_a_line + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def now():
    return compute()


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_words_are_what_they_were(now, golden):
    assert sum(len(case["x0"]) + len(case["x1"]) for case in golden["words"].values()) >= 300
    assert now["words"] == golden["words"]


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_samples_are_what_they_were(now, golden, name):
    assert now["samples"][name].keys() == golden["samples"][name].keys()
    for address, expected in golden["samples"][name].items():
        tolerance = 1e-6 if name == "normal" else 0
        np.testing.assert_allclose(now["samples"][name][address], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["hadamard", "fastfood", "orthogonal", "partition"])
def test_a_fast_basis_is_what_it_was(now, golden, name):
    assert now[name].keys() == golden[name].keys()
    for case, expected in golden[name].items():
        for part, values in expected.items():
            np.testing.assert_allclose(now[name][case][part], values, rtol=0, atol=1e-5)
