"""What tests of the core share: an explicit P in NumPy, moments in theory, and eager execution.

P is built from the documented streams alone and shares no code with the package. Element e of
direction i lies in block e // L at position e % L, L being the samples that a block of two words gives.
A block's words are Threefry-2x32-13 of (i, block) under a key, which is Threefry-2x32-20 of
(draw, stream) under the seed.
"""

import contextlib

import numpy as np
import tensorflow as tf

MASK = 2**32 - 1
PER_BLOCK = {
    "normal": 2,
    "uniform": 2,
    "rademacher": 64,
    "bernoulli": 2,
    "sparse": 2,
    "uniform-2020": 2,
    "bernoulli-2020": 64,
}
MEAN = {name: -0.5 if name == "bernoulli-2020" else 0.0 for name in PER_BLOCK}
DENSITY = 1 / 3  # of "sparse"
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def threefry(key, counter, rounds=13):
    """Threefry-2x32 in uint64 arithmetic modulo 2**32: pairs of integers or arrays -> two uint32 arrays."""
    k0, k1, x0, x1 = (np.asarray(word).astype(np.uint64) & np.uint64(MASK) for word in (*key, *counter))
    keys = (k0, k1, k0 ^ k1 ^ np.uint64(0x1BD11BDA))
    mask = np.uint64(MASK)
    x0, x1 = (x0 + keys[0]) & mask, (x1 + keys[1]) & mask
    for r in range(rounds):
        turn = np.uint64(_ROTATIONS[r % 8])
        x0 = (x0 + x1) & mask
        x1 = ((x1 << turn) | (x1 >> (np.uint64(32) - turn))) & mask
        x1 = x1 ^ x0
        if (r + 1) % 4 == 0:
            injected = (r + 1) // 4
            x0 = (x0 + keys[injected % 3]) & mask
            x1 = (x1 + keys[(injected + 1) % 3] + np.uint64(injected)) & mask
    return x0.astype(np.uint32), x1.astype(np.uint32)


def stream_key(seed, draw, stream=0):
    """The key of a stream; `seed` is an int, low word first, or a pair."""
    pair = (seed & MASK, seed >> 32) if isinstance(seed, int) else seed
    return threefry(pair, (draw, stream), rounds=20)


def box_muller(x0, x1):
    """Two float64 normals of two uint32 words: a radius from x0, a point of the circle from x1."""
    # The one rounding that is part of the stream's definition: u is a float32.
    u = ((x0 & np.uint32(0x7FFFFFFF)).astype(np.float32) + np.float32(1)).astype(np.float64) / 2**31
    radius = np.sqrt(-2 * np.log(u))
    low = (x1 & np.uint32(2**30 - 1)).astype(np.int64)
    eighth = np.where(low < 2**29, low, low - 2**30) / 2**29 * np.pi / 4  # in [-pi/4, pi/4)
    theta = np.where(x1 >> np.uint32(30) & np.uint32(1), np.pi / 2 - eighth, eighth)
    theta = theta + np.pi * (x1 >> np.uint32(31))
    return radius * np.cos(theta), radius * np.sin(theta)


def block_samples(distribution, x0, x1, p=0.5):
    """The samples of blocks whose words are x0, x1, uint32 [...]: float64 [..., L]."""
    signed = [word.view(np.int32).astype(np.float64) for word in (x0, x1)]
    if distribution == "normal":
        samples = box_muller(x0, x1)
    elif distribution == "uniform":
        samples = [np.sqrt(3) * word / 2**31 for word in signed]
    elif distribution == "uniform-2020":
        samples = [word / 2**31 for word in signed]
    elif distribution == "sparse":
        kept = [(word & np.uint32(2**31 - 1)) < round(DENSITY * 2**31) for word in (x0, x1)]
        samples = [
            np.where(keep, np.where(word < 0, -1, 1), 0) / np.sqrt(DENSITY)
            for keep, word in zip(kept, signed)
        ]
    elif distribution == "bernoulli":
        high, low = np.sqrt((1 - p) / p), -np.sqrt(p / (1 - p))
        samples = [np.where(word + 2**31 < p * 2**32, high, low) for word in signed]
    else:
        shift = {"rademacher": 0.0, "bernoulli-2020": 0.5}[distribution]
        bits = [word >> np.uint32(bit) & np.uint32(1) for word in (x0, x1) for bit in range(32)]
        samples = [1.0 - 2.0 * bit - shift for bit in bits]
    return np.stack(samples, axis=-1)


