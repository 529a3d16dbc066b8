import math

import numpy as np
import pytest
import tensorflow as tf

from random_bases import RandomBasesDescent, Subspace
from random_bases.analysis import gradient_correlation
from random_bases.analysis.gradient_correlation import GradientCorrelation, correlation, expected
from random_bases.bases import OrthogonalBasis
from random_bases.keras_api import compile_model, keras
from tests import networks

SHAPES = [(8, 5), (5,), (5, 4), (4,)]
LAYERS = ["a", "a", "b", "b"]
SIZE = 69


def gradient(seed=0):
    rng = np.random.RandomState(seed)
    # Layers of unlike lengths: the second is most of it.
    return [tf.constant(s * rng.normal(size=n), tf.float32) for s, n in zip((0.3, 1, 1, 2), SHAPES)]


def flat(tensors):
    return np.concatenate([tensor.numpy().ravel() for tensor in tensors]).astype(np.float64)


def test_cosines_are_those_of_numpy():
    g, subspace = gradient(), Subspace(SHAPES, 12)
    _, sketched = subspace.sketch(g, 3, 4)
    found = correlation(g, subspace, 3, 4, LAYERS)

    def cosine(part):
        a, b = flat(g[part]), flat(sketched[part])
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert found.network == pytest.approx(cosine(slice(None)), rel=1e-5)
    assert found.layers == pytest.approx({"a": cosine(slice(2)), "b": cosine(slice(2, 4))}, rel=1e-5)


BASES = {
    "normal": "normal",
    "rademacher": "rademacher",
    "uniform-2020": "uniform-2020",  # of variance 1 / 3
    "hadamard": "hadamard",
    "orthogonal": OrthogonalBasis(SIZE, 12),
    "blocks of 5": OrthogonalBasis(SIZE, 12, block=5),
}


# Compiling is most of the time, and compartments have the bases' formulas: one basis has them here.
@pytest.mark.parametrize(
    ("name", "compartments"), [*((name, "network") for name in sorted(BASES)), ("normal", [30, 39])], ids=str
)
def test_expected_parts_are_the_means_of_many_draws(name, compartments):
    g, subspace = gradient(), Subspace(SHAPES, 12, BASES[name], compartments)
    draws = 2000

    @tf.function(jit_compile=True)
    def many(seed):
        def one(draw):
            sketched = subspace.sketch(g, seed, draw)[1]
            return tf.concat([tf.reshape(each, [-1]) for each in sketched], 0)

        return tf.map_fn(one, tf.range(draws), fn_output_signature=tf.float32)

    samples = many(tf.constant([5, 0])).numpy().astype(np.float64)
    exact = flat(g)
    for taken, theory in zip(
        (samples * exact, samples**2), zip(*gradient_correlation.expected_parts(g, subspace))
    ):
        theory = np.concatenate([each.ravel() for each in theory])
        error = taken.std(0) / np.sqrt(draws)
        # 69 elements each. What the formulas leave out for a kurtosis is of the order of g_e^2 d / n^2.
        slack = 2 * exact**2 * 12 / 30**2 if name == "rademacher" else 1e-9
        if name != "hadamard":  # its directions have elements of one size: exact only summed up
            assert (np.abs(taken.mean(0) - theory) < 5 * error + slack).all()
        assert abs((taken.sum(1)).mean() - theory.sum()) < 5 * taken.sum(1).std() / np.sqrt(draws) + (
            slack if np.isscalar(slack) else slack.sum()
        )


@pytest.mark.parametrize("d", [10, 1000])
def test_theory_lines(d):
    """Hadamard directions are measured in test_approximation.py."""
    g = [tf.constant(np.random.RandomState(0).normal(size=1000), tf.float32)]
    line = gradient_correlation.expected_cosine(1000, d, orthonormal=True)
    assert expected(g, Subspace([(1000,)], d, "hadamard")).network == pytest.approx(line, rel=1e-6)
    line = gradient_correlation.expected_cosine(1000, d, orthonormal=False)
    subspace = Subspace([(1000,)], d)
    assert expected(g, subspace).network == pytest.approx(line, rel=2e-3)
    found = np.array([correlation(g, subspace, 1, draw).network for draw in range(20)])
    assert abs(found.mean() - line) < 5 * found.std(ddof=1) / math.sqrt(20) + 0.01 * line


