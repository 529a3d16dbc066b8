import numpy as np
import pytest
import tensorflow as tf

from random_bases.sampling import counter, get_distribution
from tests.dense_reference import PER_BLOCK, block_samples, stream_key, threefry

INT_MAX = 2**31 - 1


def int32(*words):
    """uint32 words or arrays as int32 tensors of the same bits."""
    return [tf.constant(np.asarray(word, np.uint32).view(np.int32)) for word in words]


def uint32(words):
    return [word.numpy().view(np.uint32) for word in words]


ZEROS, ONES = "00000000 00000000", "ffffffff ffffffff"
PI = ("13198a2e 03707344", "243f6a88 85a308d3")


# Random123's file of known answers.
@pytest.mark.parametrize(
    ("rounds", "key", "count", "expected"),
    [
        (13, ZEROS, ZEROS, "9d1c5ec6 8bd50731"),
        (13, ONES, ONES, "fd36d048 2d17272c"),
        (13, *PI, "ba3e4725 f27d669e"),
        (20, ZEROS, ZEROS, "6b200159 99ba4efe"),
        (20, ONES, ONES, "1cb996fc bb002be7"),
        (20, *PI, "c4923a9c 483df7a0"),
    ],
)
def test_known_answers(rounds, key, count, expected):
    key, count = ([int(word, 16) for word in text.split()] for text in (key, count))
    for function in (counter.threefry2x32, tf.function(counter.threefry2x32)):
        found = uint32(function(tf.stack(int32(*key)), int32(*count), rounds=rounds))
        assert " ".join(f"{int(word):08x}" for word in found) == expected
    assert " ".join(f"{int(word):08x}" for word in threefry(key, count, rounds)) == expected


@pytest.mark.parametrize("rounds", [13, 20])
def test_words_equal_numpys_for_any_key_and_counter_eager_graph_and_compiled(rounds):
    rng = np.random.default_rng(rounds)
    edges = np.array([0, 1, INT_MAX, 2**31, 2**32 - 1], np.uint32)
    # Each edge against each, then random ones: k0, k1, x0, x1.
    words = np.concatenate(
        [
            np.stack(np.meshgrid(edges, edges, edges, edges), axis=-1).reshape(-1, 4),
            rng.integers(0, 2**32, [5000, 4], dtype=np.uint32),
        ]
    ).T
    expected = threefry(words[:2], words[2:], rounds)

    def function(k0, k1, x0, x1):
        return counter.threefry2x32((k0, k1), (x0, x1), rounds)

    for run in (function, tf.function(function), tf.function(function, jit_compile=True)):
        for found, right in zip(uint32(run(*int32(*words))), expected):
            np.testing.assert_array_equal(found, right)


def test_the_default_is_13_rounds():
    key, count = tf.stack(int32(1, 2)), int32(3, 4)
    thirteen = counter.threefry2x32(key, count, rounds=13)
    np.testing.assert_array_equal(uint32(counter.threefry2x32(key, count)), uint32(thirteen))


@pytest.mark.parametrize("rounds", [13, 20])
def test_a_key_maps_counters_to_distinct_words(rounds):
    # 2**17 counters whose words differ in few bits; then as many keys of one counter.
    first, second = (part.ravel() for part in np.meshgrid(np.arange(2**9), np.arange(2**8)))
    counters = int32(first, second * 2**24)
    for found in (
        counter.threefry2x32(tf.stack(int32(7, 0)), counters, rounds),
        counter.threefry2x32(counters, int32(np.zeros(2**17), np.zeros(2**17)), rounds),
    ):
        pairs = np.array(uint32(found)).astype(np.uint64)
        assert len(np.unique(pairs[0] << np.uint64(32) | pairs[1])) == 2**17
        # Each word alone behaves as random: 2**17 balls in 2**32 bins.
        expected = 2**34 / 2 / 2**32
        for word in pairs:
            repeats = 2**17 - len(np.unique(word))
            assert abs(repeats - expected) <= 5 * np.sqrt(expected)


@pytest.mark.parametrize("rounds", [0, 12, 14, 32, -13, None, "13"])
def test_other_numbers_of_rounds_are_refused(rounds):
    with pytest.raises(ValueError, match="rounds="):
        counter.threefry2x32(tf.stack(int32(0, 0)), int32(0, 0), rounds=rounds)


