import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from random_bases.sampling import DISTRIBUTIONS, as_seed, counter, derive_key, get_distribution
from random_bases.sampling.distributions import bernoulli
from random_bases.sampling.seeds import SAMPLES
from tests.dense_reference import (
    MEAN,
    PER_BLOCK,
    assert_moments,
    block_samples,
    box_muller,
    central_moment,
)

ROWS, ELEMENTS = 1000, 10240  # 10.24 million samples
EXTREMES = np.array(
    [
        *(0, 1, 2, 0x7F, 0x80, 0x81, 0xFFFF, 0x10000),
        *(0x1FFFFFFF, 0x20000000, 0x20000001, 0x3FFFFFFF, 0x40000000, 0x5FFFFFFF, 0x60000000),
        *(0x7FFFFFBF, 0x7FFFFFC0, 0x7FFFFFC1, 0x7FFFFF7F, 0x7FFFFF80, 0x7FFFFFFE, 0x7FFFFFFF),
        *(0x80000000, 0x80000001, 0xA0000000, 0xBFFFFFFF, 0xC0000000, 0xFFFFFF80, 0xFFFFFFFF),
    ],
    np.uint32,
)
EVERY_PAIR = np.array(list(itertools.product(EXTREMES, EXTREMES)), np.uint32).T


def from_words(distribution, x0, x1):
    """Samples of uint32 words [blocks], float32 [blocks, L], eagerly."""
    planes = distribution.from_words(*(tf.constant(x.view(np.int32)[np.newaxis]) for x in (x0, x1)))
    return tf.concat(planes, axis=1)[0].numpy().T


def random_words(count, seed):
    return np.random.default_rng(seed).integers(0, 2**32, [2, count], dtype=np.uint32)


class Samples:
    """`ROWS` directions of `ELEMENTS` elements of a distribution, float32, in element order."""

    def __init__(self, name, **options):
        self.options = options
        distribution = get_distribution(name, **options)
        blocks = ELEMENTS // distribution.block

        @tf.function(jit_compile=True)
        def draw_all(seed, draw):
            key = derive_key(seed, draw, SAMPLES)
            tiles = counter.tile(distribution, key, tf.constant(0), ROWS, tf.constant(0), blocks)
            ordered = tf.transpose(tf.concat(tiles, axis=1), [0, 2, 1])
            return tf.reshape(ordered, [ROWS, ELEMENTS])

        self.of = lambda seed, draw: draw_all(as_seed(seed), tf.constant(draw)).numpy()
        self.x = self.of(2020, 0)


STANDARD = {"normal": {}, "uniform": {}, "rademacher": {}, "bernoulli": {"p": 0.1}}
each_standard = pytest.mark.parametrize("name", sorted(STANDARD))


@pytest.fixture(scope="module")
def samples():
    """The `Samples` of a name of `STANDARD`, drawn once for this module."""
    return functools.lru_cache(maxsize=None)(lambda name: Samples(name, **STANDARD[name]))


# --- Over more than 10**7 samples -----------------------------------------------------------------


@each_standard
def test_mean_variance_skewness_and_kurtosis(samples, name):
    standard = samples(name)
    assert_moments(standard.x, name, **standard.options)


@pytest.mark.parametrize(
    ("name", "mean", "variance"), [("uniform-2020", 0.0, 1 / 3), ("bernoulli-2020", -0.5, 1.0)]
)
def test_the_2020_variants_have_the_moments_of_the_2020_code(name, mean, variance):
    assert (MEAN[name], central_moment(name, 2)) == pytest.approx((mean, variance))
    assert_moments(Samples(name).x, name)


def test_the_stated_mean_and_variance_are_theorys():
    for name, distribution in DISTRIBUTIONS.items():
        assert distribution.name == name
        found = (distribution.mean, distribution.variance)
        assert found == pytest.approx((MEAN[name], central_moment(name, 2)))


@pytest.mark.parametrize(
    ("name", "law"),
    [("normal", stats.norm()), ("uniform", stats.uniform(-np.sqrt(3), 2 * np.sqrt(3)))],
    ids=["normal", "uniform"],
)
def test_kolmogorov_smirnov(samples, name, law):
    # As unlikely as five standard errors.
    assert stats.kstest(samples(name).x.ravel(), law.cdf).pvalue > 5.7e-7