def test_layers_of_a_network_have_the_stated_formula():
    g, d = gradient(), 12
    found = expected(g, Subspace(SHAPES, d), LAYERS)
    squares = np.array([np.sum(flat([each]) ** 2) for each in g])
    for layer, members, size in (("a", [0, 1], 45), ("b", [2, 3], 24)):
        share = squares[members].sum() / squares.sum()
        assert found.layers[layer] == pytest.approx(math.sqrt(d / (d + 1 + size / share)), rel=1e-6)


def test_a_network_that_is_one_layer_has_that_layers_cosine():
    g, subspace = gradient(), Subspace(SHAPES, 12, "hadamard")
    for found in (correlation(g, subspace, 0, 0, ["all"] * 4), expected(g, subspace, ["all"] * 4)):
        assert found.layers == pytest.approx({"all": found.network})


def test_layers_as_compartments_are_subspaces_of_their_own():
    g = gradient()
    paths = ["a/kernel", "a/bias", "b/kernel", "b/bias"]
    together = Subspace(SHAPES, 12, "hadamard", "layer", [9, 3], paths)
    alone = expected(g[:2], Subspace(SHAPES[:2], 9, "hadamard"))
    assert expected(g, together, LAYERS).layers["a"] == pytest.approx(alone.network, rel=1e-6)
    assert alone.network == pytest.approx(math.sqrt(9 / 45), rel=1e-6)


def test_callback_measures_the_optimizers_own_next_directions():
    model, x = networks.build("sequential")
    y = networks.targets()
    optimizer = RandomBasesDescent(keras.optimizers.SGD(0.1), dimensions=7, seed=5)
    compile_model(model, jit_compile=False, optimizer=optimizer, loss="mse")
    data = (x, y)
    history = model.fit(
        x, y, batch_size=2, epochs=2, verbose=0, callbacks=[GradientCorrelation(data)]
    ).history
    measured, theory = gradient_correlation.measure(model, data, 7, seed=5, draw=6)  # 3 updates an epoch
    assert history["gradient_correlation"][-1] == pytest.approx(measured.network, rel=1e-4)
    assert history["gradient_correlation_expected"][-1] == pytest.approx(theory.network, rel=1e-4)
    for layer, cosine in measured.layers.items():
        assert history[f"gradient_correlation/{layer}"][-1] == pytest.approx(cosine, rel=1e-3, abs=1e-5)


def test_callback_with_directions_of_its_own_on_sgd(tmp_path):
    model, x = networks.build("sequential")
    data = (x, networks.targets())
    compile_model(model, jit_compile=False, optimizer="sgd", loss="mse")
    own = GradientCorrelation(data, dimensions=4, basis="hadamard", seed=3, layers=False)
    board = keras.callbacks.TensorBoard(str(tmp_path), profile_batch=0)
    history = model.fit(*data, epochs=2, verbose=0, callbacks=[own, board]).history
    measured, _ = gradient_correlation.measure(model, data, 4, basis="hadamard", seed=3, draw=1)
    assert history["gradient_correlation"][-1] == pytest.approx(measured.network, rel=1e-4)
    assert not [name for name in history if "/" in name]
    written = b"".join(path.read_bytes() for path in tmp_path.glob("**/events*"))
    assert b"gradient_correlation_expected" in written


def test_callback_refuses_another_optimizer():
    model, x = networks.build("sequential")
    data = (x, networks.targets())
    compile_model(model, jit_compile=False, optimizer="sgd", loss="mse")
    with pytest.raises(ValueError, match="dimensions=None.*SGD"):
        model.fit(*data, verbose=0, callbacks=[GradientCorrelation(data)])


def test_what_is_refused():
    with pytest.raises(ValueError, match="dimensions=.*11.* must be an int from 1 to 10"):
        gradient_correlation.expected_cosine(np.int64(10), np.int32(11), True)
    with pytest.raises(TypeError, match="dimensions='a' must be an int"):
        GradientCorrelation(None, dimensions="a")
    with pytest.raises(ValueError, match="gradient is zero"):
        correlation([tf.zeros(s) for s in SHAPES], Subspace(SHAPES, 3), 0)
    with pytest.raises(ValueError, match="gradient has shapes"):
        expected(gradient()[:2], Subspace(SHAPES, 3))
    with pytest.raises(ValueError, match="bernoulli-2020.*has no theory"):
        expected(gradient(), Subspace(SHAPES, 3, "bernoulli-2020"))
