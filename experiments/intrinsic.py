"""The intrinsic dimension of a network and a task, in one directory.

A network is trained directly, then in d fixed random directions (`random_bases.SubspaceModel`), for
the d that `random_bases.analysis.intrinsic_dimension.search` asks for: Li et al. 2018
(arXiv:1804.08838). On images both with Adam at a constant learning rate, without augmentation; as the policy
of an environment as `experiments.reinforcement` has it, with returns in the place of accuracies.

| file                  | content                                                          |
| --------------------- | ---------------------------------------------------------------- |
| `config.json`         | the part of the configuration that an accuracy depends on        |
| `evaluations/*.json`  | one for each training, written when it has finished              |
| `results.json`        | at the end: the intrinsic dimension, the curve, versions, command |
| `evaluations.csv`     | at the end: a row for each training                              |
| `accuracy.png`        | at the end: accuracy against d                                   |

An accuracy is a function of configuration, d and seed. So a search that was killed and is started
again goes on with the first training that had not finished, and ends with the same results.
"""

import csv
import math
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import ml_collections

import random_bases
from experiments import brief, datasets, networks, reinforcement, results, training
from experiments.figures import curves
from random_bases import files, locks
from random_bases.analysis import intrinsic_dimension
from random_bases.batches import without_autotuning
from random_bases.keras_api import keras
from random_bases.tensors import size_of

SHUFFLES = ("", "pixels", "labels")
ACCURACIES = ("test", "train")

# What decides which trainings there are, or where and by whom, but not what one of them gives.
_FREE = ("data_dir", "seeds", "start", "fraction", "growth", "resolution", "processes")


class Task(NamedTuple):
    """What a search asks of what is trained.

    Attributes:
      parameters: D.
      train: (d or None, seed, verbose) -> accuracy or return.
      threshold: the mean of direct trainings -> what the intrinsic dimension must reach.
      measure: what `train` gives, in words.
      title: of the figure.
    """

    parameters: int
    train: Callable[[Optional[int], int, int], float]
    threshold: Callable[[float], float]
    measure: str
    title: str


