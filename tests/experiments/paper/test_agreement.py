import pytest

from experiments.paper import agreement, published
from experiments.paper.protocols import PROTOCOLS
from experiments.paper.table1 import COLUMNS

TABLE, CODE = PROTOCOLS["table"], PROTOCOLS["code"]


def row(config="fc_mnist", epochs=100, **means):
    """A row of `table1.json` with the means of some columns."""
    cells = {}
    for column, method in COLUMNS.items():
        mean = means.get(column.replace(", ", "_"))
        measured = None if mean is None else {"mean": mean, "epochs": epochs, "runs": 3, "diverged": 0}
        cells[column] = {
            "measured": measured,
            "published": published.TABLE_1[config][method]._asdict() if method else None,
        }
    return {"config": config, "network": published.NETWORKS[config], "cells": cells}


@pytest.mark.parametrize(
    "config, mean, epochs, verdict",
    [
        ("fc_mnist", 95.8, 100, "agrees"),
        ("fc_mnist", 96.0, 100, "differs"),
        ("fc_mnist", 91.8, 100, "differs"),
        ("cnn_mnist", 95.2, 100, "agrees"),
        ("cnn_mnist", 97.2, 99, "unfinished"),
    ],
)
def test_verdicts(config, mean, epochs, verdict):
    (line,) = agreement.cells({"protocol": "table", "rows": [row(config, epochs, RBD_Hadamard=mean)]})
    assert line["verdict"] == verdict
    assert float(line["difference"]) == pytest.approx(mean - published.TABLE_1[config]["rbd"].mean, abs=0.006)


def test_100_updates_are_all_that_the_papers_nes_has():
    for epochs, protocol, verdict in (
        (16, "table", "agrees"),
        (15, "table", "unfinished"),
        (16, "code", "unfinished"),
    ):
        (line,) = agreement.cells({"protocol": protocol, "rows": [row("fc_mnist", epochs, NES=22)]})
        assert line["verdict"] == verdict


def test_orders():
    assert agreement.order(row(NES=20, FPD=50, RBD_Hadamard=90, SGD=98), CODE) is True
    assert agreement.order(row(NES=60, FPD=50, RBD_Hadamard=90, SGD=98), CODE) is False
    assert agreement.order(row(FPD=50, RBD_Hadamard=90, SGD=98), CODE) is None
    uneven = row(NES=20, FPD=50, RBD_Hadamard=90, SGD=98)
    uneven["cells"]["NES"]["measured"]["epochs"] = 16
    assert agreement.order(uneven, CODE) is None and agreement.order(uneven, TABLE) is True


def test_sentences_count_only_whole_runs():
    rows = [row(NES=20, FPD=50, RBD_Hadamard=94, SGD=98), row("cnn_mnist", 5, SGD=99.4)]
    table = {"protocol": "code", "rows": rows}
    said = " ".join(agreement.sentences(table, None))
    assert "4 cells of Table 1 have run as long as the paper's; 2 of them are within 2 points" in said
    assert "NES < FPD < RBD < SGD holds for FC-MNIST." in said
    gaps = {"epochs": 5, "measured": {"fpd": 21.0}, "published": published.FIGURE_3_GAPS}
    said = " ".join(agreement.sentences(table, {"gaps": gaps}))
    assert "after 5 epochs: RBD leads FPD by 21.0 points (paper: 20.5)" in said
