"""The analyses of `random_bases.analysis`, run on a network and a data set of the experiments.

Each writes `<name>.json` (arguments, data, versions, command) and `<name>.png` into a directory. What is
there already with the same arguments is not run again, and a figure can be drawn again from its data.
"""

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Union

import ml_collections
import numpy as np

from experiments import brief, datasets, methods, networks, results, training
from experiments.figures import analyses as figures
from random_bases import files, locks
from random_bases.analysis import (
    approximation,
    curvature,
    directions,
    gradient_correlation,
    landscape,
    orthogonality,
)
from random_bases.analysis.objective import Objective
from random_bases.keras_api import build_optimizer, set_random_seed

NAMES = ("gradient_correlation", "orthogonality", "approximation", "landscape", "curvature")

# What does not change a result.
_FREE = ("data_dir",)


def default_config() -> ml_collections.ConfigDict:
    """The configuration of the analyses.

    Keys:
      dataset, data_dir, network, batch_size, learning_rates, seed: as of
        `experiments.training`; `learning_rates` has "sgd" and "rbd".
      epochs: of every training.
      dimensions: d of the gradient correlation.
      examples: the first so many training images are what gradients and curvatures are taken on.
      sizes: n of the orthogonality.
      points: on an axis of the landscapes.
      eigenvalues: how many of the Hessian's.
    """
    return ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "data_dir": "",
            "network": "fc",
            "batch_size": 32,
            "learning_rates": {"sgd": 0.1, "rbd": 1.0},
            "seed": 0,
            "epochs": 10,
            "dimensions": 100,
            "examples": 1000,
            "sizes": (64, 256, 1024, 4096, 16384),
            "points": 21,
            "eigenvalues": 5,
        }
    )


def run(
    config: ml_collections.ConfigDict, workdir: Union[str, Path], only: Sequence[str] = NAMES
) -> Dict[str, Dict[str, Any]]:
    """Runs analyses in `workdir`, or what is left of them.

    Args:
      config: as `default_config`.
      workdir: made if absent.
      only: the analyses to run, among `NAMES`.

    Returns:
      name -> the content of its JSON file.

    Raises:
      ValueError, TypeError: for what is not allowed, or if `workdir` has results of another
        configuration.
      FileNotFoundError: if the data is not there.
      InUseError: if another process writes to `workdir`.
    """
    training.check_keys(config, default_config())
    training.check_task(config)
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise ValueError(f"only={unknown} is unknown; allowed: {NAMES}.")
    for key in ("epochs", "examples", "points", "eigenvalues"):
        if config[key] < 1:
            raise ValueError(f"config.{key}={config[key]} must be at least 1.")
    workdir = Path(workdir)
    results.check_config(workdir / "config.json", config.to_dict(), but=_FREE)
    _check_training(config)
    workdir.mkdir(parents=True, exist_ok=True)
    with locks.held(workdir):
        files.remove_temporaries(workdir)
        results.check_config(workdir / "config.json", config.to_dict(), but=_FREE)  # again, now it is locked
        results.write_json(workdir / "config.json", config.to_dict())
        found = {}
        for name in only:
            path = workdir / f"{name}.json"
            if not path.exists():
                print(name, flush=True)
                content = {"data": _ANALYSES[name](config, workdir), "config": config.to_dict()}
                results.write_json(path, {**content, **training.environment()})
            found[name] = results.read_json(path)
            getattr(figures, name)(workdir / f"{name}.png", found[name]["data"])
    return found


def _check_training(config: ml_collections.ConfigDict) -> None:
    """Raises what the analyses' trainings would, of data, network, learning rates and dimensions."""
    data = datasets.load(config.dataset, config.data_dir or None)
    datasets.steps_per_epoch(data.train, config.batch_size)
    model = networks.get(config.network, data.input_shape, data.num_classes)
    for method in ("sgd", "rbd"):
        if method not in config.learning_rates:
            raise ValueError(
                f"config.learning_rates has no rate for {method!r}: {dict(config.learning_rates)}."
            )
        single = _run_config(config, method, "normal", config.dimensions)
        training.check_config(single)
        build_optimizer(methods.build_optimizer(single), model.trainable_variables)


def _trained(config, method: str, basis: str = "normal", callbacks: Callable = lambda data: []):
    """A network trained by `method`, the history, and the pair (x, y) that analyses look at."""
    data = datasets.load(config.dataset, config.data_dir or None)
    model = brief.network(config.network, data, config.seed)
    optimizer = methods.build_optimizer(_run_config(config, method, basis, config.dimensions))
    pair = brief.examples(data, config.examples)
    history = brief.train(
        model,
        optimizer,
        data,
        config.batch_size,
        config.seed,
        config.epochs,
        callbacks=callbacks(pair),
    )
    return model, history, pair


