"""The figures' data as interactive plots for the page (plotly)."""

from typing import Any, Dict

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from experiments.figures import panels

_DASH = {"line": "solid", "dashed": "dash", "points": "solid"}
_CONFIG = {"responsive": True, "displayModeBar": False}
_MARGIN = {"l": 60, "r": 15, "t": 45, "b": 50}


def script() -> str:
    """The text of the library that draws the plots."""
    return get_plotlyjs()


def panel(content: Dict[str, Any], identity: str) -> str:
    """A panel (`experiments.figures.panels`) as a piece of HTML."""
    figure = go.Figure()
    for line in content["lines"]:
        errors = [value or 0.0 for value in line["deviation"]]
        figure.add_scatter(
            x=line["x"],
            y=line["y"],
            name=line["label"],
            mode="markers" if line["style"] == "points" else "lines+markers",
            line={"dash": _DASH[line["style"]]},
            marker={"size": 4},
            error_y={"type": "data", "array": errors} if any(errors) else None,
            hovertemplate="%{x}: %{y:.4g}",
        )
    figure.update_layout(title=content["title"], showlegend=True)
    figure.update_xaxes(title=content["xlabel"], type=content["xscale"])
    figure.update_yaxes(title=content["ylabel"], type=content["yscale"])
    if content["xscale"] == "log":
        ticks = panels.ticks(content)
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,g}" for tick in ticks])
    return _html(figure, identity)


def surface(content: Dict[str, Any], identity: str) -> str:
    """Figure 1's surface seen from above, with its arrows."""
    heights = [list(column) for column in zip(*content["loss"])]  # rows are the vertical axis
    figure = go.Figure(go.Contour(x=content["axis"], y=content["axis"], z=heights, colorscale="Viridis"))
    begin = content["point"]
    for name, label, colour in (
        ("descent", "steepest descent", "black"),
        ("descent_in_basis", "its part in the random basis", "red"),
    ):
        figure.add_scatter(
            x=[begin[0], begin[0] + content[name][0]],
            y=[begin[1], begin[1] + content[name][1]],
            name=label,
            mode="lines+markers",
            line={"color": colour, "width": 3},
            marker={"symbol": "arrow", "size": [1, 14], "angleref": "previous"},
        )
    figure.update_layout(title="The same from above: training loss")
    figure.update_xaxes(title="weight 1")
    figure.update_yaxes(title="weight 2")
    return _html(figure, identity)


def _html(figure: go.Figure, identity: str) -> str:
    figure.update_layout(
        template="plotly_white", margin=_MARGIN, legend={"orientation": "h", "y": -0.25}, height=420
    )
    return figure.to_html(full_html=False, include_plotlyjs=False, div_id=identity, config=_CONFIG)
