"""A loss surface over two directions, with the descent there and in a random basis: Figure 1."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import panels


def draw(found: Dict[str, Any], path: Path) -> None:
    """Draws the surface and the arrows in its tangent plane.

    Args:
      found: "axis", "loss" (of the grid of both axes), "point", "loss_at_point", "gradient", "descent" and
        "descent_in_basis", as `experiments.paper.figure1.measured` returns them.
      path: the file; its ending chooses the format.
    """
    figure = Figure(figsize=(7.2, 5.0))
    axes = figure.add_axes([0.04, 0.06, 0.92, 0.94], projection="3d")
    axes.computed_zorder = False  # arrows would vanish behind the surface
    first, second = np.meshgrid(found["axis"], found["axis"], indexing="ij")
    axes.plot_surface(first, second, np.array(found["loss"]), cmap="viridis", alpha=0.75, linewidth=0)
    _draw_basis(axes, found)
    for name, label, colour in (
        ("descent", "steepest descent", "black"),
        ("descent_in_basis", "its part in the random basis", "tab:red"),
    ):
        step = np.array(found[name])
        axes.quiver(
            *found["point"],
            found["loss_at_point"],
            *step,
            float(step @ np.array(found["gradient"])),
            color=colour,
            linewidth=2.5,
            label=label,
            zorder=10,
        )
    axes.set_xlabel("weight 1")
    axes.set_ylabel("weight 2")
    axes.set_zlabel("training loss")
    axes.view_init(elev=40, azim=-80)
    axes.legend(loc="upper left")
    panels.save(figure, path)


def _draw_basis(axes, found: Dict[str, Any]) -> None:
    """The vertical plane over the line that the basis spans."""
    direction = np.array(found["descent_in_basis"])
    direction = direction / np.linalg.norm(direction)
    ends = np.array(found["point"]) + np.outer([-0.4, 1.2], direction)
    heights = np.array([0.0, 1.3 * found["loss_at_point"]])
    corners = [np.repeat(ends[:, i : i + 1], 2, axis=1) for i in range(2)]
    axes.plot_surface(*corners, np.tile(heights, (2, 1)), color="tab:red", alpha=0.2, linewidth=0, zorder=5)
