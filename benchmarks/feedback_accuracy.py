"""Error feedback in brief trainings: accuracy, not speed.

python -m benchmarks.feedback_accuracy [--only=inner,normalization,rates,powersgd,traffic] \
    [--data_dir=DIRECTORY] [--output=results/error_feedback]

| part          | what                                                                        |
| ------------- | --------------------------------------------------------------------------- |
| inner         | momentum, Adam, weight decay inside, FC-MNIST                               |
| normalization | batch normalisation: ResNet-8 on digits                                     |
| rates         | where learning rates become unstable, with the Hessian's trace, on FC-MNIST |
| powersgd      | PowerSGD of rank 1 at equal bytes, FC-MNIST and CNN-CIFAR10                 |
| traffic       | accuracy against d, FC-MNIST                                                |

Each writes `<part>.json`, traffic also a figure, which the report shows. Batch 32, constant rates, no
augmentation, Hadamard directions. A run whose row is in its file already is not run again. All take about
an hour on 2 cores.
"""

import functools
import json
import math
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import tensorflow as tf  # first: Keras 2.6 under absl needs it before app.run
from absl import app, flags

import random_bases as rb
from benchmarks.powersgd import PowerSGD
from experiments import brief, datasets, machine, results
from experiments.figures import panels
from random_bases.analysis import curvature
from random_bases.keras_api import keras
from random_bases.tensors import size_of

_BATCH = 32
_EXAMPLES_OF_THE_TRACE = 2000

_DATA_DIR = flags.DEFINE_string("data_dir", "", "Directory with <dataset>.npz; else keras.datasets.")
_OUTPUT = flags.DEFINE_string("output", "results/error_feedback", "Directory of the results.")


class Case(NamedTuple):
    """One training.

    Attributes:
      network, dataset: by name.
      method: "sgd": the inner optimizer alone; "rbd"; "feedback": RBD with error feedback; "powersgd".
      inner: a key of `INNER`.
      rate: the learning rate.
      dimensions: d; 0 without directions.
      epochs: passes over the training examples.
      seed: of the initial weights, the order of the examples and the directions.
    """

    network: str
    dataset: str
    method: str
    inner: str
    rate: float
    dimensions: int
    epochs: int
    seed: int = 0


# Weight decay is that of Keras 2.11 and later.
INNER: Dict[str, Callable[[float], Any]] = {
    "SGD": lambda rate: keras.optimizers.SGD(rate),
    "momentum 0.9": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "Adam": lambda rate: keras.optimizers.Adam(rate),
    "SGD, weight decay 0.001": lambda rate: keras.optimizers.SGD(rate, weight_decay=1e-3),
    "AdamW, weight decay 0.01": lambda rate: keras.optimizers.AdamW(rate, weight_decay=1e-2),
}


def _inner() -> List[Case]:
    rates = {
        "SGD": (0.125,),
        "momentum 0.9": (0.0125, 0.125),
        "Adam": (2**-10, 2**-12),
        "SGD, weight decay 0.001": (0.125,),
        "AdamW, weight decay 0.01": (2**-10, 2**-12),
    }
    return [
        Case("fc", "mnist", method, inner, rate, 0 if method == "sgd" else 250, 5)
        for inner, tried in rates.items()
        for rate in tried
        for method in ("sgd", "feedback")
    ]


def _normalization() -> List[Case]:
    return [
        Case("resnet8", "digits", "sgd", "SGD", 0.125, 0, 30),
        *(Case("resnet8", "digits", "feedback", "SGD", rate, 500, 30) for rate in (0.125, 0.03125)),
        Case("resnet8", "digits", "rbd", "SGD", 1.0, 500, 30),
    ]


def _rates() -> List[Case]:
    powers = {0: range(-3, 3), 50: range(-4, 3), 250: range(-3, 4), 1000: range(-3, 4)}
    return [
        Case("fc", "mnist", "feedback" if dimensions else "sgd", "SGD", 2.0**power, dimensions, 5)
        for dimensions, chosen in powers.items()
        for power in chosen
    ]


def _powersgd() -> List[Case]:
    cases = []
    for network, dataset, rate, dimensions, epochs in (
        ("fc", "mnist", 0.125, 1188, 5),
        ("cnn", "cifar10", 0.03125, 2447, 4),
    ):
        rows = (("sgd", 0), ("powersgd", 0), ("feedback", dimensions), ("feedback", 250))
        cases += [
            Case(network, dataset, method, "SGD", rate, d, epochs, seed)
            for method, d in rows
            for seed in range(3)
        ]
    return cases


def _traffic() -> List[Case]:
    dimensions = (25, 50, 100, 250, 1000, 2500, 10_000, 25_000)
    return [
        Case("fc", "mnist", "sgd", "SGD", 0.125, 0, 5),
        *(Case("fc", "mnist", "feedback", "SGD", 0.125, d, 5) for d in dimensions),
        # n / d times SGD's rate, at most 1: docs/methods.md.
        *(Case("fc", "mnist", "rbd", "SGD", min(1.0, 0.125 * 101_770 / d), d, 5) for d in dimensions),
        Case("fc", "mnist", "powersgd", "SGD", 0.125, 0, 5),
    ]


