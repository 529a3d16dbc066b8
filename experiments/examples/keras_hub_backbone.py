"""One vector over LoRA in the attention of a KerasHub backbone: trained, exported, loaded and swapped.

python -m experiments.examples.keras_hub_backbone [--workdir=runs/examples] [--epochs=20]

A BERT of two layers, width 64, with random weights (`from_preset` has pretrained ones, which it downloads),
`enable_lora(4)` of KerasHub itself, and a head for two classes. Two tasks on random tokens are learned in
200 coordinates each: whether most tokens are of the first half of the vocabulary, "low", and whether most
have even numbers.

What came out (one core of an AMD EPYC, 2026-11-30): the model of 80,962 numbers
takes 329,400 bytes, LoRA and the head, 4,738 numbers, 20,520, and each task's file 1,029. With the file
"low" in its weights the model is right on 86.3% of new examples of that task and 54.3% of the other, with
"even" on 55.3% and 80.2%; its scores are those of the trained model. A swap takes 3.8 ms, a training step
11 (processor time).

Needs Keras 3, Python 3.11 and the extra `[examples]`. Writes keras_hub_backbone.json and .png into the
working directory. Exit status: as of scripts/train.py.
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

import random_bases as rb
from experiments import exit_status, machine, results
from experiments.examples import comparison
from experiments.figures import panels
from random_bases import arguments
from random_bases.keras_api import keras, set_random_seed

VOCABULARY, LENGTH = 64, 16
RANK, DIMENSIONS = 4, 200
BATCH, EXAMPLES = 50, 2000
TASKS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "low": lambda tokens: (tokens < VOCABULARY // 2).mean(axis=1) > 0.5,
    "even": lambda tokens: (tokens % 2 == 0).mean(axis=1) > 0.5,
}


def build(seed: int = 0) -> keras.Model:
    """The base: the same weights and factors for the same seed; factors and the head's weights train."""
    import keras_hub  # slow to import, and of an extra

    set_random_seed(seed)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=2,
        num_heads=4,
        hidden_dim=64,
        intermediate_dim=128,
        dropout=0.0,
        max_sequence_length=LENGTH,
    )
    backbone.enable_lora(RANK)  # of queries and values; freezes all else
    tokens = backbone(backbone.input)["sequence_output"]
    scores = keras.layers.Dense(2, name="head")(keras.layers.GlobalAveragePooling1D()(tokens))
    return compiled(keras.Model(backbone.input, scores))


def compiled(model: keras.Model) -> keras.Model:
    """A model that can be trained and evaluated; of a `SubspaceModel`, Adam moves the coordinates."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss, metrics=["accuracy"], jit_compile=False)
    return model


def examples(task: str, seed: int) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """Random tokens and a task's labels, 0 or 1."""
    tokens = np.random.RandomState(seed).randint(VOCABULARY, size=[EXAMPLES, LENGTH]).astype(np.int32)
    zeros, ones = np.zeros_like(tokens), np.ones_like(tokens)
    inputs = {"token_ids": tokens, "segment_ids": zeros, "padding_mask": ones}
    return inputs, TASKS[task](tokens).astype(np.int32)


def run(workdir: Path, epochs: int = 20) -> Dict[str, Any]:
    """Trains, exports, loads and swaps.

    Args:
      workdir: where the files go.
      epochs: of training for each task.

    Returns:
      `parameters` and `model_bytes` of the whole model; `lora_numbers` and `lora_bytes` of what trains in
      it; `vector_bytes` of each task's file; `accuracy` on new examples, by what is in the weights and by
      task; `difference`, the largest of scores between what was trained and what is loaded; `step_seconds`
      of a training step and `swap_seconds`, medians of processor time.

    Raises:
      ValueError: with a Keras that has no LoRA.
      ImportError: without KerasHub.
    """
    comparison.require_lora()
    arguments.integer("epochs", epochs, 1)
    workdir.mkdir(parents=True, exist_ok=True)
    base = build()
    x, _ = examples("low", seed=2)
    found: Dict[str, Any] = {
        "parameters": comparison.size(base.weights),
        "model_bytes": rb.save_safetensors(workdir / "model.safetensors", base),
        "lora_numbers": comparison.size(base.trainable_variables),
        "lora_bytes": comparison.saved(workdir / "lora", base),
        "vector_bytes": {},
    }
    trained = {}
    for task in TASKS:
        sub = compiled(rb.SubspaceModel(build(), DIMENSIONS, basis="hadamard", seed=0))
        sub.fit(*examples(task, seed=1), batch_size=BATCH, epochs=epochs, verbose=0)
        found["vector_bytes"][task] = comparison.saved(workdir / task, sub)
        trained[task] = sub.predict(x, batch_size=EXAMPLES, verbose=0)
        found["step_seconds"] = _seconds(partial(sub.train_on_batch, *_first(*examples(task, seed=1))))
    adapters = rb.Adapters(base)
    for task in TASKS:
        adapters.load(task, workdir / f"{task}.rb")
    found["accuracy"] = {}
    for name in (None, *TASKS):
        adapters.use(name)
        if name is not None:
            again = base.predict(x, batch_size=EXAMPLES, verbose=0)
            found["difference"] = max(found.get("difference", 0.0), float(abs(again - trained[name]).max()))
        found["accuracy"][name or "base"] = {
            task: float(base.evaluate(*examples(task, seed=2), batch_size=EXAMPLES, verbose=0)[1])
            for task in TASKS
        }
    found["swap_seconds"] = _seconds(lambda: [adapters.use(task) for task in TASKS]) / len(TASKS)
    return found


def _first(inputs: Dict[str, np.ndarray], labels: np.ndarray) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """The first batch."""
    return {name: array[:BATCH] for name, array in inputs.items()}, labels[:BATCH]


def _seconds(function: Callable[[], Any], repeats: int = 15) -> float:
    """Median processor time of a call, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


@exit_status.reporting
def main(argv: List[str]) -> None:
    """Runs the example and prints what came out."""
    parser = comparison.parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20, help="of training for each task")
    flags = parser.parse_args(argv)
    workdir = Path(flags.workdir)
    found = run(workdir, flags.epochs)
    files = {"the whole model": (found["parameters"], found["model_bytes"])}
    files["LoRA and head"] = (found["lora_numbers"], found["lora_bytes"])
    files.update((f"one vector, {task}", (DIMENSIONS, size)) for task, size in found["vector_bytes"].items())
    print(results.format_table([
        {"what": what, "numbers": f"{numbers:,}", "bytes": f"{size:,}"}
        for what, (numbers, size) in files.items()
    ]))  # fmt: skip
    print()
    print(results.format_table([
        {"in the weights": name, **{task: f"{100 * value:.1f}%" for task, value in accuracy.items()}}
        for name, accuracy in found["accuracy"].items()
    ]))  # fmt: skip
    points = [
        panels.line(what, [numbers], [round(size / 1000, 1)], style="points")
        for what, (numbers, size) in files.items()
    ]
    axes = panels.panel("What is stored", "numbers", "size of the file (kB)", points, "log", "log")
    panels.draw([axes], workdir / "keras_hub_backbone.png")
    swap, step = 1e3 * found["swap_seconds"], 1e3 * found["step_seconds"]
    print(f"\nA swap takes {swap:.1f} ms, a training step {step:.1f} ms of processor time.")
    results.write_json(workdir / "keras_hub_backbone.json", {"machine": machine.description(), **found})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
