"""Where the reproduction agrees with the paper and where not, by numbers alone."""

from typing import Any, Dict, List, Optional

from experiments.paper import published
from experiments.paper.protocols import PROTOCOLS, Protocol
from experiments.paper.table1 import COLUMNS

_NEEDED = ("NES", "FPD", "RBD, Hadamard", "SGD")


# Within `published.TARGET` points, not, and with fewer epochs than the paper's.
AGREES, DIFFERS, UNFINISHED = "agrees", "differs", "unfinished"


def cells(table: Dict[str, Any]) -> List[Dict[str, str]]:
    """The verdicts: a line for each cell of `table1.json` that has both numbers."""
    protocol = PROTOCOLS[table["protocol"]]
    lines = []
    for row in table["rows"]:
        for column in COLUMNS:
            here, paper = row["cells"][column]["measured"], row["cells"][column]["published"]
            if here is None or paper is None or here["mean"] is None:
                continue
            difference = here["mean"] - paper["mean"]
            whole = protocol.is_whole(COLUMNS[column], here["epochs"])
            verdict = AGREES if abs(difference) <= published.TARGET else DIFFERS
            lines.append(
                {
                    "cell": f"{row['network']}, {column}",
                    "paper": f"{paper['mean']:.2f}",
                    "here": f"{here['mean']:.2f}",
                    "difference": f"{difference:+.2f}",
                    "runs": f"{here['runs']} x {here['epochs']}",
                    "verdict": verdict if whole else UNFINISHED,
                }
            )
    return lines


def order(row: Dict[str, Any], protocol: Protocol) -> Optional[bool]:
    """Whether NES < FPD < RBD < SGD holds in a row, as in all of the paper's.

    None unless all have run, for the paper's epochs.
    """
    cells = {column: row["cells"][column]["measured"] for column in _NEEDED}
    if any(each is None or each["mean"] is None for each in cells.values()):
        return None
    if not all(protocol.is_whole(COLUMNS[column], each["epochs"]) for column, each in cells.items()):
        return None
    values = [each["mean"] for each in cells.values()]
    return values == sorted(values)


def sentences(table: Dict[str, Any], figure3: Optional[Dict[str, Any]]) -> List[str]:
    """What the numbers say, in a few sentences."""
    protocol = PROTOCOLS[table["protocol"]]
    verdicts = [line["verdict"] for line in cells(table)]
    said = [
        f"Protocol: {protocol.described}.",
        f"{len(verdicts) - verdicts.count(UNFINISHED)} cells of Table 1 have run as long as the paper's; "
        f"{verdicts.count(AGREES)} of them are within {published.TARGET:g} points of its mean.",
    ]
    orders = {row["network"]: order(row, protocol) for row in table["rows"]}
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