def test_normals_have_the_normal_distributions_tails(samples):
    x = samples("normal").x
    for threshold in (3.0, 4.0, 4.5):
        expected = x.size * stats.norm.sf(threshold)
        for side in (x > threshold, x < -threshold):
            assert abs(np.count_nonzero(side) - expected) < 5 * np.sqrt(expected)
    assert np.abs(x).max() < 6.6


def test_the_two_normals_of_a_block_are_independent(samples):
    x = samples("normal").x
    first, second = x[:, 0::2].ravel(), x[:, 1::2].ravel()
    # All of mean 0 and variance 1.
    squares = [(z * z - 1) / np.float32(np.sqrt(2)) for z in (first, second)]
    for product in (first * second, squares[0] * squares[1], first * squares[1], squares[0] * second):
        assert abs(product.mean(dtype=np.float64)) < 5 / np.sqrt(product.size)
    # The pair's direction is uniform on the circle.
    counts, _ = np.histogram(np.arctan2(first[: 10**6], second[: 10**6]), 64, (-np.pi, np.pi))
    assert np.abs(counts - 10**6 / 64).max() < 5 * np.sqrt(10**6 / 64)


@each_standard
def test_directions_elements_draws_and_seeds_are_uncorrelated(samples, name):
    standard = samples(name)
    x = standard.x
    next_draw, next_seed = standard.of(2020, 1), standard.of(2021, 0)
    pairs = {
        "directions i, i + 1": (x[:-1], x[1:]),
        "directions i, i + 2": (x[:-2], x[2:]),
        "draws": (x, next_draw),
        "draws, directions i, i + 1": (x[1:], next_draw[:-1]),
        "seeds": (x, next_seed),
        "seeds, directions i, i + 1": (x[1:], next_seed[:-1]),
        "draw of one seed, seed of one draw": (next_draw, next_seed),
        "samples of one block": (x[:, 0::2], x[:, 1::2]),
    }
    # 32 and 64: the same bit of the next word or block of signs.
    for lag in (1, 2, 32, 64):
        pairs[f"elements j, j + {lag}"] = (x[:, :-lag], x[:, lag:])
    for label, (a, b) in pairs.items():
        assert abs(np.mean(a * b, dtype=np.float64)) < 5 / np.sqrt(a.size), label


@each_standard
def test_every_element_of_a_direction_has_mean_0_and_variance_1(samples, name):
    """Over directions, at each of the first elements: each bit of the words, each half of a block."""
    standard = samples(name)
    fourth = central_moment(name, 4, **standard.options)
    columns = standard.x[:, :128].astype(np.float64)
    assert np.abs(columns.mean(axis=0)).max() < 5 / np.sqrt(ROWS)
    assert np.abs((columns**2).mean(axis=0) - 1).max() <= 5 * np.sqrt((fourth - 1) / ROWS) + 1e-5


@pytest.mark.parametrize("name", ["rademacher", "bernoulli"])
def test_two_values_and_no_other(samples, name):
    p = STANDARD[name].get("p", 0.5)
    high, low = np.float32(np.sqrt((1 - p) / p)), np.float32(-np.sqrt(p / (1 - p)))
    assert np.unique(samples(name).x).tolist() == [low, high]


def test_uniforms_reach_both_ends_of_their_range(samples):
    x = samples("uniform").x
    # The probability that none of 10**7 comes as close to an end is e**-29.
    assert np.sqrt(3) * (1 - 1e-5) < x.max() <= np.float32(np.sqrt(3))
    assert np.sqrt(3) * (1 - 1e-5) < -x.min() <= np.float32(np.sqrt(3))


