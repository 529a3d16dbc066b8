"""Figures as data: panels of lines, which are JSON, and drawn with matplotlib into files."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from experiments import results

STYLES = ("line", "dashed", "points")


def line(
    label: str,
    x: Sequence[float],
    y: Sequence[float],
    deviation: Optional[Sequence[Optional[float]]] = None,
    style: str = "line",
) -> Dict[str, Any]:
    """A line of a panel.

    Args:
      label: its name in the legend.
      x, y: of equal length.
      deviation: of y, drawn as error bars; None entries have none.
      style: "line" (with points where there are few), "dashed" or "points".

    Raises:
      ValueError: for unequal lengths or another style.
    """
    if style not in STYLES:
        raise ValueError(f"style={style!r} is unknown; allowed: {STYLES}.")
    if len({len(x), len(y), len(x if deviation is None else deviation)}) > 1:
        raise ValueError(f"x, y and deviation of the line {label!r} have different lengths.")
    deviation = [None] * len(x) if deviation is None else list(deviation)
    return {"label": label, "x": list(x), "y": list(y), "deviation": deviation, "style": style}


def panel(
    title: str,
    xlabel: str,
    ylabel: str,
    lines: List[Dict[str, Any]],
    xscale: str = "linear",
    yscale: str = "linear",
    diverged: Sequence[str] = (),
) -> Dict[str, Any]:
    """A panel: its axes and its lines, those without points left out; scales are "linear" or "log".

    What diverged is named in the title: it has no points.
    """
    return {
        "title": f"{title} (diverged: {', '.join(diverged)})" if diverged else title,
        "xlabel": xlabel,
        "ylabel": ylabel,
        "lines": [each for each in lines if each["x"]],
        "xscale": xscale,
        "yscale": yscale,
    }


def draw(panels: Sequence[Dict[str, Any]], path: Path) -> None:
    """Draws panels side by side; the path's ending chooses the format."""
    figure = Figure(figsize=(5.6 * len(panels) + 0.6, 4.2))
    for axes, content in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        axes.set_xscale(content["xscale"])
        axes.set_yscale(content["yscale"])
        for each in content["lines"]:
            _plot(axes, each)
        if content["xscale"] == "log":
            axes.set_xticks(ticks(content))
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.set_title(content["title"])
        axes.set_xlabel(content["xlabel"])
        axes.set_ylabel(content["ylabel"])
        axes.grid(alpha=0.3)
        if content["lines"]:
            axes.legend(fontsize="small")
    figure.tight_layout()
    save(figure, path)


def ticks(content: Dict[str, Any]) -> List[float]:
    """Where a panel with a logarithmic axis has its ticks: at its points, as far as they do not crowd."""
    places: List[float] = []
    for x in sorted({x for each in content["lines"] for x in each["x"]}):
        if not places or x > 1.4 * places[-1]:
            places.append(x)
    return places


def save(figure: Figure, path: Path) -> None:
    """Writes a figure so that the same one gives the same file; the path's ending chooses the format."""
    with rc_context({"svg.hashsalt": "random_bases"}):
        figure.savefig(str(path), dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)


def _plot(axes, content: Dict[str, Any]) -> None:
    format_ = {"line": "o-" if len(content["x"]) <= 20 else "-", "dashed": "--", "points": "o"}
    errors = [0.0 if value is None else value for value in content["deviation"]]
    axes.errorbar(
        content["x"],
        content["y"],
        yerr=errors if any(errors) else None,
        fmt=format_[content["style"]],
        label=content["label"],
        markersize=4,
        capsize=3,
    )


def write(content: Dict[str, Any], directory: Path, name: str) -> None:
    """Writes a figure's content as JSON and its panels as PNG and SVG."""
    results.write_json(directory / f"{name}.json", content)
    for ending in ("png", "svg"):
        draw(content["panels"], directory / f"{name}.{ending}")
