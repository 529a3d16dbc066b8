"""Where the reproduction agrees with the paper and where not, by numbers alone."""

from typing import Any, Dict, List, Optional

from experiments.paper import published
from experiments.paper.table1 import COLUMNS

_NEEDED = ("NES", "FPD", "RBD, Hadamard", "SGD")


def cells(table: Dict[str, Any]) -> List[Dict[str, str]]:
    """A line for each cell of `table1.json` that has both numbers: ours, the paper's and the difference."""
    lines = []
    for row in table["rows"]:
        for column in COLUMNS:
            here, paper = row["cells"][column]["measured"], row["cells"][column]["published"]
            if here is None or paper is None or here["mean"] is None:
                continue
            difference = here["mean"] - paper["mean"]
            lines.append(
                {
                    "network": row["network"],
                    "method": column,
                    "here": f"{here['mean']:.2f}",
                    "paper": f"{paper['mean']:.2f}",
                    "difference": f"{difference:+.2f}",
                    "epochs here": str(here["epochs"]),
                    "": _verdict(row["config"], column, difference, here["epochs"]),
                }
            )
    return lines


def _verdict(config: str, column: str, difference: float, epochs: int) -> str:
    if epochs < published.EPOCHS:
        return "fewer epochs"
    target = published.target(config)
    if abs(difference) <= target:
        return f"within {target:g} points"
    return "better" if difference > 0 else f"off by more than {target:g}"


def _narrower() -> str:
    return ", ".join(f"{published.NETWORKS[name]}: {target:g}" for name, target in published.TARGETS.items())


def order(row: Dict[str, Any]) -> Optional[bool]:
    """Whether NES < FPD < RBD < SGD holds in a row, as in all of the paper's.

    None unless all have run, and for the same number of epochs.
    """
    cells = [row["cells"][column]["measured"] for column in _NEEDED]
    if any(each is None or each["mean"] is None for each in cells):
        return None
    if len({each["epochs"] for each in cells}) > 1:
        return None
    values = [each["mean"] for each in cells]
    return values == sorted(values)


def sentences(table: Dict[str, Any], figure3: Optional[Dict[str, Any]]) -> List[str]:
    """What the numbers say, in a few sentences."""
    lines = cells(table)
    whole = [line for line in lines if line[""] != "fewer epochs"]
    near = [line for line in whole if line[""].startswith("within")]
    said = [
        f"{len(whole)} cells of Table 1 have run for the paper's {published.EPOCHS} epochs; "
        f"{len(near)} of them are within {published.TARGET_ELSEWHERE:g} points ({_narrower()}) "
        "of the paper's mean."
    ]
    orders = {row["network"]: order(row) for row in table["rows"]}
    kept = [name for name, value in orders.items() if value]
    other = [name for name, value in orders.items() if value is False]
    if kept:
        said.append(f"The paper's order NES < FPD < RBD < SGD holds for {', '.join(kept)}.")
    if other:
        said.append(f"It does not hold for {', '.join(other)}.")
    if figure3 and figure3["gaps"]["measured"]:
        gaps = figure3["gaps"]
        pairs = [
            f"{method.upper()} by {gap:.1f} points (paper: {gaps['published'][method]})"
            for method, gap in gaps["measured"].items()
        ]
        said.append(f"Figure 3, after {gaps['epochs']} epochs: RBD leads {' and '.join(pairs)}.")
    return said
