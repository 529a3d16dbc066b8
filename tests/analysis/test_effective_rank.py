"""Effective rank: by its definition, for matrices whose singular values are known."""

import numpy as np
import pytest

from random_bases.analysis.effective_rank import effective_rank, effective_ranks
from random_bases.callbacks import EffectiveRanks
from random_bases.keras_api import keras, path_of, set_random_seed


def with_singular_values(values, rows=7, columns=5):
    rng = np.random.default_rng(0)
    u = np.linalg.qr(rng.normal(size=[rows, rows]))[0][:, : len(values)]
    v = np.linalg.qr(rng.normal(size=[columns, columns]))[0][:, : len(values)]
    return (u * values) @ v.T


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], 1.0), ([3.0] * 4, 4.0), ([3.0, 1.0], np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))],
)
def test_it_is_the_exponential_of_the_entropy(values, expected, scale):
    assert effective_rank(scale * with_singular_values(values)) == pytest.approx(expected, rel=1e-6)


def test_kernels_of_convolutions_have_a_column_for_each_output():
    matrix = with_singular_values([2.0, 1.0, 1.0], rows=12)
    assert effective_rank(matrix.reshape(2, 2, 3, 5)) == pytest.approx(effective_rank(matrix))


def test_zeros_have_rank_0():
    assert effective_rank(np.zeros([3, 4])) == 0.0


@pytest.mark.parametrize("matrix", [np.ones(3), 1.0, np.ones([0, 3]), [[np.nan, 1.0]], [[np.inf, 1.0]]])
def test_what_is_no_matrix_is_refused(matrix):
    with pytest.raises(ValueError, match="matrix has"):
        effective_rank(matrix)


def test_the_callback_logs_each_kernel_of_the_chosen_epochs():
    set_random_seed(0)
    layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile("sgd", keras.losses.MeanSquaredError(), run_eagerly=True)
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(set(logs)))
    x, y = np.eye(6, dtype=np.float32), np.ones([6, 2], np.float32)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[EffectiveRanks(every=2), later]).history
    kernels = [path_of(layer.kernel) for layer in model.layers]
    assert list(effective_ranks(model)) == kernels
    names = {f"effective_rank/{path}" for path in kernels}
    assert [names <= each for each in seen] == [False, True, False, True]
    for path in kernels:
        logged = history[f"effective_rank/{path}"]
        assert len(logged) == 2 and logged[-1] == pytest.approx(effective_ranks(model)[path])
    with pytest.raises(ValueError, match="every=0 must be"):
        EffectiveRanks(every=0)