@pytest.mark.parametrize(("direction", "block"), [(0, 0), (5, 3), (2**30, 2**30), (INT_MAX - 2, INT_MAX - 5)])
def test_words_are_those_of_direction_and_block_numbers(direction, block):
    key = stream_key(3, 1)
    found = counter.words(tf.stack(int32(*key)), tf.constant(direction), 3, tf.constant(block), 6)
    numbers = np.meshgrid(direction + np.arange(3), block + np.arange(6), indexing="ij")
    for words, right in zip(uint32(found), threefry(key, numbers)):
        np.testing.assert_array_equal(words, right)


def in_element_order(tiles):
    """[rows, p, blocks] for each p -> [rows, elements]."""
    samples = np.concatenate([part.numpy() for part in tiles], axis=1)
    return samples.transpose(0, 2, 1).reshape(len(samples), -1)


@pytest.mark.parametrize("name", sorted(PER_BLOCK))
def test_a_tile_is_laid_out_by_blocks_and_positions(name):
    distribution, key = get_distribution(name), stream_key(2**63 + 11, 6)
    tiles = counter.tile(distribution, tf.stack(int32(*key)), tf.constant(40), 3, tf.constant(1000), 5)
    planes = counter.group_sizes(distribution)
    assert [tuple(part.shape) for part in tiles] == [(3, p, 5) for p in planes]
    assert sum(planes) == distribution.block == PER_BLOCK[name]
    words = threefry(key, np.meshgrid(40 + np.arange(3), 1000 + np.arange(5), indexing="ij"))
    expected = block_samples(name, *words).reshape(3, -1)
    np.testing.assert_allclose(in_element_order(tiles), expected, rtol=0, atol=2e-6)


def test_samples_do_not_depend_on_the_tile_they_are_drawn_in():
    key = tf.stack(int32(8, 9))

    names = ["normal", "rademacher", "uniform"]

    # One program for all of them.
    def draw(rows, blocks):
        def run(direction, block):
            return [
                counter.tile(get_distribution(name), key, direction, rows, block, blocks) for name in names
            ]

        return tf.function(run, jit_compile=True)

    whole, part = draw(9, 70), draw(2, 13)
    large = [in_element_order(tiles) for tiles in whole(tf.constant(100), tf.constant(50))]
    for row, column in ((0, 0), (3, 20), (7, 57)):
        small = part(tf.constant(100 + row), tf.constant(50 + column))
        for name, everything, tiles in zip(names, large, small):
            columns = slice(PER_BLOCK[name] * column, PER_BLOCK[name] * (column + 13))
            np.testing.assert_array_equal(in_element_order(tiles), everything[row : row + 2, columns], name)


@pytest.mark.parametrize("name", sorted(PER_BLOCK))
def test_single_entries_are_those_of_tiles(name):
    distribution, key = get_distribution(name), tf.stack(int32(*stream_key(5, 3)))
    directions = np.array([[7], [0], [INT_MAX]], np.int32)
    elements = np.array([0, 1, 31, 32, 33, 63, 64, 130, 4 * 10**6 + 1], np.int32)
    found = counter.entries(distribution, key, tf.constant(directions), tf.constant(elements))
    blocks, places = np.divmod(elements, PER_BLOCK[name])
    for row, direction in zip(found.numpy(), directions.ravel()):
        for value, block, place in zip(row, blocks, places):
            tile = counter.tile(distribution, key, tf.constant(direction), 1, tf.constant(block), 1)
            np.testing.assert_allclose(value, np.concatenate(tile, axis=1)[0, place, 0], rtol=1e-6)


def test_single_entries_of_several_keys():
    distribution = get_distribution("normal")
    keys = [tf.stack(int32(*stream_key(5, draw))) for draw in (3, 4)]
    elements = tf.range(10)
    together = counter.entries(
        distribution, tf.stack(keys, axis=1)[:, :, tf.newaxis], tf.constant(2), elements
    )
    for row, key in zip(together, keys):
        alone = counter.entries(distribution, key, tf.constant(2), elements)
        np.testing.assert_allclose(row, alone, rtol=1e-6)
