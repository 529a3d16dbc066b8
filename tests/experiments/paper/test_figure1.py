import numpy as np
import pytest

from experiments.paper import figure1


@pytest.mark.slow
def test_the_arrows_are_steepest_descent_and_its_part_in_one_direction():
    found = figure1.measured()
    gradient, descent, part = (np.array(found[k]) for k in ("gradient", "descent", "descent_in_basis"))
    np.testing.assert_allclose(descent / np.linalg.norm(descent), -gradient / np.linalg.norm(gradient))
    direction = part / np.linalg.norm(part)
    np.testing.assert_allclose(part, direction * (direction @ descent), rtol=1e-5)
    # The measured gradient is that of the surface around the point: a quadratic through its neighbours.
    axis, loss = np.array(found["axis"]), np.array(found["loss"])
    i, j = (int(np.argmin(abs(axis - place))) for place in found["point"])
    step = axis[1] - axis[0]
    nearby = [(loss[i + 1, j] - loss[i - 1, j]) / 2 / step, (loss[i, j + 1] - loss[i, j - 1]) / 2 / step]
    np.testing.assert_allclose(gradient, nearby, rtol=0.1)
    assert loss.min() < 0.5 * found["loss_at_point"]
