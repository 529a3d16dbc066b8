"""What the examples share: the ways of fine-tuning, what each is measured by, the table and the figure."""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

import random_bases as rb
from experiments import machine, results
from experiments.figures import panels
from random_bases import keras_api, safetensors
from random_bases.keras_api import keras


def parser(documentation: str) -> argparse.ArgumentParser:
    """Of an example's flags: by now --workdir.

    Args:
      documentation: the example's docstring, of which --help shows the first line.
    """
    made = argparse.ArgumentParser(description=documentation.splitlines()[0])
    made.add_argument("--workdir", default="runs/examples", help="where files go")
    return made


def require_lora() -> None:
    """Refuses a Keras without LoRA.

    Raises:
      ValueError: naming the Keras at hand.
    """
    if keras_api.GENERATION != "keras3":
        raise ValueError(
            f"keras={keras.__version__!r} has no enable_lora; allowed: Keras 3, without TF_USE_LEGACY_KERAS."
        )


def enable_lora(model: keras.Model, rank: int, trained: Sequence[Any] = ()) -> None:
    """Adds LoRA's factors to all layers that can have them, and freezes everything else.

    Args:
      model: a built model.
      rank: of the factors.
      trained: layers that keep to their own weights, all of which train, such as a new head.
    """
    own = {id(variable) for layer in trained for variable in layer.trainable_variables}
    for layer in keras_api.layers_of(model):
        if hasattr(layer, "enable_lora") and not any(layer is each for each in trained):
            layer.enable_lora(rank)
    for variable in model.trainable_variables:
        if "lora" not in variable.path and id(variable) not in own:
            variable.trainable = False


def size(variables: Sequence[Any]) -> int:
    """How many numbers variables have."""
    return int(sum(np.prod(variable.shape) for variable in variables))


def saved(path: Path, model: keras.Model, bits: int = 32) -> int:
    """Writes what fine-tuning adds to a base, and returns the file's size in bytes.

    Args:
      path: of the file, without an ending: ".rb" for the coordinates of a `SubspaceModel` with a fixed basis,
        ".safetensors" for the trained variables of any other model.
      model: that was trained.
      bits: of each coordinate.
    """
    if isinstance(model, rb.SubspaceModel) and model.redraw_every is None:
        return model.export_compressed(f"{path}.rb", bits)
    trained = model.model if isinstance(model, rb.SubspaceModel) else model
    arrays = {keras_api.path_of(each): each.numpy() for each in trained.trainable_variables}
    return safetensors.write(f"{path}.safetensors", arrays, {})


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's function returns that is called in a new process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measured(fit: Callable[[List[keras.callbacks.Callback]], Any]) -> Dict[str, float]:
    """What a training takes; to be called in a process of its own, before which no other model was trained.

    Args:
      fit: a function that trains, with the callbacks that it is given.

    Returns:
      `seconds`, wall-clock time; `cpu_seconds`, those of all threads; both with what is built first;
      `cpu_seconds_per_epoch`, the median of the epochs but the first; `megabytes`, the peak of resident
      memory above that before.
    """
    epochs = _Epochs()
    machine.forget_peak()
    before, start, cpu_start = machine.resident_megabytes(), time.perf_counter(), time.process_time()
    fit([epochs])
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "cpu_seconds_per_epoch": float(np.median(np.diff(epochs.ends))),
        "megabytes": machine.peak_megabytes() - before,
    }


class _Epochs(keras.callbacks.Callback):
    """Notes the processor time at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.ends: List[float] = []

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        self.ends.append(time.process_time())


def cells(result: Dict[str, Any], accuracies: Sequence[str]) -> Dict[str, str]:
    """A result as a row of the table.

    Args:
      result: `method`, `trained` (numbers), `bytes` of its file (None: there is none), those of `accuracies`,
        fractions, and what `measured` gives, unless nothing was trained.
      accuracies: keys of `result`, which are the columns' headings, too.
    """
    row = {"method": result["method"], "trained numbers": f"{result['trained']:,}"}
    row.update({name: f"{100 * result[name]:.1f}%" for name in accuracies})
    row["CPU s an epoch"] = f"{result['cpu_seconds_per_epoch']:.1f}" if "cpu_seconds" in result else "-"
    row["peak MB"] = f"{result['megabytes']:.0f}" if "megabytes" in result else "-"
    row["file, bytes"] = "-" if result["bytes"] is None else f"{result['bytes']:,}"
    return row


def write(
    directory: Path,
    name: str,
    title: str,
    found: Sequence[Dict[str, Any]],
    accuracies: Sequence[str],
    settings: Dict[str, Any],
) -> None:
    """Prints the table of an example; writes `<name>.json`, with machine and time, and `<name>.png`.

    Args:
      directory: where to; it is made.
      name: of the files.
      title: above the figure.
      found: the results; see `cells`.
      accuracies: keys of the results; the first is the figure's.
      settings: what the results were made with.
    """
    directory.mkdir(parents=True, exist_ok=True)
    print(results.format_table([cells(each, accuracies) for each in found]))
    content = {
        "machine": machine.description(),
        "settings": settings,
        "cpu_seconds_in_all": sum(os.times()[:4]),  # with all processes that have ended
        "results": list(found),
    }
    results.write_json(directory / f"{name}.json", content)
    figure(directory / f"{name}.png", title, found, accuracies[0])
    print(f"\nFigure: {directory / name}.png\nData:   {directory / name}.json")


def figure(path: Path, title: str, found: Sequence[Dict[str, Any]], accuracy: str) -> None:
    """Draws accuracy, a key of the results, against the size of the file that each method leaves."""
    points = [
        panels.line(each["method"], [round(each["bytes"] / 1000, 1)], [100 * each[accuracy]], style="points")
        for each in found
        if each["bytes"] is not None
    ]
    axes = panels.panel(title, "size of the file (kB)", f"{accuracy} (%)", points, xscale="log")
    panels.draw([axes], path)
