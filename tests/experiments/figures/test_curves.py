"""Curves are drawn into files of the format that the name says."""

import pytest

from experiments.figures import curves


@pytest.mark.parametrize("ending, magic", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figure_is_written(tmp_path, ending, magic):
    path = tmp_path / f"curves.{ending}"
    curves.accuracy_curves(path, {"sgd": [0.5, 0.75], "rbd": [0.25]}, "title", "accuracy")
    content = path.read_bytes()
    assert content.startswith(magic) and len(content) > 1000
