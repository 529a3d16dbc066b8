"""Recorded weights on disk: a directory of snapshots with an index.

| file                 | content                                                                     |
| -------------------- | --------------------------------------------------------------------------- |
| `index.json`         | the variables' paths and shapes, the architecture's hash, what layers       |
|                      | learned by `adapt`, the snapshots with their files' hashes, its own hash    |
| `weights-<step>.npy` | the trainable weights, one after the other: float32 or float16 [D]          |
| `state-<step>.npz`   | all other variables (moving statistics, frozen weights, states of seeds)    |

Every file is written beside its place and then moved there, the index last. So whenever a process is
killed, the index names whole files only.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List, Sequence, Union

import numpy as np

from random_bases import files, keras_api
from random_bases.keras_api import keras
from random_bases.tensors import size_of

FORMAT_VERSION = 2
DTYPES = ("float32", "float16")
INDEX = "index.json"
_SNAPSHOT_FILE = re.compile(r"weights-\d{10}\.npy|state-\d{10}\.npz")


class TrajectoryError(ValueError):
    """A recorded trajectory cannot be used: it is damaged, incomplete or another model's."""


class Trajectory(Sequence):
    """The snapshots in a directory, in the order of training; a slice is a `Trajectory`, too.

    Args:
      directory: where a `TrajectoryRecorder` wrote.

    Raises:
      TrajectoryError: naming the file, if one is missing, truncated, altered or of another trajectory:
        every file is read once and compared with the index.

    Example:
    >>> trajectory = rb.Trajectory("runs/sgd/trajectory")
    >>> first_half = trajectory[: len(trajectory) // 2]
    """

    def __init__(self, directory: Union[str, Path]):
        self.directory = Path(directory)
        self._index = read_index(self.directory)
        for snapshot in self._index["snapshots"]:
            for file in snapshot["files"]:
                _verify(self.directory, file)
        self._snapshots = self._index["snapshots"]

    def __len__(self) -> int:
        return len(self._snapshots)

    def __getitem__(self, item):
        if isinstance(item, slice):
            part = object.__new__(Trajectory)
            part.__dict__.update(self.__dict__, _snapshots=self._snapshots[item])
            return part
        return self._weights(self._snapshots[item])

    @property
    def weights(self) -> List[np.ndarray]:
        """The snapshots' weights, memory-mapped and read-only, each [D]."""
        return [self._weights(snapshot) for snapshot in self._snapshots]

    @property
    def steps(self) -> List[int]:
        """The number of weight updates before each snapshot."""
        return [snapshot["step"] for snapshot in self._snapshots]

    def average(self) -> np.ndarray:
        """The plain average of the weights, float32 [D].

        Raises:
          TrajectoryError: if there is no snapshot.
        """
        self._not_empty()
        total = np.zeros(self._index["size"])
        for weights in self.weights:
            total += weights
        return (total / len(self)).astype(np.float32)

    def state(self, index: int) -> List[np.ndarray]:
        """The variables that are not trained, as they were in a snapshot."""
        self._not_empty()
        file = self._snapshots[index]["files"][1]["name"]
        with np.load(self.directory / file, allow_pickle=False) as arrays:
            return [arrays[f"{i}"] for i in range(len(self._index["state"]))]

    @property
    def adapted(self) -> list:
        """What layers of the recorded model had learned by `adapt`: for `restore_adapted`."""
        return self._index.get("adapted", [])  # 0.1.0 wrote none

    def check_model(self, model: keras.Model) -> None:
        """Makes sure that the snapshots are of models of this architecture.

        Raises:
          TypeError, ValueError: if it is no built Keras model.
          TrajectoryError: if variables differ in number, order, shape or type.
        """
        keras_api.check_built(model)
        self._not_empty()
        found = describe(model)
        if found["architecture_sha256"] != self._index["architecture_sha256"]:
            raise TrajectoryError(
                f"{self.directory} is the trajectory of another architecture: its weights are "
                f"{self._index['variables']} and its state {self._index['state']}, those of "
                f"model={model.name!r} {found['variables']} and {found['state']}."
            )

    def _weights(self, snapshot: Dict[str, Any]) -> np.ndarray:
        return np.load(self.directory / snapshot["files"][0]["name"], mmap_mode="r")

    def _not_empty(self) -> None:
        if not self._snapshots:
            raise TrajectoryError(f"{self.directory}: no snapshots; at least one is needed.")


