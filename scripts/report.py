"""Writes the page of the reproduction, `report.html`, from the data that `scripts/reproduce.py` has left.

python scripts/report.py [--results=results]

Exit status: as of scripts/train.py.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where experiments/ is

from absl import app, flags

from experiments import exit_status
from experiments.paper import report

_RESULTS = flags.DEFINE_string("results", "results", "The directory of paper/, where the page goes.")


@exit_status.reporting
def main(argv):
    """Writes the page."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {argv[1:]}")
    report.write(Path(_RESULTS.value))
    print(f"{_RESULTS.value}/report.html")


if __name__ == "__main__":
    app.run(main)
