"""The same with evosax: `python -m benchmarks.evolution_theirs PROBLEM SEED DATA_DIR`.

Runs in the peer's Python, which need not have TensorFlow.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import Open_ES

from benchmarks.evolution_problems import BATCH, PROBLEMS, curvature, images, start


def _problem(name: str, directory: str):
    """(loss of parameters on a batch, data, held-out data)."""
    if name == "quadratic":
        hessian = jnp.asarray(curvature())[:, None]
        x, y = np.zeros((64, 1), np.float32), np.zeros(64, np.int32)
        return lambda parameters, x, y: 0.5 * jnp.sum(hessian * parameters[0] ** 2), (x, y), (x, y)

    def loss(parameters, x, y):
        w1, b1, w2, b2 = parameters
        logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    x, y = images(directory)
    return loss, (x[:50000], y[:50000]), (x[50000:], y[50000:])


def main(name: str, seed: str, directory: str) -> None:
    """Prints the held-out loss at the end and the milliseconds of an update."""
    population, sigma, rate, updates = PROBLEMS[name]
    loss, (x, y), held_out = _problem(name, directory)
    x, y = jnp.asarray(x), jnp.asarray(y)
    parameters = [jnp.asarray(array) for array in start(name)]
    strategy = Open_ES(
        population,
        parameters,
        use_antithetic_sampling=True,
        optimizer=optax.sgd(rate),
        std_schedule=optax.constant_schedule(sigma),
    )
    key = jax.random.key(int(seed))
    settings = strategy.default_params
    state = strategy.init(key, parameters, settings)

    @jax.jit
    def update(key, state):
        ask, tell, pick = jax.random.split(key, 3)
        offspring, state = strategy.ask(ask, state, settings)
        # Both halves of a pair see one batch.
        rows = jax.random.randint(pick, (population // 2, BATCH), 0, len(x))
        rows = jnp.concatenate([rows, rows])
        losses = jax.vmap(lambda p, r: loss(p, x[r], y[r]))(offspring, rows)
        return strategy.tell(tell, offspring, losses, state, settings)[0], losses

    times = []
    for step in range(updates):
        state, losses = update(jax.random.fold_in(key, step), state)
        losses.block_until_ready()
        times.append(time.perf_counter())
    final = float(loss(strategy.get_mean(state), *map(jnp.asarray, held_out)))
    print(json.dumps({"loss": final, "ms": 1e3 * float(np.median(np.diff(times)))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
