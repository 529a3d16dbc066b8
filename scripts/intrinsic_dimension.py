"""Searches the intrinsic dimension of a network and a data set (Li et al. 2018, arXiv:1804.08838).

python scripts/intrinsic_dimension.py [--config=configs/intrinsic_digits.py] \
    [--workdir=runs/intrinsic_digits]

It is the smallest number of fixed random directions in which training reaches 90% of the accuracy of
training all weights, or in which a policy solves its environment. The default takes two minutes on two cores;
the other configs/intrinsic_*.py are the experiments of the paper; those of policies need
`pip install 'random-bases[rl]'`. Writes `results.json`, `evaluations.csv` and `accuracy.png` into the
working directory. A search that was killed goes on where it was when the same command is given again;
no training that has finished is run again. Exit status: as of scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags
from ml_collections import config_flags

from experiments import exit_status, intrinsic, results

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CONFIG = config_flags.DEFINE_config_file(
    "config", os.path.join(_ROOT, "configs", "intrinsic_digits.py"), "The configuration file."
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/intrinsic_digits", "The search's directory.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory with <dataset>.npz; else keras.datasets.")
_VERBOSE = flags.DEFINE_enum("verbose", "1", ["0", "1", "2"], "As in keras.Model.fit.")


@exit_status.reporting
def main(argv):
    """Runs the search that the flags give."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    config = _CONFIG.value
    if _DATA_DIR.value is not None:
        if "data_dir" not in config:
            raise app.UsageError("--data_dir is of searches on images; this configuration has none.")
        config.data_dir = _DATA_DIR.value
    result = intrinsic.run(config, _WORKDIR.value, int(_VERBOSE.value))
    print()
    print(results.format_table([_row(point, result) for point in result["curve"]]))
    print(
        f"\nDirect training of all {result['parameters']:,} parameters: {result['direct']['mean']:.4f}; "
        f"to be reached: {result['threshold']:.4f}"
    )
    if result["intrinsic_dimension"] is None:
        print(f"Not reached by any d up to {result['largest_below']:,}")
    else:
        print(f"Intrinsic dimension: {result['intrinsic_dimension']:,}")
    print(f"Figure: {_WORKDIR.value}/accuracy.png\nData:   {_WORKDIR.value}/results.json")


def _row(point, result):
    row = {"d": str(point["dimensions"]), result["measure"]: f"{point['mean']:.4f}"}
    if result["measure"].endswith("accuracy"):
        row["of direct"] = f"{100 * point['mean'] / result['direct']['mean']:.1f}%"
    return row


if __name__ == "__main__":
    app.run(main)
