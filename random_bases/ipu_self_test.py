"""What only an IPU can show, as a list of checks that pass or fail: `python -m random_bases.ipu_self_test`.

docs/ipu.md has the command lines. With the IPU's own generator, unless a check says otherwise; on the IPU
Model, which has none, the counter generator takes its place.
"""

import argparse
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from random_bases import bases, ipu, ipu_fit, strategies
from random_bases.keras_api import keras, set_random_seed
from random_bases.models import SubspaceModel
from random_bases.optimizers import RandomBasesDescent

# Elements and directions of the checks of samples, and how many directions are timed.
_SIZE, _DIMENSIONS, _TIMED = 2**14, 8, 2**12
_STEPS = 50


class Context(NamedTuple):
    """What a check runs with: the strategy, and the number of its replicas over all instances."""

    strategy: tf.distribute.Strategy
    replicas: int

    def run(self, function: Callable, *arguments):
        """function(*arguments), compiled for the IPU; what the first replica returns, as arrays."""
        program = tf.function(function, jit_compile=True, autograph=False)
        with self.strategy.scope():
            results = self.strategy.run(program, arguments)
        return tf.nest.map_structure(np.asarray, results)


class Failure(Exception):
    """A check's: what was expected and what was found."""


def main(arguments: Sequence[str]) -> int:
    """Runs the checks and prints a line for each; returns 0 if all pass, 1 if not, 2 without an IPU."""
    parser = argparse.ArgumentParser("python -m random_bases.ipu_self_test", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--replicas", type=int, default=1, help="IPUs of this machine to run on")
    where.add_argument("--pod", action="store_true", help="run on all that poprun gives")
    flags = parser.parse_args(arguments)
    try:
        if flags.pod:
            strategy = strategies.get("ipu_pod")
        else:
            strategy = strategies.get("ipu", replicas=flags.replicas)
    except (RuntimeError, ValueError) as error:
        print(error)
        return 2
    failed = run(strategy)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed: {'FAIL' if failed else 'PASS'}")
    return 1 if failed else 0


def run(strategy: tf.distribute.Strategy) -> int:
    """Runs the checks and returns how many failed."""
    context = Context(strategy, ipu.replicas(strategy))
    failed = 0
    for check in CHECKS:
        title = str(check.__doc__).splitlines()[0]
        try:
            print(f"pass  {title} {check(context)}", flush=True)
        except Exception as error:  # each check tells for itself; the others go on
            failed += 1
            print(f"FAIL  {title} {type(error).__name__}: {error}", flush=True)
    return failed


def _basis(name: str = "normal", generator: str = "native", dimensions: int = _DIMENSIONS):
    return bases.get(name, _SIZE, dimensions, generator=generator)


def _require(condition: bool, found: str) -> str:
    if not condition:
        raise Failure(found)
    return found


def _normals(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def replicas_are_numbered(context: Context) -> str:
    """Replicas are numbered from 0, and gather in that order."""
    found = context.run(lambda: ipu.all_gather(ipu.replication_index(), context.replicas))
    return _require(found.tolist() == list(range(context.replicas)), f"{found.tolist()}")


def sums_cross_replicas(context: Context) -> str:
    """Sums go over all replicas."""

    def total():
        replica = tf.distribute.get_replica_context()
        return replica.all_reduce(
            tf.distribute.ReduceOp.SUM, tf.cast(ipu.replication_index() + 1, tf.float32)
        )

    found, expected = float(context.run(total)), context.replicas * (context.replicas + 1) / 2
    return _require(found == expected, f"{found} of {expected}")


def counter_samples_are_the_hosts(context: Context) -> str:
    """The counter generator draws the same signs as on the host, bit for bit."""
    basis = _basis("rademacher", "counter")
    identity = np.eye(_DIMENSIONS, dtype=np.float32)[3]
    there = context.run(lambda c: basis.expand(c, 5, 6, 7), tf.constant(identity))
    different = int(np.sum(there != basis.expand(identity, 5, 6, 7).numpy()))
    return _require(different == 0, f"{different} of {_SIZE} differ")


def same_seed_same_samples(context: Context) -> str:
    """The same seed gives the same samples, in one program and in the next; another seed others."""
    basis = _basis()
    c = tf.constant(_normals(0, _DIMENSIONS))

    def draw(c, draw):
        return basis.expand(c, 1, draw), basis.expand(c, 1, draw)

    first, again = context.run(draw, c, tf.constant(0))
    later, _ = context.run(draw, c, tf.constant(0))
    other, _ = context.run(draw, c, tf.constant(1))
    _require(np.array_equal(first, again), "not the same in one program")
    _require(np.array_equal(first, later), "not the same in two programs")
    correlation = abs(np.corrcoef(first, other)[0, 1])
    return _require(correlation < 0.05, f"correlation of two redraws {correlation:.4f}")


def forward_and_backward_agree(context: Context) -> str:
    """Forward and backward draw the same: <P c, v> = <c, P^T v>, for each kind of samples."""
    c, v = tf.constant(_normals(0, _DIMENSIONS)), tf.constant(_normals(1, _SIZE))
    worst = 0.0
    for name in ("normal", "uniform", "rademacher"):
        basis = _basis(name)

        def both(c, v, basis=basis):
            gradient = tf.gradients(tf.reduce_sum(basis.expand(c, 1) * v), c)[0]
            return basis.expand(c, 1), basis.project(v, 1), gradient

        expanded, projected, gradient = context.run(both, c, v)
        scale = np.linalg.norm(c) * np.linalg.norm(projected)
        worst = max(worst, abs(np.dot(expanded, v) - np.dot(c, projected)) / scale)
        worst = max(worst, np.abs(gradient - projected).max() / np.abs(projected).max())
    return _require(worst < 1e-4, f"relative difference {worst:.1e}")


def replicas_draw_alike(context: Context) -> str:
    """All replicas draw the same directions for the same number, and others for their own."""
    basis = _basis()
    c = tf.constant(_normals(0, _DIMENSIONS))

    def draw(c):
        own = basis.expand(c, 1, 0, ipu.replication_index() * _DIMENSIONS)
        return (
            ipu.all_gather(basis.expand(c, 1, 0, 0), context.replicas),
            ipu.all_gather(own, context.replicas),
        )

    same, own = context.run(draw, c)
    _require(all(np.array_equal(same[0], each) for each in same), "the same number, other directions")
    _require(np.array_equal(own[0], same[0]), "the first replica's own are not those of number 0")
    correlations = np.abs(np.corrcoef(own) - np.eye(len(own))) if len(own) > 1 else np.zeros([1])
    return _require(correlations.max() < 0.05, f"{len(own)} replicas, correlation {correlations.max():.4f}")


def moments_are_right(context: Context) -> str:
    """Samples have mean 0, variance 1 and, if normal, kurtosis 3; directions are independent."""
    c = tf.eye(_DIMENSIONS)
    found = []
    for name, kurtosis in (("normal", 3.0), ("uniform", 1.8), ("rademacher", 1.0)):
        basis = _basis(name)
        columns = [
            context.run(lambda c, basis=basis: basis.expand(c, 1), c[i]) * np.sqrt(_SIZE)
            for i in range(_DIMENSIONS)
        ]
        samples = np.concatenate(columns).astype(np.float64)
        moments = samples.mean(), (samples**2).mean(), (samples**4).mean()
        correlation = np.abs(np.corrcoef(columns) - np.eye(_DIMENSIONS)).max()
        found.append(f"{name} {moments[0]:.4f} {moments[1]:.4f} {moments[2]:.3f}, r {correlation:.3f}")
        right = abs(moments[0]) < 0.02 and abs(moments[1] - 1) < 0.02 and abs(moments[2] - kurtosis) < 0.15
        _require(right and correlation < 0.05, "; ".join(found))
    return "; ".join(found)


def full_rbd_is_sgd(context: Context) -> str:
    """50 steps of `fit`: RBD in all directions (hadamard, d = D) is SGD, on all replicas."""
    rate = 0.2
    sgd: Dict[str, Any] = {}
    weights = []
    for make in (
        lambda: RandomBasesDescent(keras.optimizers.SGD(rate), _parameters(), basis="hadamard", seed=1),
        lambda: keras.optimizers.SGD(rate, gradient_aggregator=ipu.mean_gradients),
    ):
        weights.append(_fit(context, make, sgd))
    difference = max(np.abs(a - b).max() for a, b in zip(*weights))
    moved = max(np.abs(a - b).max() for a, b in zip(weights[0], sgd["initial"]))
    return _require(difference < 1e-3 < moved, f"weights differ by {difference:.1e}, moved by {moved:.2f}")


def rbd_in_few_directions_learns(context: Context) -> str:
    """50 steps of `fit`: RBD in 20 directions of the IPU's own generator lowers the loss."""
    notes: Dict[str, Any] = {}

    def make():
        basis = bases.get("normal", _parameters(), 20, generator="native")
        return RandomBasesDescent(keras.optimizers.SGD(2.0), 20, basis=basis, seed=1)

    _fit(context, make, notes)
    first, last = notes["losses"]
    return _require(last < 0.9 * first, f"from {first:.3f} to {last:.3f}")


def factored_subspace_is_the_hosts(context: Context) -> str:
    """50 steps of `fit` of a factored SubspaceModel, whose layers compute gradients, end as on the host."""

    def subspace(model):
        return SubspaceModel(model, _parameters() // 4, basis="kronecker", seed=1)

    def sgd():
        return keras.optimizers.SGD(1.0, gradient_aggregator=ipu.mean_gradients)

    there = _fit(context, sgd, {}, subspace)
    here = _fit(Context(tf.distribute.get_strategy(), 1), sgd, {}, subspace, context.replicas)
    difference = max(np.abs(a - b).max() for a, b in zip(there, here))
    moved = np.abs(there[-1]).max()
    return _require(difference < 1e-3 < moved, f"weights differ by {difference:.1e}, moved by {moved:.2f}")


def _parameters() -> int:
    return 16 * 8 + 8 + 8 * 4 + 4


def _fit(
    context: Context,
    make_optimizer: Callable,
    notes: dict,
    wrap: Callable = lambda model: model,
    batches: int = 1,
) -> List[np.ndarray]:
    """The weights after `_STEPS` steps; into notes the initial ones, and the first and last mean losses.

    `wrap` makes another model of the model. On the host a step takes the `batches` of as many replicas.
    """
    index, instances = ipu.instances(context.strategy)
    local = context.replicas // instances
    x = _normals(0, _STEPS * context.replicas * batches * 8, 16)
    y = np.argmax(x @ _normals(1, 16, 4), axis=1).astype(np.int32)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8 * batches, drop_remainder=True)
    data = data.shard(instances, index)
    set_random_seed(0)
    with context.strategy.scope():
        model = wrap(
            keras.Sequential(
                [keras.Input((16,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(4, "softmax")]
            )
        )
        model.compile(make_optimizer(), "sparse_categorical_crossentropy", steps_per_execution=_STEPS // 2)
    notes["initial"] = model.get_weights()
    if ipu.is_strategy(context.strategy):
        ipu_fit.check_fit(model, data, _STEPS * local, _STEPS // 2)
    # Two halves as epochs: the loss of an epoch is its mean.
    history = model.fit(data.repeat(), epochs=2, steps_per_epoch=_STEPS // 2 * local, verbose=0)
    notes["losses"] = history.history["loss"]
    return model.get_weights()


def samples_a_second(context: Context) -> str:
    """Samples a second of one replica, generated and contracted (a measurement, no limit)."""
    rates = []
    for name, generator in (("normal", "native"), ("rademacher", "native"), ("normal", "counter")):
        basis = _basis(name, generator, _TIMED)
        v = tf.constant(_normals(0, _SIZE))
        program = tf.function(lambda v, basis=basis: basis.project(v, 1), jit_compile=True, autograph=False)
        with context.strategy.scope():
            context.strategy.run(program, (v,))  # compiles
            begin = time.perf_counter()
            np.asarray(context.strategy.run(program, (v,)))
            seconds = time.perf_counter() - begin
        rates.append(f"{name} ({generator}) {_SIZE * _TIMED / seconds:.2e}")
    return ", ".join(rates)


CHECKS = (
    replicas_are_numbered,
    sums_cross_replicas,
    counter_samples_are_the_hosts,
    same_seed_same_samples,
    forward_and_backward_agree,
    replicas_draw_alike,
    moments_are_right,
    full_rbd_is_sgd,
    rbd_in_few_directions_learns,
    factored_subspace_is_the_hosts,
    samples_a_second,
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
