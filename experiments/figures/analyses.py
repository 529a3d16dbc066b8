"""Figures of the analyses: each draws the data of `experiments.analyses` into a file."""

from pathlib import Path
from typing import Any, Dict

from matplotlib.figure import Figure

Data = Dict[str, Any]


def gradient_correlation(path: Path, data: Data) -> None:
    """Cosine against epochs, of the network and of its layers, with what theory expects."""
    figure = Figure(figsize=(9.5, 4.2))
    left, right = figure.subplots(1, 2)
    for colour, (basis, history) in zip(("tab:blue", "tab:orange"), data["epochs"].items()):
        epochs = range(1, len(history["gradient_correlation"]) + 1)
        left.plot(epochs, history["gradient_correlation"], "o-", color=colour, label=basis)
        formula = "sqrt(d / D)" if basis == "hadamard" else "sqrt(d / (D + d))"
        left.axhline(data["theory"][basis], color=colour, linestyle=":", label=formula)
    # One basis: by layer the two differ little.
    for name, cosines in history.items():
        if name.startswith("gradient_correlation/"):
            layer = name.partition("/")[2]
            (line,) = right.plot(epochs, cosines, "o", label=f"{layer}, {basis}")
            expected = history[f"gradient_correlation_expected/{layer}"]
            right.plot(epochs, expected, ":", color=line.get_color())
    left.set_title(f"network: d = {data['dimensions']:,}, D = {data['parameters']:,}")
    right.set_title("layers (dotted: theory)")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_ylabel("cosine of P Pᵀ g and g")
        axes.set_ylim(bottom=0)
    _save(figure, path)


def orthogonality(path: Path, data: Data) -> None:
    """Root mean square of pairs' cosines against n, with 1 / sqrt(n)."""
    figure = Figure(figsize=(6.0, 4.2))
    axes = figure.add_subplot()
    for basis, deviations in data["root_mean_square_cosine"].items():
        sizes = sorted(deviations, key=int)
        axes.loglog([int(n) for n in sizes], [deviations[n] for n in sizes], "o-", label=basis, alpha=0.7)
    sizes = sorted(data["theory"], key=int)
    theory = [data["theory"][n] for n in sizes]
    axes.loglog([int(n) for n in sizes], theory, "k:", label="1 / sqrt(n)")
    axes.set_xlabel("elements of a direction, n")
    axes.set_ylabel("root mean square cosine of pairs")
    axes.set_title("Orthogonality of random directions (float32)")
    _save(figure, path)


def approximation(path: Path, data: Data) -> None:
    """Cosine and accuracy against d."""
    figure = Figure(figsize=(9.5, 4.2))
    left, right = figure.subplots(1, 2)
    dimensions = [point["dimensions"] for point in data["points"]]
    for i in range(len(data["points"][0]["cosines"])):
        draws = [point["cosines"][i] for point in data["points"]]
        left.loglog(dimensions, draws, ".", color="tab:blue", label=None if i else "hadamard, each draw")
    left.loglog(dimensions, [point["expected"] for point in data["points"]], "k:", label="sqrt(d / D)")
    left.set_ylabel("cosine of P Pᵀ g and g")
    accuracies = [100 * point["test_accuracy"] for point in data["points"]]
    right.semilogx(dimensions, accuracies, "o-", color="tab:blue", label="RBD, hadamard")
    sgd = 100 * data["sgd_test_accuracy"]
    right.axhline(sgd, color="black", linewidth=1.2, label=f"SGD: {sgd:.1f}%")
    right.set_ylabel("test accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("directions d")
        axes.set_title(f"D = {data['parameters']:,}")
    _save(figure, path)


def landscape(path: Path, data: Data) -> None:
    """Loss along two filter-normalised directions, and on the plane of both."""
    figure = Figure(figsize=(9.5, 4.2))
    left, right = figure.subplots(1, 2)
    for i, losses in enumerate(data["lines"]):
        left.plot(data["alphas"], losses, label=f"direction {i + 1}")
    left.set_xlabel("alpha")
    left.locator_params(axis="x", nbins=5)
    left.set_ylabel("training loss")
    # Rows of the plane are alpha, rows of an image are its vertical axis.
    columns = [list(column) for column in zip(*data["plane"])]
    drawn = right.contourf(data["alphas"], data["alphas"], columns, levels=20)
    figure.colorbar(drawn, ax=right, label="training loss")
    right.plot([0], [0], "r+", label="trained weights")
    right.set_xlabel("alpha, direction 1")
    right.set_ylabel("beta, direction 2")
    figure.suptitle("Filter-normalised random directions")
    _save(figure, path)


def curvature(path: Path, data: Data) -> None:
    """Curvatures during training, and at its end beside the Hessian's top eigenvalues."""
    figure = Figure(figsize=(9.5, 4.2))
    left, right = figure.subplots(1, 2)
    # Before plotting, for margins are of the scale. Curvatures differ by thousands and may be negative.
    left.set_yscale("symlog", linthresh=1e-3)
    right.set_xscale("symlog", linthresh=1e-3)
    labels = {"curvature_gradient": "along the gradient", "curvature_random": "random directions, mean"}
    for name, label in labels.items():
        values = data["during_training"][name]
        left.plot(range(1, len(values) + 1), values, "o-", label=label)
    left.set_xlabel("epoch")
    left.set_ylabel("vᵀ H v / vᵀ v")
    right.plot(data["top_eigenvalues"], [2] * len(data["top_eigenvalues"]), "o", label="top eigenvalues")
    right.plot([data["gradient"]], [1], "s", label="along the gradient")
    right.plot(data["random"], [0] * len(data["random"]), "|", label="random directions")
    right.set_yticks([])
    right.set_ylim(-1, 4.5)
    right.set_xlabel("curvature after training")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        if axes.get_legend_handles_labels()[1]:
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(str(path), dpi=110)
