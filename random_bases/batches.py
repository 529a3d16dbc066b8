"""Batches for loops beside `keras.Model.fit`: endless ones to train on, counted ones to take means over."""

from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from random_bases import arguments


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same data, without tf.data's search for parallelism.

    The search sleeps for longer and longer and is waited for at the end: short runs end seconds late.
    """
    options = tf.data.Options()
    if hasattr(options, "autotune"):
        options.autotune.enabled = False
    else:  # TensorFlow 2.6
        options.experimental_optimization.autotune = False
    return dataset.with_options(options)


def counted(name: str, batches: Iterable) -> Iterator[Tuple[Any, int]]:
    """(batch, its examples' count) of all batches, for means over examples.

    Args:
      name: of the argument that they are.
      batches: tensors or nests of them, whose first dimension is the examples; a `tf.data.Dataset` is not
        autotuned.

    Raises:
      ValueError: at the end, if there was no example.
    """
    examples = 0
    for batch in without_autotuning(batches) if isinstance(batches, tf.data.Dataset) else batches:
        count = int(tf.shape(tf.nest.flatten(batch)[0])[0])
        examples += count
        yield batch, count
    if not examples:
        raise ValueError(f"{name} has no examples; at least one is needed.")


class Batches(NamedTuple):
    """An endless stream of batches.

    Attributes:
      dataset_from: (start, count=1, index=0, group=None, each=1) -> dataset of (x,), (x, y) or (x, y,
        sample_weight): from batch `start` on, dealt out to `count`, `each` at a time, those of this index;
        `group`: so many in one tensor [group, batch, ...], which takes far less time than to get each by
        itself.
      per_epoch: the number of batches in an epoch; None: unknown.
    """

    dataset_from: Callable[..., tf.data.Dataset]
    per_epoch: Optional[int]


def stream(x, y, sample_weight, batch_size: Optional[int], shuffle: bool, seed: int) -> Batches:
    """The batches of data in any form. A dataset begins where it begins, arrays at any batch.

    Args:
      x: a `tf.data.Dataset` of batches, which is repeated; or arrays of N examples: one, or a list, tuple or
        dict of them. Lists of numbers are arrays. As in Keras, batches of a list of arrays are tuples.
      y, sample_weight: arrays, or None.
      batch_size: of arrays; None: 32. An incomplete last batch of an epoch is dropped.
      shuffle: whether each epoch shows arrays in an order of its own, a function of (seed, epoch).
      seed: an int in [0, 2**64).

    Raises:
      TypeError: for a `batch_size` that is no int.
      ValueError: for what is no array, arrays of different lengths, too short for a batch, or y beside a
        dataset.
    """
    if isinstance(x, tf.data.Dataset):
        if y is not None or sample_weight is not None or batch_size is not None:
            raise ValueError("x is a dataset: y, sample_weight and batch_size must be None; it holds them.")
        number = int(tf.data.experimental.cardinality(x))
        if number == 0:
            raise ValueError("x is an empty dataset.")
        dataset = x.map(_as_tuple).repeat()

        def dataset_of(start, count=1, index=0, group=None, each=1):
            return without_autotuning(_grouped(_dealt(dataset, count, index, each), group))

        return Batches(dataset_of, number if number > 0 else None)
    if sample_weight is not None and y is None:
        raise ValueError("sample_weight is given without y.")
    with tf.device("CPU:0"):  # where tf.data runs, even if there is a GPU
        named = (("x", x), ("y", y), ("sample_weight", sample_weight))
        arrays = tuple(_tensors(name, part) for name, part in named if part is not None)
    lengths = {tensor.shape[0] for tensor in tf.nest.flatten(arrays)}
    batch_size = 32 if batch_size is None else arguments.integer("batch_size", batch_size, 1)
    if len(lengths) != 1 or min(lengths) < batch_size:
        raise ValueError(
            f"x, y and sample_weight have lengths {sorted(lengths)}; allowed: one length, of at least "
            f"batch_size={batch_size}."
        )
    (number,) = lengths
    per_epoch = number // batch_size
    signed = int(np.array(seed, np.uint64).view(np.int64))

    def orders(epoch):
        order = tf.range(number)
        if shuffle:
            pair = tf.stack([tf.constant(signed, tf.int64), epoch])
            keys = tf.random.stateless_uniform([number], pair, None, None, tf.int32)
            order = tf.argsort(keys, stable=True)
        order = tf.reshape(order[: per_epoch * batch_size], [per_epoch, batch_size])
        return tf.data.Dataset.from_tensor_slices(order)

    def dataset_from(start, count=1, index=0, group=None, each=1):
        first_epoch, skipped = divmod(start, per_epoch)
        dataset = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(orders).skip(skipped)
        dataset = _grouped(_dealt(dataset, count, index, each), group)  # before the arrays are read
        dataset = dataset.map(lambda rows: tf.nest.map_structure(lambda t: tf.gather(t, rows), arrays))
        return without_autotuning(dataset.prefetch(2 if group is None else 1))

    return Batches(dataset_from, per_epoch)


def _dealt(dataset: tf.data.Dataset, count: int, index: int, each: int) -> tf.data.Dataset:
    """Of each count * each elements the `each` from index * each on."""
    if each == 1:
        return dataset.shard(count, index)
    mine = dataset.enumerate().filter(lambda i, _: i // each % count == index)
    return mine.map(lambda _, element: element)


def _grouped(dataset: tf.data.Dataset, group: Optional[int]) -> tf.data.Dataset:
    return dataset if group is None else dataset.batch(group, drop_remainder=True)


def _tensors(name: str, arrays: Any) -> Any:
    """Arrays as tensors. Lists of them become tuples: tf.data would stack a list."""
    if isinstance(arrays, (dict, list, tuple)) and not arrays:
        raise ValueError(f"{name}={arrays!r} is empty.")
    if isinstance(arrays, dict):
        return {key: _tensors(f"{name}[{key!r}]", each) for key, each in arrays.items()}
    if isinstance(arrays, (list, tuple)) and not _is_of_scalars(arrays):
        return tuple(_tensors(f"{name}[{i}]", each) for i, each in enumerate(arrays))
    try:
        tensor = tf.convert_to_tensor(arrays)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is no array: {error}") from error
    if tensor.shape.rank == 0:
        raise ValueError(f"{name}={arrays!r} is a scalar; allowed: arrays of examples.")
    return tensor


def _is_of_scalars(values: Any) -> bool:
    """Whether lists are one array, written out, as their first number tells."""
    while isinstance(values, (list, tuple)) and len(values):
        values = values[0]
    return np.isscalar(values)


def _as_tuple(*batch) -> Tuple[Any, ...]:
    # A dataset of single tensors gives (x,), as does one of dicts.
    return batch