def direction(distribution, number, size, seed, draw=0, p=0.5):
    """Elements 0 .. size - 1 of direction `number` before the factor 1/sqrt(n), float64 [size]."""
    elements = np.arange(size)
    blocks, positions = elements // PER_BLOCK[distribution], elements % PER_BLOCK[distribution]
    words = threefry(stream_key(seed, draw), (np.full(size, number), blocks))
    return block_samples(distribution, *words, p=p)[elements, positions]


def dense(size, dimensions, distribution="normal", seed=0, draw=0, first=0, p=0.5):
    """P, float64 [size, dimensions], direction by direction."""
    columns = [direction(distribution, first + i, size, seed, draw, p) for i in range(dimensions)]
    return np.stack(columns, axis=1) / np.sqrt(size)


def central_moment(distribution, k, p=0.5):
    """E[(x - E x)**k] of a sample."""
    if distribution == "normal":
        return 0.0 if k % 2 else float(np.prod(np.arange(1, k, 2)))
    if distribution.startswith("uniform"):
        half_width = np.sqrt(3) if distribution == "uniform" else 1.0
        return 0.0 if k % 2 else half_width**k / (k + 1)
    if distribution == "sparse":
        return 0.0 if k % 2 else DENSITY ** (1 - k / 2)
    return p * ((1 - p) / p) ** (k / 2) + (1 - p) * (-1) ** k * (p / (1 - p)) ** (k / 2)


def assert_moments(samples, distribution, p=0.5):
    """Asserts that moments 1 to 4 lie within five standard errors of theory."""
    sums, count = np.zeros(5), samples.size
    for part in np.array_split(samples.ravel(), 1 + count // 10**6):
        centred = part.astype(np.float64) - MEAN[distribution]
        power = np.ones_like(centred)
        for k in range(1, 5):
            power *= centred
            sums[k] += power.sum()
    for k in range(1, 5):
        moment, second = central_moment(distribution, k, p), central_moment(distribution, 2 * k, p)
        # Where all samples have one size there is no standard error, only float32's rounding.
        bound = 5 * np.sqrt(max(0.0, second - moment**2) / count) + 1e-6 * np.sqrt(second)
        assert abs(sums[k] / count - moment) < bound, f"moment {k} of {distribution}"


def sketches_of_units(basis, draws):
    """P P^T of each of `draws` draws, float64 [draws, n, n]: one program, one loop."""
    size = basis.size

    @tf.function(jit_compile=True)
    def run(seed):
        def one(index):
            unit = tf.one_hot(index % size, size)
            return basis.trace_sketch(unit, seed, index // size, tf.constant(0))[1]

        return tf.map_fn(one, tf.range(draws * size), fn_output_signature=tf.float32)

    return run(tf.constant([2020, 0])).numpy().astype(np.float64).reshape(draws, size, size)


def assert_sketches_are_unbiased(found):
    """Asserts that the mean of P P^T over draws, [draws, n, n], is (d / n) I within five standard errors."""
    draws, size = found.shape[:2]
    dimensions = round(np.trace(found[0]))
    mean, deviation = found.mean(axis=0), found.std(axis=0)
    off_by = np.abs(mean - dimensions / size * np.eye(size))
    assert (off_by <= 5 * deviation / np.sqrt(draws) + 1e-6).all()


@contextlib.contextmanager
def eagerly():
    """Runs `tf.function`s, compiled ones too, as Python: many shapes without compiling any."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
