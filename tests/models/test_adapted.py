"""What layers learned by `adapt` reaches every model that is a copy, or is filled from a file."""

import numpy as np
import pytest

import random_bases as rb
from random_bases.averaging.snapshots import TrajectoryWriter
from random_bases.keras_api import GENERATION, keras
from tests import adapted


def outputs(model):
    return np.asarray(model(adapted.inputs()))


def moved(model):
    """A `SubspaceModel` whose weights are not those that the model has."""
    sub = rb.SubspaceModel(model, dimensions=5, seed=0)
    sub.coordinates.assign([3.0, -2.0, 1.0, 2.0, -1.0])
    return sub


def recorded(model, directory):
    """A trajectory of the model's weights, moved a little."""
    writer = TrajectoryWriter(directory, model, "float32")
    for step in range(2):
        model.trainable_variables[-1].assign_add([0.5, -0.5])
        writer.append(step, epoch=0)
    model.trainable_variables[-1].assign_sub([0.25, -0.25])  # the average
    return rb.Trajectory(directory)


def test_the_inputs_matter_to_the_model():
    """So that a layer that had learned nothing would be noticed."""
    inputs = adapted.inputs()
    model = adapted.model()
    for i, each in enumerate(inputs):
        others = [*inputs[:i], inputs[i][::-1], *inputs[i + 1 :]]
        assert np.abs(np.asarray(model(others)) - outputs(model)).max() > 1e-2, each


def test_materialized_models_know_what_was_learned():
    sub = moved(adapted.model())
    np.testing.assert_allclose(outputs(sub.materialize()), outputs(sub), rtol=1e-5, atol=1e-5)
    again = moved(sub.materialize()).materialize()  # a copy of a copy
    np.testing.assert_allclose(outputs(again), outputs(moved(sub.materialize())), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("knows", [False, True])
def test_a_compressed_file_has_what_was_learned(tmp_path, knows):
    sub = moved(adapted.model())
    path = str(tmp_path / "model.rb")
    sub.export_compressed(path)
    model = adapted.model(adapted=knows)
    if knows:  # a function that is traced must not keep what was learned before
        for layer in model.layers:
            if isinstance(layer, adapted.PREPROCESSING.Normalization):
                layer.adapt(np.ones([2, 3], np.float32))
        before = model.predict(adapted.dataset(), verbose=0)
        assert np.abs(before - outputs(sub)).max() > 0.1
    loaded = rb.load_compressed(path, model)
    assert loaded is model
    np.testing.assert_allclose(outputs(loaded), outputs(sub), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        loaded.predict(adapted.dataset(), verbose=0), outputs(sub), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("knows", [False, True])
def test_averages_and_what_trains_them_know_what_was_learned(tmp_path, knows):
    model = adapted.model()
    trajectory = recorded(model, tmp_path)
    expected = outputs(model)
    other = adapted.model(adapted=knows)
    np.testing.assert_allclose(outputs(rb.averaging.average(other, trajectory)), expected, rtol=1e-5)
    trained = rb.TrainableWeightAveraging(other, trajectory)
    np.testing.assert_allclose(outputs(trained), expected, rtol=1e-5)
    np.testing.assert_allclose(outputs(trained.materialize()), expected, rtol=1e-5)


def test_the_recorder_records_such_models(tmp_path):
    model = adapted.model()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(adapted.dataset(), epochs=2, verbose=0, callbacks=[rb.TrajectoryRecorder(tmp_path)])
    assert len(rb.Trajectory(tmp_path)) == 2
    averaged = rb.averaging.average(adapted.model(adapted=False), rb.Trajectory(tmp_path)[1:])
    np.testing.assert_allclose(outputs(averaged), outputs(model), rtol=1e-5)


# tf-keras's files of any model lack Discretization's boundaries, Keras 2.6 cannot write one of Normalization.
@pytest.mark.skipif(GENERATION != "keras3", reason="Keras itself loses what was learned")
def test_saved_subspace_models_know_what_was_learned(tmp_path):
    sub = moved(adapted.model())
    sub.compile(keras.optimizers.SGD(0.1), "mse")
    sub.fit(adapted.dataset(), verbose=0)
    path = str(tmp_path / "model.keras")
    sub.save(path)
    np.testing.assert_allclose(outputs(keras.models.load_model(path)), outputs(sub), rtol=1e-5)
