import numpy as np
import pytest

from random_bases.analysis import directions, landscape
from tests import networks
from tests.analysis import quadratic


def test_line_and_plane_of_a_quadratic():
    model = quadratic.model()
    w = quadratic.weight(model)
    a, b = (np.random.RandomState(i).normal(size=(6, 1)) for i in range(2))
    alphas, betas = [-1.0, 0.0, 0.5], [0.0, 2.0]

    def loss(alpha, beta=0.0):
        at = w + alpha * a[:, 0] + beta * b[:, 0]
        return at @ quadratic.HESSIAN @ at / 2

    line = landscape.line(model, [a], alphas, quadratic.DATA, quadratic.loss)
    np.testing.assert_allclose(line, [loss(alpha) for alpha in alphas], rtol=1e-4)
    plane = landscape.plane(model, [[a], [b]], alphas, betas, quadratic.DATA, quadratic.loss)
    np.testing.assert_allclose(plane, [[loss(x, y) for y in betas] for x in alphas], rtol=1e-4)


@pytest.mark.parametrize("name", ["normalised", "recurrent", "subclassed"])
def test_zero_is_the_loss_and_no_variable_is_written(name):
    model, x = networks.build(name)
    y = networks.targets()
    before = model.get_weights()
    model.compile(optimizer="sgd", loss="mse")
    expected = model.evaluate(x, y, batch_size=networks.BATCH, verbose=0)
    # `subclassed` counts its calls in a weight.
    trainable = [v.numpy() for v in model.trainable_variables]
    (direction,) = directions.draw(model, 1, filter_normalize=True)
    line = landscape.line(model, direction, [0.0, 1.0], (x, y))
    np.testing.assert_allclose(line[0], expected, rtol=1e-5)
    assert abs(line[1] - line[0]) > 1e-4
    for old, new in zip(trainable, model.trainable_variables):
        np.testing.assert_array_equal(old, new.numpy())
    if name != "subclassed":
        for old, new in zip(before, model.get_weights()):
            np.testing.assert_array_equal(old, new)


def test_weights_are_as_they_were_after_an_exception():
    model = quadratic.model()
    before = quadratic.weight(model)

    def fails(y, predictions):
        raise RuntimeError("a loss of the user's")

    with pytest.raises(RuntimeError, match="user's"):
        landscape.line(model, [np.ones([6, 1])], [1.0], quadratic.DATA, fails)
    np.testing.assert_array_equal(quadratic.weight(model), before)
    np.testing.assert_array_equal(model.predict(quadratic.DATA[0], verbose=0)[:, 0], before)


def test_what_is_refused():
    model = quadratic.model()
    with pytest.raises(ValueError, match="directions has 1 entries; allowed: 2"):
        landscape.plane(model, [[np.ones([6, 1])]], [0.0], [0.0], quadratic.DATA, quadratic.loss)
    with pytest.raises(ValueError, match=r"alphas=\[\] must have at least one entry"):
        landscape.line(model, [np.ones([6, 1])], [], quadratic.DATA, quadratic.loss)
    for wrong in ("a", None, [True], ["a"]):
        with pytest.raises(TypeError, match="alphas.*=.* must be a"):
            landscape.line(model, [np.ones([6, 1])], wrong, quadratic.DATA, quadratic.loss)
    with pytest.raises(ValueError, match=r"betas\[0\]=nan"):
        landscape.plane(model, [[np.ones([6, 1])]] * 2, [0.0], [np.nan], quadratic.DATA, quadratic.loss)
    with pytest.raises(ValueError, match="direction has shapes"):
        landscape.line(model, [np.ones([5, 1])], [0.0], quadratic.DATA, quadratic.loss)
