"""A brief training of one network, which leaves no files: what analyses and searches look at."""

from typing import Dict, List, Optional, Sequence

from experiments import datasets, networks, training
from random_bases import keras_api
from random_bases.batches import without_autotuning
from random_bases.keras_api import keras


def network(name: str, data: datasets.ImageDataset, seed: int) -> keras.Model:
    """A new network for `data`, of `experiments.networks`; what earlier ones left in the process goes."""
    keras.backend.clear_session()  # many networks in one process would pile up
    keras_api.set_random_seed(seed)
    return networks.get(name, data.input_shape, data.num_classes)


def train(
    model: keras.Model,
    optimizer,
    data: datasets.ImageDataset,
    batch_size: int,
    seed: int,
    epochs: int,
    together: bool = False,
    callbacks: Optional[Sequence[keras.callbacks.Callback]] = None,
    verbose: int = 0,
) -> Dict[str, List[float]]:
    """Trains `model` on batches without augmentation.

    Args:
      model: not compiled.
      optimizer: for `model.compile`.
      data: its training examples are shuffled anew for each epoch.
      batch_size: examples of a step.
      seed: of their order.
      epochs: passes over the examples.
      together: all passes as one epoch of Keras: one progress bar, and no time lost between them.
      callbacks, verbose: as of `keras.Model.fit`.

    Returns:
      The history: the mean "loss" of each of Keras's epochs, "accuracy", and what callbacks add.
    """
    steps = datasets.steps_per_epoch(data.train, batch_size)
    total = steps * epochs
    each = total if together else steps
    keras_api.compile_model(
        model,
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=training.steps_per_execution(each),
        jit_compile=False,  # the bases are compiled in any case, and little else here gains by it
    )
    batches = datasets.training_batches(data.train, batch_size, seed, num_steps=total, augment=False)
    return model.fit(
        without_autotuning(batches),
        steps_per_epoch=each,
        epochs=total // each,
        verbose=verbose,
        shuffle=False,  # the dataset is shuffled
        callbacks=callbacks,
    ).history


def examples(data: datasets.ImageDataset, count: int):
    """The first `count` training examples, (images, labels)."""
    (pair,) = datasets.evaluation_batches(data.train, count).take(1)
    return pair