# --- Word by word ---------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [EVERY_PAIR, random_words(10**6, 1)], ids=["extreme", "random"])
def test_normals_are_box_mullers_of_the_words_and_finite(words):
    found = from_words(get_distribution("normal"), *words)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 6.6
    np.testing.assert_allclose(found, np.stack(box_muller(*words), axis=1), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", sorted(set(PER_BLOCK) - {"normal"}))
@pytest.mark.parametrize("words", [EVERY_PAIR, random_words(10**4, 2)], ids=["extreme", "random"])
def test_other_samples_are_their_definitions_of_the_words(name, words):
    found = from_words(get_distribution(name), *words)
    expected = block_samples(name, *words)
    # Uniforms are rounded to float32 twice, sqrt(3) of the sparse ones once; the others are exact.
    tolerance = 2e-7 if "uniform" in name or name == "sparse" else 0
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0)


def test_uniforms_and_signs_stay_in_their_range_for_extreme_words():
    assert np.abs(from_words(get_distribution("uniform"), *EVERY_PAIR)).max() <= np.float32(np.sqrt(3))
    assert np.abs(from_words(get_distribution("uniform-2020"), *EVERY_PAIR)).max() == 1.0
    assert set(from_words(get_distribution("rademacher"), *EVERY_PAIR).ravel()) == {-1.0, 1.0}
    assert set(from_words(get_distribution("bernoulli-2020"), *EVERY_PAIR).ravel()) == {-1.5, 0.5}


def test_eager_graph_and_compiled_samples_agree():
    """Within 1e-6 for normals, for the others bit for bit."""
    words = np.concatenate([EVERY_PAIR, random_words(2 * 10**5, 3)], axis=1)
    words = [tf.constant(word.view(np.int32)[np.newaxis]) for word in words]
    # More distributions than the names: the probability is part of the program.
    every = {**DISTRIBUTIONS, "bernoulli(0.01)": bernoulli(0.01)}

    def run(x0, x1):
        return {name: tf.concat(d.from_words(x0, x1), axis=1) for name, d in every.items()}

    eager = run(*words)
    for compiled in (False, True):
        for name, found in tf.function(run, jit_compile=compiled)(*words).items():
            assert np.isfinite(found).all()
            if name == "normal":
                np.testing.assert_allclose(found, eager[name], rtol=0, atol=1e-6)
            else:
                np.testing.assert_array_equal(found, eager[name], name)


# --- Bernoulli ------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [2.0**-32, 2.0**-20, 1e-3, 0.1, 1 / 3, 0.5, 0.75, 1 - 2.0**-32])
def test_bernoulli_takes_its_positive_value_for_p_of_all_words(p):
    """The words below a threshold are the positive ones, and as many as p asks for."""
    positive = round(p * 2**32)
    edge = np.array([0, positive - 1, positive, 2**32 - 1], np.uint64) + np.uint64(2**31)
    words = (edge & np.uint64(2**32 - 1)).astype(np.uint32)  # in the order of int32
    found = from_words(bernoulli(p), words, words)
    high, low = np.float32(np.sqrt((1 - p) / p)), np.float32(-np.sqrt(p / (1 - p)))
    np.testing.assert_array_equal(found, np.array([[high, high, low, low]] * 2).T)


@pytest.mark.parametrize("p", [1e-3, 0.02, 0.25, 0.5, 0.9])
def test_bernoulli_has_mean_0_and_variance_1_at_any_p(p):
    samples = from_words(bernoulli(p), *random_words(5 * 10**5, 4))
    assert_moments(samples, "bernoulli", p)
    count = np.count_nonzero(samples > 0)
    assert abs(count - samples.size * p) < 5 * np.sqrt(samples.size * p * (1 - p))


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0, -0.1, 1.5, 2.0**-33, float("nan"), True, None, "0.5"])
def test_a_probability_outside_0_to_1_is_refused(p):
    with pytest.raises(ValueError if type(p) in (int, float) else TypeError, match="p="):
        get_distribution("bernoulli", p=p)


# --- Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gaussian", "", "Normal", None])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match="distribution=.*normal.*rademacher"):
        get_distribution(name)


@pytest.mark.parametrize(
    ("name", "options"), [("normal", {"p": 0.5}), ("rademacher", {"scale": 2}), ("bernoulli", {"q": 0.5})]
)
def test_an_option_that_a_distribution_does_not_have_is_refused(name, options):
    with pytest.raises(TypeError, match=next(iter(options))):
        get_distribution(name, **options)


def test_the_names_are_those_of_design():
    assert set(DISTRIBUTIONS) == set(PER_BLOCK)
