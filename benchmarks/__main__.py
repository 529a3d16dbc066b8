"""Prints the benchmarks as a table: `python -m benchmarks [--only=sketches,fit] [--json=FILE]`.

Nothing else should run on the machine. All of it takes about 15 minutes on 2 cores.
"""

import json
from pathlib import Path

import tensorflow as tf  # first: Keras 2.6 under absl needs it before app.run
from absl import app, flags

from benchmarks import (
    averaging,
    evolution,
    feedback_speed,
    fit,
    fused,
    fused_recurrent,
    low_rank,
    memory,
    peers,
    sketches,
    start,
)
from benchmarks.measure import Figure
from experiments import machine

_PARTS = {
    "sketches": sketches,
    "fit": fit,
    "feedback": feedback_speed,
    "fused": fused,
    "fused_recurrent": fused_recurrent,
    "low_rank": low_rank,
    "memory": memory,
    "start": start,
    "peers": peers,
    "evolution": evolution,
    "averaging": averaging,
}
_ALONE = (
    "sketches",
    "fit",
    "feedback",
    "fused",
    "fused_recurrent",
    "low_rank",
    "memory",
    "start",
)  # those that need no other library

_ONLY = flags.DEFINE_list("only", list(_ALONE), f"The parts to run, of {', '.join(_PARTS)}.")
_JSON = flags.DEFINE_string("json", None, "A file to write the figures to.")


def _line(figure: Figure) -> str:
    reached = {None: "", True: "reached", False: "missed"}[figure.reached]
    return (
        f"| {figure.what} | {figure.against} | {figure.value:.4g} {figure.unit} | {figure.reference:.4g} "
        f"{figure.unit} | {figure.ratio:.3g} | {figure.target or ''} | {reached} |"
    )


def main(arguments):
    """Runs the parts that are asked for."""
    if len(arguments) > 1:
        raise app.UsageError(f"unknown arguments {arguments[1:]}")
    unknown = sorted(set(_ONLY.value) - set(_PARTS))
    if unknown:
        raise app.UsageError(f"--only={','.join(unknown)} is unknown; allowed: {', '.join(_PARTS)}.")
    description = machine.description()
    print(json.dumps(description))
    print(
        "| what | against | it | reference | ratio | target | |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    figures = []
    for part in _ONLY.value:
        for figure in _PARTS[part].run():
            figures.append(figure)
            print(_line(figure), flush=True)
    if _JSON.value:
        content = {
            "machine": description,
            "figures": [{**f._asdict(), "reached": f.reached} for f in figures],
        }
        Path(_JSON.value).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    del tf
    app.run(main)
