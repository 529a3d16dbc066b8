import pytest

from experiments.paper import agreement, published
from experiments.paper.table1 import COLUMNS


def row(config="fc_mnist", epochs=100, **means):
    """A row of `table1.json` with the means of some columns."""
    cells = {}
    for column, method in COLUMNS.items():
        mean = means.get(column.replace(", ", "_"))
        measured = None if mean is None else {"mean": mean, "epochs": epochs, "diverged": 0}
        cells[column] = {
            "measured": measured,
            "published": published.TABLE_1[config][method]._asdict() if method else None,
        }
    return {"config": config, "network": published.NETWORKS[config], "cells": cells}


@pytest.mark.parametrize(
    "config, mean, epochs, verdict",
    [
        ("fc_mnist", 94.8, 100, "within 1 points"),
        ("fc_mnist", 95.0, 100, "better"),
        ("fc_mnist", 92.8, 100, "off by more than 1"),
        ("cnn_mnist", 95.2, 100, "within 2 points"),
        ("cnn_mnist", 97.2, 99, "fewer epochs"),
    ],
)
def test_verdicts(config, mean, epochs, verdict):
    (line,) = agreement.cells({"rows": [row(config, epochs, RBD_Hadamard=mean)]})
    assert line[""] == verdict
    assert float(line["difference"]) == pytest.approx(mean - published.TABLE_1[config]["rbd"].mean, abs=0.006)


def test_orders():
    assert agreement.order(row(NES=20, FPD=50, RBD_Hadamard=90, SGD=98)) is True
    assert agreement.order(row(NES=60, FPD=50, RBD_Hadamard=90, SGD=98)) is False
    assert agreement.order(row(FPD=50, RBD_Hadamard=90, SGD=98)) is None
    uneven = row(NES=20, FPD=50, RBD_Hadamard=90, SGD=98)
    uneven["cells"]["NES"]["measured"]["epochs"] = 5
    assert agreement.order(uneven) is None


def test_sentences_count_only_whole_runs():
    table = {"rows": [row(NES=20, FPD=50, RBD_Hadamard=94, SGD=98), row("cnn_mnist", 5, SGD=99.4)]}
    said = " ".join(agreement.sentences(table, None))
    assert "4 cells of Table 1 have run for the paper's 100 epochs; 2 of them are within" in said
    assert "NES < FPD < RBD < SGD holds for FC-MNIST." in said
    gaps = {"epochs": 5, "measured": {"fpd": 21.0}, "published": published.FIGURE_3_GAPS}
    said = " ".join(agreement.sentences(table, {"gaps": gaps}))
    assert "after 5 epochs: RBD leads FPD by 21.0 points (paper: 20.5)" in said