PARTS: Dict[str, Callable[[], List[Case]]] = {
    "inner": _inner,
    "normalization": _normalization,
    "rates": _rates,
    "powersgd": _powersgd,
    "traffic": _traffic,
}
_ONLY = flags.DEFINE_list("only", list(PARTS), f"The parts to run, of {', '.join(PARTS)}.")


def run(case: Case, data: datasets.ImageDataset, trace: bool = False) -> Dict[str, Any]:
    """Trains; the case with what came out, the Hessian's trace before and after if `trace` is set.

    "numbers" are those that a worker of several would reduce in a step.
    """
    model = brief.network(case.network, data, case.seed)
    traces = [_trace(model, data)] if trace else []
    optimizer = _optimizer(case, model)
    history = brief.train(model, optimizer, data, _BATCH, case.seed, case.epochs)
    loss, accuracy = model.evaluate(datasets.evaluation_batches(data.validation, 1000), verbose=0)
    if trace and math.isfinite(loss):
        traces.append(_trace(model, data))
    row = {
        **case._asdict(),
        "numbers": _numbers(case, model, optimizer),
        "training_loss": [_rounded(value) for value in history["loss"]],
        "training_accuracy": _rounded(history["accuracy"][-1]),
        "validation_loss": _rounded(loss),
        "validation_accuracy": _rounded(accuracy),
    }
    return {**row, "traces": traces} if trace else row


def _optimizer(case: Case, model: keras.Model):
    if case.method == "powersgd":
        return PowerSGD(case.rate, model.trainable_variables)
    inner = INNER[case.inner](case.rate)
    if case.method == "sgd":
        return inner
    feedback = case.method == "feedback"
    return rb.RandomBasesDescent(
        inner, case.dimensions, basis="hadamard", error_feedback=feedback, seed=case.seed
    )


def _numbers(case: Case, model: keras.Model, optimizer) -> int:
    if case.method == "powersgd":
        return optimizer.bytes_per_step // 4
    return case.dimensions or sum(size_of(variable.shape) for variable in model.trainable_variables)


def _trace(model: keras.Model, data: datasets.ImageDataset) -> float:
    pair = brief.examples(data, _EXAMPLES_OF_THE_TRACE)
    return _rounded(curvature.trace(model, pair, loss="sparse_categorical_crossentropy"))


def _rounded(value: float):
    """Four digits; None for what is not finite, which JSON does not have."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def run_part(name: str, output: Path, load: Callable[[str], datasets.ImageDataset]) -> None:
    """Runs a part's cases that have no row in its file yet; `load` gives a data set by name."""
    path = output / f"{name}.json"
    content = results.read_json(path) if path.exists() else {"machine": machine.description(), "rows": []}
    known = {tuple(row[field] for field in Case._fields): row for row in content["rows"]}
    for case in PARTS[name]():
        if tuple(case) not in known:
            known[tuple(case)] = run(case, load(case.dataset), trace=name == "rates")
            print(json.dumps(known[tuple(case)]), flush=True)
        content["rows"] = [known[tuple(each)] for each in PARTS[name]() if tuple(each) in known]
        results.write_json(path, content)


def panel(rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """The traffic's figure: accuracy against the bytes that are reduced over workers in a step."""
    labels = {
        "feedback": "RBD with error feedback",
        "rbd": "RBD",
        "powersgd": "PowerSGD, rank 1",
        "sgd": "SGD",
    }
    lines = []
    for method, label in labels.items():
        chosen = [row for row in rows if row["method"] == method]
        accuracy = [100 * row["validation_accuracy"] for row in chosen]
        style = "line" if len(chosen) > 1 else "points"
        lines.append(panels.line(label, [4 * row["numbers"] for row in chosen], accuracy, style=style))
    title = f"FC-MNIST after {rows[0]['epochs']} epochs"
    return panels.panel(title, "bytes of a step", "validation accuracy (%)", lines, xscale="log")


def main(arguments):
    """Runs what is not there yet, and writes it."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    unknown = sorted(set(_ONLY.value) - set(PARTS))
    if unknown:
        raise app.UsageError(f"--only={','.join(unknown)} is unknown; allowed: {', '.join(PARTS)}.")
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    load = functools.lru_cache(maxsize=None)(lambda name: datasets.load(name, _DATA_DIR.value or None))
    for name in _ONLY.value:
        run_part(name, output, load)
        if name == "traffic":
            content = results.read_json(output / "traffic.json")
            panels.write({**content, "panels": [panel(content["rows"])]}, output, "traffic")
    return 0


if __name__ == "__main__":
    del tf
    sys.exit(app.run(main))
