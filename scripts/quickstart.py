"""Trains a small network with SGD, FPD and RBD on scikit-learn's handwritten digits, in two minutes.

The last runs are RBD with error feedback, which remembers what the directions of a step do not see, and in
factored bases of a tenth of the dimensions, whose gradient the network's layers compute.

python scripts/quickstart.py [--workdir=runs/quickstart] [--epochs=30] [--dimensions=100]

Prints a table and writes `results.json` and `accuracy.png` into the working directory. Runs that are
there already, finished or cut short, are taken up where they are; --overwrite starts anew. Exit status: as of
scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags, logging

from experiments import exit_status, results, training
from experiments.figures import curves

_WORKDIR = flags.DEFINE_string("workdir", "runs/quickstart", "Where runs and results go.")
_EPOCHS = flags.DEFINE_integer("epochs", 30, "Epochs of each run.", lower_bound=1)
_DIMENSIONS = flags.DEFINE_integer("dimensions", 100, "Directions of FPD and RBD.", lower_bound=1)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Start anew.")

# (method, basis, other changes of the configuration); error feedback takes the learning rate of SGD, and
# dimensions are those of the flag unless they are given.
_RUNS = [
    ("sgd", "-", {}),
    ("fpd", "normal", {}),
    ("fpd", "hadamard", {}),
    ("rbd", "normal", {}),
    ("rbd", "hadamard", {}),
    ("rbd", "hadamard", {"error_feedback": 1.0, "learning_rate": 0.1}),
    ("rbd", "kronecker", {"dimensions": 961}),
]


@exit_status.reporting
def main(argv):
    """Runs the experiments and writes their table and figure."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # checkpoints are no news
    workdir = Path(_WORKDIR.value)
    rows, accuracies, collected = [], {}, []
    for method, basis, changes in _RUNS:
        name = method if method == "sgd" else f"{method}-{basis}"
        label = method.upper()
        if "error_feedback" in changes:
            name, label = f"{name}-error-feedback", f"{label} + error feedback"
        print(f"{len(rows) + 1}/{len(_RUNS)} {name}", flush=True)
        config = training.default_config()
        config.dataset = "digits"
        config.method = method
        config.epochs = _EPOCHS.value
        config.dimensions = _DIMENSIONS.value
        if method != "sgd":
            config.basis = basis
        config.update(changes)
        result = training.run(config, workdir / name, overwrite=_OVERWRITE.value, verbose="run")
        collected.append({"name": name, **result})
        accuracies[name] = result["validation_accuracy"]
        rows.append(
            {
                "method": label,
                "basis": basis,
                "trained dimensions": str(result["trained_dimensions"]),
                "held-out accuracy": f"{100 * result['test_accuracy']:.1f}%",
                "seconds": f"{result['seconds']:.1f}",
                "ms a step": f"{result['milliseconds_per_step']:.2f}",
            }
        )
    parameters = collected[0]["parameters"]
    print(f"\nHandwritten digits, a network of {parameters} parameters, {_EPOCHS.value} epochs:\n")
    print(results.format_table(rows))
    results.write_json(workdir / "results.json", collected)
    curves.accuracy_curves(
        workdir / "accuracy.png",
        accuracies,
        title=f"Handwritten digits: {_DIMENSIONS.value} random directions of {parameters}",
        ylabel="validation accuracy",
    )
    print(f"\nFigure: {workdir / 'accuracy.png'}\nData:   {workdir / 'results.json'}")


if __name__ == "__main__":
    app.run(main)
