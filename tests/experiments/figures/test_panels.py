import pytest

from experiments.figures import panels
from experiments.paper import figure2, presets


@pytest.mark.parametrize("ending, magic", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_panels_are_drawn(tmp_path, ending, magic):
    lines = [
        panels.line("a", [1, 10], [1.0, 2.0], deviation=[None, 0.5]),
        panels.line("b", [1, 10], [3.0, 3.0], style="dashed"),
        panels.line("left out", [], []),
    ]
    content = panels.panel("title", "x", "y", lines, "log")
    assert [line["label"] for line in content["lines"]] == ["a", "b"]
    panels.draw([content, panels.panel("empty", "x", "y", [])], tmp_path / f"f.{ending}")
    assert (tmp_path / f"f.{ending}").read_bytes().startswith(magic)


def test_bad_lines_are_refused():
    with pytest.raises(ValueError, match="style='dotted' is unknown; allowed: "):
        panels.line("a", [1], [1], style="dotted")
    with pytest.raises(ValueError, match="line 'a' have different lengths"):
        panels.line("a", [1, 2], [1])


def test_traffic_of_a_worker():
    main = presets.PRESETS["paper"].main
    assert figure2.traffic(2, main) == {"coordinates": 4 * 125, "sgd": 4 * 101_770}
    assert figure2.traffic(16, main)["coordinates"] == 4 * 16 * 15
