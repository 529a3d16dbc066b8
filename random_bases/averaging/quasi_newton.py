"""P-BFGS: quasi-Newton training of the coordinates of a subspace (Li et al. 2021, arXiv:2103.11154).

In a few dozen coordinates the whole inverse Hessian's approximation is small. The paper updates it by its
own line search on batches of 1,024 examples; here SciPy's BFGS or L-BFGS minimises the loss of all
batches together, so it is exact, and costs a pass over the batches for each evaluation.
"""

from typing import Callable, Iterable, Union

import numpy as np
import tensorflow as tf

from random_bases import arguments
from random_bases.batches import counted
from random_bases.keras_api import keras, mean_loss
from random_bases.models import SubspaceModel

METHODS = ("BFGS", "L-BFGS-B")


def minimize(
    model: SubspaceModel,
    batches: Iterable,
    loss: Union[str, Callable],
    method: str = "BFGS",
    iterations: int = 20,
    training: bool = True,
):
    """Minimises the mean loss over all batches by BFGS or L-BFGS on the coordinates.

    Args:
      model: a `SubspaceModel` or `TrainableWeightAveraging`; its coordinates are set to the best found.
      batches: of (inputs, targets): the same each time it is gone through, e.g. a `tf.data.Dataset`
        without shuffling and augmentation. The mean is over examples.
      loss: a Keras loss or its name; a mean over a batch. The model's own losses are added.
      method: "BFGS" or "L-BFGS-B" of `scipy.optimize.minimize`.
      iterations: the most iterations; each takes one evaluation, a pass over the batches, or a few.
      training: whether the network runs in training mode: BatchNormalization with its batch's
        statistics. Dropout would make the loss random.

    Returns:
      SciPy's `OptimizeResult`: `fun`, the loss; `nit`, iterations; `nfev`, evaluations; `x`, coordinates.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value, or the loss is not finite at
        the start.
    """
    from scipy import optimize  # takes longer to import than all of random_bases

    if not isinstance(model, SubspaceModel):
        raise TypeError(f"model={model!r} must be a SubspaceModel.")
    arguments.one_of("method", method, METHODS)
    iterations = arguments.integer("iterations", iterations, 1)
    evaluate = _objective(model, batches, keras.losses.get(loss), training)
    initial = model.coordinates.numpy().astype(np.float64)
    if not np.isfinite(evaluate(initial)[0]):
        raise ValueError("The loss at the model's coordinates is not finite.")
    result = optimize.minimize(evaluate, initial, jac=True, method=method, options={"maxiter": iterations})
    model.coordinates.assign(result.x.astype(np.float32))
    return result


def _objective(model: SubspaceModel, batches: Iterable, loss: Callable, training: bool) -> Callable:
    """The function c -> (mean loss, its gradient), both float64."""

    @tf.function(autograph=False)
    def on_batch(inputs, targets):
        with tf.GradientTape() as tape:
            value = mean_loss(loss, targets, model(inputs, training=training))
            if model.losses:
                value += tf.add_n([tf.cast(each, tf.float32) for each in model.losses])
        return value, tape.gradient(value, model.trainable_variables)[0]

    def evaluate(c: np.ndarray):
        model.coordinates.assign(c.astype(np.float32))
        total, slope, examples = 0.0, np.zeros(len(c)), 0
        for (inputs, targets), count in counted("batches", batches):
            value, gradient = on_batch(inputs, targets)
            total += count * float(value)
            slope += count * gradient.numpy().astype(np.float64)
            examples += count
        return total / examples, slope / examples

    return evaluate
