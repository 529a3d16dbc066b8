import numpy as np
import pytest
import tensorflow as tf

from random_bases.analysis import directions
from random_bases.analysis.objective import inner
from tests import networks


def test_filters_get_the_lengths_of_the_weights_filters():
    model, _ = networks.build("normalised")
    (found,) = directions.draw(model, 1, seed=1, filter_normalize=True)
    (raw,) = directions.draw(model, 1, seed=1)
    kernels = 0
    for variable, drawn, direction in zip(model.trainable_variables, raw, found):
        weight, direction = variable.numpy(), direction.numpy()
        if weight.ndim == 1:
            assert not direction.any()
            continue
        kernels += 1
        for i in range(weight.shape[-1]):
            filter_, given = direction[..., i].ravel(), drawn.numpy()[..., i].ravel()
            np.testing.assert_allclose(np.linalg.norm(filter_), np.linalg.norm(weight[..., i]), rtol=1e-5)
            cosine = filter_ @ given / np.linalg.norm(filter_) / np.linalg.norm(given)
            np.testing.assert_allclose(cosine, 1.0, rtol=1e-5)
    assert kernels == 2


def test_a_filter_of_zeros_does_not_move():
    weights = [np.array([[0.0, 3.0], [0.0, 4.0]])]
    (found,) = directions.filter_normalized([np.ones([2, 2])], weights)
    np.testing.assert_allclose(found, [[0, 5 / np.sqrt(2)], [0, 5 / np.sqrt(2)]], rtol=1e-6)


def test_hadamard_directions_are_orthonormal():
    model, _ = networks.build("sequential")
    drawn = directions.draw(model, 4, seed=2, basis="hadamard")
    gram = [[inner(a, b) for b in drawn] for a in drawn]
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-5)
    again = directions.draw(model, 4, seed=2, basis="hadamard")
    tf.nest.map_structure(np.testing.assert_array_equal, drawn, again)


def test_a_count_may_be_numpys():
    model, _ = networks.build("sequential")
    assert len(directions.draw(model, np.int64(2), seed=np.int64(1))) == 2
    with pytest.raises(TypeError, match="count=True must be an int"):
        directions.draw(model, True)
    with pytest.raises(ValueError, match="count=0 must be an int from 1 to"):
        directions.draw(model, 0)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="direction has shapes"):
        directions.filter_normalized([np.ones([2, 2])], [np.ones([2, 3])])
