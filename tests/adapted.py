"""A model whose layers have learned what they do from data, by `adapt`, and inputs for it."""

import numpy as np
import tensorflow as tf

from random_bases.keras_api import GENERATION, keras, set_random_seed

L = keras.layers
PREPROCESSING = L.experimental.preprocessing if GENERATION == "keras2.6" else L
BATCH = 6
TEXTS = ["the cat sat", "the dog", "a cat", "the mat sat", "a dog sat", "the the a"]


def inputs():
    """Numbers far from zero mean and unit variance, integers, texts."""
    random = np.random.RandomState(0)
    return [
        tf.constant(random.normal(7.0, 3.0, (BATCH, 3)), tf.float32),
        tf.constant([[30, 10], [10, 20], [20, 20], [10, 10], [30, 20], [40, 10]], tf.int64),
        tf.constant(TEXTS)[:, tf.newaxis],
    ]


def targets():
    return np.random.RandomState(1).normal(size=(BATCH, 2)).astype(np.float32)


def model(adapted=True, seed=0):
    """The same network for the same seed; with `adapted=False` its layers know nothing of the inputs yet."""
    set_random_seed(seed)
    numbers, integers, texts = inputs()
    normalize = PREPROCESSING.Normalization()
    # One that is in a layer of another, and inverse: as for outputs.
    inner = keras.Sequential([keras.Input((3,)), PREPROCESSING.Normalization(axis=None)])
    bins = PREPROCESSING.Discretization(num_bins=3)
    lookup = PREPROCESSING.IntegerLookup(num_oov_indices=2)
    words = PREPROCESSING.TextVectorization(output_sequence_length=3)
    # As many tokens as it finds: Keras 2.6 cannot multiply by weights of fewer.
    weighted = PREPROCESSING.TextVectorization(max_tokens=6, pad_to_max_tokens=True, output_mode="tf_idf")
    x, i, t = keras.Input((3,)), keras.Input((2,), dtype="int64"), keras.Input((1,), dtype="string")
    if adapted:
        normalize.adapt(numbers)
        inner.layers[-1].adapt(numbers)
        bins.adapt(numbers)
        lookup.adapt(integers)
        for layer in (words, weighted):
            layer.adapt(texts)
    elif GENERATION == "keras3":  # where it wants its boundaries for the shape of what it returns
        bins.bin_boundaries = [0.0, 1.0]
    parts = [normalize(x), inner(x), L.Flatten()(L.Embedding(4, 2)(bins(x)))]
    parts.append(L.Flatten()(L.Embedding(7, 2)(lookup(i))))
    parts.append(L.Flatten()(L.Embedding(8, 2)(words(t))))
    parts.append(L.Flatten()(weighted(t)))
    return keras.Model([x, i, t], L.Dense(2)(L.Concatenate()(parts)))


def dataset():
    """Inputs and targets in two batches."""
    return tf.data.Dataset.from_tensor_slices((tuple(inputs()), targets())).batch(BATCH // 2)