def _run_config(config, method: str, basis: str, dimensions: int, rate: Optional[float] = None):
    """The configuration of one training."""
    single = training.default_config()
    for key in ("dataset", "data_dir", "network", "batch_size", "epochs", "seed"):
        single[key] = config[key]
    single.augment = False
    single.method, single.basis, single.dimensions = method, basis, dimensions
    single.learning_rate = config.learning_rates[method] if rate is None else rate
    return single


def _gradient_correlation(config, workdir: Path) -> Dict[str, Any]:
    del workdir
    found = {}
    for basis in ("normal", "hadamard"):
        model, history, _ = _trained(
            config, "rbd", basis, lambda pair: [gradient_correlation.GradientCorrelation(pair)]
        )
        found[basis] = {k: v for k, v in history.items() if k.startswith("gradient_correlation")}
    size = model.count_params()
    lines = {
        name: gradient_correlation.expected_cosine(size, config.dimensions, name == "hadamard")
        for name in found
    }
    return {"parameters": size, "dimensions": config.dimensions, "theory": lines, "epochs": found}


def _orthogonality(config, workdir: Path) -> Dict[str, Any]:
    del workdir
    deviations: Dict[str, Dict[str, float]] = {}
    for basis in ("normal", "uniform", "rademacher", "sparse", "fastfood", "orthogonal", "hadamard"):
        for size in config.sizes:
            cosines = orthogonality.cosines(basis, size, dimensions=min(40, size), seed=config.seed)
            root_mean_square = float(np.sqrt(np.mean(cosines**2)))
            deviations.setdefault(basis, {})[str(size)] = root_mean_square
    theory = {str(size): orthogonality.expected_deviation(size) for size in config.sizes}
    return {"root_mean_square_cosine": deviations, "theory": theory}


def _approximation(config, workdir: Path) -> Dict[str, Any]:
    data = datasets.load(config.dataset, config.data_dir or None)
    set_random_seed(config.seed)
    model = networks.get(config.network, data.input_shape, data.num_classes)
    size = model.count_params()
    objective = Objective(model, brief.examples(data, config.examples), "sparse_categorical_crossentropy")
    points = approximation.cosines(objective.gradient(), approximation.decades(size), "hadamard")
    runs = workdir / "runs"
    sgd = training.run(_run_config(config, "sgd", "normal", 1), runs / "sgd", verbose=0)
    rows = []
    for point in points:
        rate = approximation.learning_rate(
            config.learning_rates["sgd"], config.learning_rates["rbd"], point.dimensions, size
        )
        single = _run_config(config, "rbd", "hadamard", point.dimensions, rate)
        result = training.run(single, runs / f"d{point.dimensions}", verbose=0)
        rows.append({**point._asdict(), "learning_rate": rate, "test_accuracy": result["test_accuracy"]})
    return {"parameters": size, "sgd_test_accuracy": sgd["test_accuracy"], "points": rows}


def _landscape(config, workdir: Path) -> Dict[str, Any]:
    del workdir
    model, _, pair = _trained(config, "sgd")
    alphas = np.linspace(-1, 1, config.points).tolist()
    two = directions.draw(model, 2, seed=config.seed, filter_normalize=True)
    return {
        "alphas": alphas,
        "lines": [landscape.line(model, each, alphas, pair).tolist() for each in two],
        "plane": landscape.plane(model, two, alphas, alphas, pair).tolist(),
    }


def _curvature(config, workdir: Path) -> Dict[str, Any]:
    del workdir
    model, history, pair = _trained(config, "sgd", callbacks=lambda pair: [curvature.Curvature(pair, seed=0)])
    gradient = Objective(model, pair).gradient()
    drawn = directions.draw(model, 40, seed=config.seed)
    random = curvature.along(model, drawn, pair)
    return {
        "parameters": model.count_params(),
        "during_training": {k: v for k, v in history.items() if k.startswith("curvature")},
        "gradient": curvature.along(model, [gradient], pair)[0],
        "random": random,
        "top_eigenvalues": curvature.top_eigenvalues(
            model, pair, config.eigenvalues, seed=config.seed
        ).tolist(),
    }


_ANALYSES: Dict[str, Callable] = {
    "gradient_correlation": _gradient_correlation,
    "orthogonality": _orthogonality,
    "approximation": _approximation,
    "landscape": _landscape,
    "curvature": _curvature,
}