def default_config() -> ml_collections.ConfigDict:
    """The configuration of a search, each key with its default; what configs/intrinsic_*.py start from.

    Keys:
      dataset: "digits", "mnist", "fashion_mnist" or "cifar10".
      data_dir: directory with `<dataset>.npz`; "" takes `keras.datasets`.
      shuffle: "": nothing, "pixels": of all images in the same way, "labels": of training examples.
      shuffle_seed: of that permutation, the same in all trainings.
      network: a name in `experiments.networks`.
      basis: a name in `random_bases.bases.names()`.
      learning_rates: Adam's, "direct" and "subspace".
      batch_size, epochs: of every training.
      accuracy: "test", or "train" where labels can only be memorised.
      fraction: of the direct network's mean accuracy, which the intrinsic dimension must reach.
      start, growth, resolution: of `random_bases.analysis.intrinsic_dimension.search`.
      seeds: of initial weights, order of the data and directions; one training for each.
    """
    return ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "data_dir": "",
            "shuffle": "",
            "shuffle_seed": 0,
            "network": "fc200",
            "basis": "hadamard",
            "learning_rates": {"direct": 1e-3, "subspace": 1e-2},
            "batch_size": 128,
            "epochs": 10,
            "accuracy": "test",
            "fraction": 0.9,
            "start": (100,),
            "growth": 2.0,
            "resolution": 0.1,
            "seeds": (0, 1, 2),
        }
    )


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError or TypeError for unknown or missing keys, wrong types and bad values."""
    plays = "environment" in config
    training.check_keys(config, reinforcement.default_config() if plays else default_config())
    if plays:
        _check_seeds(config.seeds)
        reinforcement.check_config(config)
        return
    if not 0 < config.fraction <= 1:
        raise ValueError(f"config.fraction={config.fraction} must be in (0, 1].")
    training.check_task(config)
    for key, allowed in (("shuffle", SHUFFLES), ("accuracy", ACCURACIES)):
        if config[key] not in allowed:
            raise ValueError(f"config.{key}={config[key]!r} is unknown; allowed: {allowed}.")
    if config.basis not in random_bases.bases.names():
        raise ValueError(f"config.basis={config.basis!r} is unknown; allowed: {random_bases.bases.names()}.")
    if set(config.learning_rates) != {"direct", "subspace"}:
        raise ValueError('config.learning_rates needs exactly the keys "direct" and "subspace".')
    for name, rate in config.learning_rates.items():
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"config.learning_rates.{name}={rate} must be positive.")
    for key in ("batch_size", "epochs"):
        if config[key] < 1:
            raise ValueError(f"config.{key}={config[key]} must be at least 1.")
    _check_seeds((config.shuffle_seed, *config.seeds))


def _check_seeds(seeds) -> None:
    for seed in seeds:
        if not (isinstance(seed, int) and 0 <= seed < 2**31):
            raise ValueError(f"config.seeds, config.shuffle_seed: {seed!r} must be an int in [0, 2**31).")


def load_data(config: ml_collections.ConfigDict) -> datasets.ImageDataset:
    """The data set that a configuration describes, shuffled as it says."""
    data = datasets.load(config.dataset, config.data_dir or None)
    if config.shuffle == "pixels":
        return datasets.shuffle_pixels(data, config.shuffle_seed)
    if config.shuffle == "labels":
        return datasets.shuffle_labels(data, config.shuffle_seed)
    return data


def train(
    config: ml_collections.ConfigDict,
    data: datasets.ImageDataset,
    dimensions: Optional[int],
    seed: int,
    verbose: int = 1,
) -> float:
    """Trains once and returns the accuracy, a fraction.

    Args:
      config: as `default_config`.
      data: as `load_data` gives it.
      dimensions: d; None trains all weights.
      seed: an int in [0, 2**31).
      verbose: 0: silent, 1: a progress bar, 2: a line.

    Raises:
      ValueError: if `dimensions` is not from 1 to the number of parameters, or other values are bad.
      DivergedError: if the loss became infinite or not a number.
    """
    model = brief.network(config.network, data, seed)
    if dimensions is not None:
        model = random_bases.SubspaceModel(model, dimensions, basis=config.basis, seed=seed)
    rate = config.learning_rates["direct" if dimensions is None else "subspace"]
    history = brief.train(
        model,
        keras.optimizers.Adam(rate),
        data,
        config.batch_size,
        seed,
        config.epochs,
        together=True,
        verbose=verbose,
    )
    (loss,) = history["loss"]
    if not math.isfinite(loss):
        raise training.DivergedError(
            f"Training diverged: mean loss {loss} at d = {dimensions}, seed {seed}. A smaller learning "
            f"rate than {rate} may help."
        )
    examples = data.test if config.accuracy == "test" else data.train
    _, accuracy = model.evaluate(without_autotuning(datasets.evaluation_batches(examples, 1000)), verbose=0)
    return float(accuracy)


def run(config: ml_collections.ConfigDict, workdir: Union[str, Path], verbose: int = 1) -> Dict[str, Any]:
    """Searches the intrinsic dimension in `workdir`, or what is left to search, and returns the results.

    Args:
      config: as `default_config`, here or in `experiments.reinforcement`. Seeds and all that only steers
        the search may differ from those of a search found in `workdir`: what it trained is used.
      workdir: the search's directory; made if absent.
      verbose: 0: silent, 1: a progress bar for each training, 2: a line.

    Returns:
      What `results.json` holds.

    Raises:
      ValueError, TypeError: for a configuration that is not allowed, or one that differs from that of
        the search in `workdir`.
      FileNotFoundError: if the data is not there.
      InUseError: if another process searches in `workdir`.
      DivergedError: if a training diverged.
    """
    check_config(config)
    workdir = Path(workdir)
    wanted = {key: value for key, value in config.to_dict().items() if key not in _FREE}
    results.check_config(workdir / "config.json", wanted, but=())
    task = _policy(config) if "environment" in config else _images(config)
    how = (config.start, task.parameters, config.seeds, config.growth, config.resolution)
    intrinsic_dimension.check_search(*how)
    workdir.mkdir(parents=True, exist_ok=True)
    with locks.held(workdir):
        results.check_config(workdir / "config.json", wanted, but=())  # again, now that it is locked
        results.write_json(workdir / "config.json", wanted)
        return _search(config, task, how, workdir, verbose)


def _images(config: ml_collections.ConfigDict) -> Task:
    data = load_data(config)
    datasets.steps_per_epoch(data.train, config.batch_size)
    model = networks.get(config.network, data.input_shape, data.num_classes)
    parameters = _count(model)
    shuffled = f", {config.shuffle} shuffled" if config.shuffle else ""
    return Task(
        parameters,
        lambda dimensions, seed, verbose: train(config, data, dimensions, seed, verbose),
        lambda direct: config.fraction * direct,
        f"{config.accuracy} accuracy",
        f"{config.network} on {config.dataset}{shuffled}, D = {parameters:,}, {config.epochs} epochs",
    )


def _policy(config: ml_collections.ConfigDict) -> Task:
    parameters = _count(reinforcement.network(config, 0))
    enough = reinforcement.enough(config)
    return Task(
        parameters,
        lambda dimensions, seed, verbose: reinforcement.train(config, dimensions, seed, verbose),
        lambda direct: enough,
        "mean return",
        f"{config.environment}, D = {parameters:,}, at most {config.updates} updates of {config.population}",
    )


def _count(model: keras.Model) -> int:
    return sum(size_of(v.shape) for v in model.trainable_variables)


def _search(
    config: ml_collections.ConfigDict,
    task: Task,
    how: Tuple[Any, ...],
    workdir: Path,
    verbose: int,
) -> Dict[str, Any]:
    """`run` in a directory that is locked; `how`: what `intrinsic_dimension.search` takes last."""
    directory = workdir / "evaluations"
    directory.mkdir(exist_ok=True)
    for each in (workdir, directory):
        files.remove_temporaries(each)
    rows: List[Dict[str, Any]] = []

    def evaluate(dimensions: Optional[int], seed: int) -> float:
        method = "direct" if dimensions is None else "subspace"
        trained = task.parameters if dimensions is None else dimensions
        path = directory / f"{method}_d{trained}_seed{seed}.json"
        if not path.exists():
            if verbose:
                what = "direct training" if dimensions is None else f"d = {dimensions}"
                print(f"{what}, seed {seed}", flush=True)
            start = time.perf_counter()
            accuracy = task.train(dimensions, seed, verbose)
            seconds = time.perf_counter() - start
            results.write_json(path, {"accuracy": accuracy, "seconds": seconds})
            if verbose:
                print(f"  {task.measure} {accuracy:.4f}", flush=True)
        found = results.read_json(path)
        rows.append({"method": method, "dimensions": trained, "seed": seed, **found})
        return found["accuracy"]

    direct = [evaluate(None, seed) for seed in config.seeds]
    mean = math.fsum(direct) / len(direct)
    found = intrinsic_dimension.search(evaluate, task.threshold(mean), *how)
    content = {
        "config": config.to_dict(),
        "parameters": task.parameters,
        "measure": task.measure,
        "direct": {"accuracies": direct, "mean": mean},
        "threshold": found.threshold,
        "intrinsic_dimension": found.dimensions,
        "largest_below": found.below,
        "curve": [{**point._asdict(), "mean": point.mean} for point in found.curve()],
        "seconds": sum(row["seconds"] for row in rows),
        **training.environment(),
    }
    _write_csv(workdir / "evaluations.csv", rows)
    curves.intrinsic_dimension(
        workdir / "accuracy.png",
        found.curve(),
        mean,
        found.threshold,
        found.dimensions,
        title=task.title,
        ylabel=task.measure,
    )
    results.write_json(workdir / "results.json", content)
    return results.read_json(workdir / "results.json")


def _write_csv(path: Path, rows: List[Dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