def opened(trajectory: Union[Trajectory, str, Path]) -> Trajectory:
    """`trajectory`, or the one in that directory.

    Raises:
      TypeError: if it is neither.
      TrajectoryError: as `Trajectory`.
    """
    if isinstance(trajectory, Trajectory):
        return trajectory
    if not isinstance(trajectory, (str, os.PathLike)):
        raise TypeError(f"trajectory={trajectory!r} must be a Trajectory or the directory of one.")
    return Trajectory(trajectory)


class TrajectoryWriter:
    """Adds snapshots of a model to a directory, and takes them away.

    Args:
      directory: is made if absent.
      model: a built model.
      dtype: of the weights on disk, "float32" or "float16".

    Raises:
      ValueError: for another dtype, or if the directory holds a trajectory of another one.
      TrajectoryError: if it holds a trajectory of another architecture.
    """

    def __init__(self, directory: Union[str, Path], model: keras.Model, dtype: str):
        self.directory = Path(directory)
        self.model = model
        self._index = {
            "format_version": FORMAT_VERSION,
            "dtype": dtype,
            **describe(model),
            "adapted": keras_api.adapted_state(model),
            "snapshots": [],
        }
        if (self.directory / INDEX).exists():
            found = Trajectory(self.directory)
            if len(found):
                found.check_model(model)
                if found._index["dtype"] != dtype:
                    raise ValueError(
                        f"dtype={dtype!r} differs from that of {self.directory}: {found._index['dtype']!r}."
                    )
                self._index["snapshots"] = found._index["snapshots"]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._keep(self._index["snapshots"])

    @property
    def steps(self) -> List[int]:
        """The steps of the snapshots there are."""
        return [snapshot["step"] for snapshot in self._index["snapshots"]]

    @property
    def epochs(self) -> List[int]:
        """The number of epochs begun at each."""
        return [snapshot["epoch"] for snapshot in self._index["snapshots"]]

    def append(self, step: int, epoch: int, most: int = 0) -> None:
        """Writes a snapshot of the model.

        Args:
          step: the number of weight updates so far.
          epoch: the number of epochs begun, as Keras counts them.
          most: the number of snapshots to keep, the last ones; 0: all.

        Raises:
          ValueError: naming the variable, if a weight is not finite, or too large for float16.
        """
        variables, state = split_variables(self.model)
        weights = np.empty(self._index["size"], self._index["dtype"])
        begin = 0
        for variable in variables:
            values = np.asarray(variable.numpy()).ravel()
            with np.errstate(over="ignore"):
                weights[begin : begin + values.size] = values
            if not np.isfinite(weights[begin : begin + values.size]).all():
                raise ValueError(
                    f"{keras_api.path_of(variable)!r} has values at step {step} that are not finite in "
                    f"dtype={self._index['dtype']!r}."
                )
            begin += values.size
        arrays: Dict[str, Any] = {f"{i}": np.asarray(variable.numpy()) for i, variable in enumerate(state)}
        written = [
            self._write(f"weights-{step:010d}.npy", lambda file: np.save(file, weights)),
            self._write(f"state-{step:010d}.npz", lambda file: np.savez(file, **arrays)),
        ]
        others = [snapshot for snapshot in self._index["snapshots"] if snapshot["step"] != step]
        self._keep([*others, {"step": step, "epoch": epoch, "files": written}][-most:])

    def drop_after(self, step: int) -> None:
        """Takes away what was recorded after update `step`."""
        self._keep([snapshot for snapshot in self._index["snapshots"] if snapshot["step"] <= step])

    def _keep(self, snapshots: List[Dict[str, Any]]) -> None:
        """Makes these the trajectory: writes the index, then deletes files that it does not name."""
        self._index["snapshots"] = snapshots
        content = json.dumps({**self._index, "sha256": _hash(self._index)}, indent=1)
        files.write(self.directory / INDEX, content)
        named = {file["name"] for snapshot in snapshots for file in snapshot["files"]}
        for path in self.directory.iterdir():
            if _SNAPSHOT_FILE.fullmatch(path.name) and path.name not in named:
                path.unlink()
        files.remove_temporaries(self.directory)

    def _write(self, name: str, write) -> Dict[str, Any]:
        """Writes a file that is never seen half-written; returns how the index describes it."""
        path = self.directory / name
        with files.replacing(path) as file:
            write(file)
        return {"name": name, "bytes": path.stat().st_size, "sha256": files.sha256_of_file(path)}


