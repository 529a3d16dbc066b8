import numpy as np
import pytest
import tensorflow as tf

from random_bases.sampling import as_seed, counter, derive_key, seeds
from tests.dense_reference import MASK, stream_key


@pytest.mark.parametrize(
    "seed", [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 0x123456789ABCDEF0, 2**63, 2**64 - 1]
)
def test_an_int_is_split_into_its_low_and_high_words(seed):
    found = as_seed(seed)
    assert found.dtype == tf.int32 and found.shape == [2]
    low, high = (int(word) & MASK for word in found.numpy())
    assert low + 2**32 * high == seed
    np.testing.assert_array_equal(as_seed(np.uint64(seed)), found)
    # A pair means the same words.
    np.testing.assert_array_equal(as_seed(tuple(int(word) for word in found.numpy())), found)


@pytest.mark.parametrize(
    "seed",
    [
        (3, -4),
        [3, -4],
        np.array([3, -4], np.int32),
        np.array([3, -4], np.int64),
        tf.constant([3, -4]),
        tf.constant([3, -4], tf.int64),
    ],
)
def test_a_pair_is_taken_as_it_is(seed):
    found = as_seed(seed)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, [3, -4])


def test_a_seed_may_be_a_tensor_of_a_graph():
    found = tf.function(lambda seed: as_seed(2 * seed))(tf.constant([3, 4]))
    np.testing.assert_array_equal(found, [6, 8])


@pytest.mark.parametrize(
    "seed", [0.0, 1.5, np.float32(1), np.float64(1), True, np.True_, None, "1", [0.0, 1.0], [True, False]]
)
def test_what_is_not_an_integer_is_refused(seed):
    with pytest.raises(TypeError, match="seed"):
        as_seed(seed)


@pytest.mark.parametrize(
    "seed",
    [-1, 2**64, [1], [1, 2, 3], [[1, 2]], tf.constant(1), np.int64(-1), (2**32, 0), np.array([0, 2**31])],
)
def test_a_range_or_a_shape_that_does_not_fit_is_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        as_seed(seed)


STREAMS = {name: value for name, value in vars(seeds).items() if name.isupper() and name != "STREAM_VERSION"}


def test_streams_keep_their_numbers():
    first = {"SAMPLES": 0, "SIGNS": 1, "SIGNS_BETWEEN": 2, "OUTPUTS": 3, "OFFSET": 4, "ROWS": 5, "COLUMNS": 6}
    assert {name: STREAMS[name] for name in first} == first
    assert len(set(STREAMS.values())) == len(STREAMS)  # later ones, too


@pytest.mark.parametrize("seed", [0, 2**40 + 3, 2**64 - 1])
@pytest.mark.parametrize("draw", [0, 1, 2**31 - 1])
def test_a_key_is_threefry_20_of_draw_and_stream_under_the_seed(seed, draw):
    for stream in STREAMS.values():
        found = derive_key(as_seed(seed), tf.constant(draw), stream).numpy().view(np.uint32)
        np.testing.assert_array_equal(found, stream_key(seed, draw, stream))


def test_draws_and_streams_of_nearby_seeds_have_distinct_keys():
    # Seeds that share a word, are each other's mirror image, or differ in one bit.
    words = [0, 1, 2, 3, 4, 2**31 - 1, -(2**31), -1]
    keys = [
        tf.transpose(derive_key(as_seed((low, high)), tf.range(500), stream))
        for low in words
        for high in words
        for stream in STREAMS.values()
    ]
    rows = np.concatenate(keys)
    assert len(rows) == 64 * len(STREAMS) * 500
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_no_two_directions_share_a_block():
    """The 2020 code added worker, step and compartment numbers: their sums collide, these must not.

    40 seeds x 20 draws x 50 directions x 8 blocks are 320,000 pairs of words: two equal ones among as
    many random ones have a probability of 3e-9.
    """
    rows = []
    directions, blocks = np.meshgrid(np.arange(50, dtype=np.int32), np.arange(8, dtype=np.int32))
    for seed in [*range(30), *(2**32 * k for k in range(1, 11))]:
        keys = derive_key(as_seed(seed), tf.range(20), seeds.SAMPLES)[:, :, np.newaxis, np.newaxis]
        words = counter.threefry2x32(keys, (directions[np.newaxis], blocks[np.newaxis]))
        rows.append(np.stack([word.numpy().ravel() for word in words], axis=1))
    pairs = np.concatenate(rows).view(np.uint32).astype(np.uint64)
    assert len(np.unique(pairs[:, 0] << np.uint64(32) | pairs[:, 1])) == len(pairs) == 320_000