def split_variables(model: keras.Model):
    """(the trainable variables of a model, all others)."""
    trained = list(model.trainable_variables)
    ids = {id(variable) for variable in trained}
    return trained, [variable for variable in keras_api.variables_of(model) if id(variable) not in ids]


def describe(model: keras.Model) -> Dict[str, Any]:
    """What an index says of a model. Paths do not count: Keras numbers them by what else was built."""
    trained, state = split_variables(model)
    variables, others = (
        [(keras_api.path_of(v), _dtype(v), [int(n) for n in v.shape]) for v in part]
        for part in (trained, state)
    )
    shapes = json.dumps([[each[1:] for each in part] for part in (variables, others)])
    return {
        "size": sum(size_of(shape) for _, _, shape in variables),
        "variables": variables,
        "state": others,
        "architecture_sha256": hashlib.sha256(shapes.encode("utf-8")).hexdigest(),
    }


def unflatten(vector: np.ndarray, variables: Sequence) -> List[np.ndarray]:
    """The parts of a vector [D] in the shapes of variables."""
    shapes = [tuple(variable.shape) for variable in variables]
    ends = np.cumsum([size_of(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(np.asarray(vector), ends), shapes)]


def set_weights(
    model: keras.Model, vector: np.ndarray, state: Sequence[np.ndarray], adapted: Sequence = ()
) -> None:
    """Sets a model's trainable weights, [D], its other variables, and what its layers have learned."""
    variables, others = split_variables(model)
    for variable, value in zip([*variables, *others], [*unflatten(vector, variables), *state]):
        variable.assign(value)
    keras_api.restore_adapted(model, adapted)


def read_index(directory: Path) -> Dict[str, Any]:
    """The content of a directory's index.

    Raises:
      TrajectoryError: if there is none, or it is not an index.
    """
    path = directory / INDEX
    if not path.exists():
        raise TrajectoryError(f"{directory} holds no trajectory: it has no {INDEX}.")
    try:
        index = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as error:  # no UTF-8, or no JSON
        raise TrajectoryError(f"{path} is damaged: {error}.") from error
    if not isinstance(index, dict) or index.get("format_version") != FORMAT_VERSION:
        raise TrajectoryError(
            f"{path} is not an index of format_version={FORMAT_VERSION}: it is damaged, or of another "
            "version of random_bases (0.1.0 has 1)."
        )
    if index.pop("sha256", None) != _hash(index):
        raise TrajectoryError(f"{path} is altered: it does not have the hash that it names.")
    return index


def _hash(index: Dict[str, Any]) -> str:
    """Of an index's content, however it is spaced; in hexadecimal digits."""
    content = json.dumps(index, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _dtype(variable) -> str:
    return str(np.dtype(variable.numpy().dtype))


def _verify(directory: Path, file: Dict[str, Any]) -> None:
    path = directory / file["name"]
    if not path.exists():
        raise TrajectoryError(f"{path} is missing.")
    size = path.stat().st_size
    if size < file["bytes"]:
        raise TrajectoryError(f"{path} is truncated: {size} bytes of {file['bytes']}.")
    if size != file["bytes"] or files.sha256_of_file(path) != file["sha256"]:
        raise TrajectoryError(f"{path} is altered or of another trajectory: it is not what the index names.")
