"""Trained models in a few bytes: a seed, coordinates and the hash of the weights they start from.

A network that was trained in a subspace is theta0 + P c. A seed gives theta0 again, another P; so c and
the seed are all that a file must hold (Li et al. 2018, arXiv:1804.08838).

The file, in order: 8 bytes of magic; the length of the header, 4 bytes, little-endian; the header, JSON
in UTF-8; the coordinates, float32, and the variables that are state, all row-major and little-endian;
the SHA-256 of everything before.
"""

import hashlib
import logging
import os
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from random_bases import arguments, bases, files, keras_api
from random_bases.keras_api import keras
from random_bases.models import linear_layers
from random_bases.models.parametrisation import Parametrisation
from random_bases.sampling import STREAM_VERSION

MAGIC = b"RNDBASES"
FORMAT_VERSION = 1


class CompressedFileError(ValueError):
    """A compressed file cannot be loaded; the subclasses say why."""


class DamagedFileError(CompressedFileError):
    """The file is not one of this kind, is truncated or was altered."""


class StreamVersionError(CompressedFileError):
    """The file is for other random streams, or of another format, than this version's."""


class ArchitectureError(CompressedFileError):
    """The model's variables differ from the exported model's in number, shape or dtype."""


class InitialWeightsError(CompressedFileError):
    """The model's weights are not those from which the exported model was trained."""


def save(path: str, parametrisation: Parametrisation, model: keras.Model, coordinates: np.ndarray) -> int:
    """Writes a compressed file: see `SubspaceModel.export_compressed`."""
    generator = getattr(parametrisation.basis, "generator", "counter")
    if generator != "counter":
        raise ValueError(
            f"basis={parametrisation.basis!r} has generator={generator!r}, whose samples depend on the "
            'device; allowed: "counter".'
        )
    initial, state = _initial_and_state(model)
    weights = keras_api.weights_of(model)
    arrays = [coordinates, *_arrays(state)]
    header = {
        "format_version": FORMAT_VERSION,
        "stream_version": STREAM_VERSION,
        **parametrisation.get_config(),
        "compartment_sizes": list(parametrisation.subspace.compartment_sizes),
        "trained": [_position(variable, weights) for variable in parametrisation.variables],
        "variables": keras_api.describe(weights),
        "adapted": keras_api.adapted_state(model),
        "theta0_sha256": files.sha256_of_arrays(_arrays(initial), described=True),
    }
    content = files.packed(MAGIC, header) + b"".join(array.tobytes() for array in arrays)
    content += hashlib.sha256(content).digest()
    files.write(path, content)
    size = sum(array.nbytes for array in _arrays(weights))
    logging.getLogger("random_bases").info(
        "%s: %d bytes, %.0f times fewer than the %d of the weights",
        path,
        len(content),
        size / len(content),
        size,
    )
    return len(content)


def load_compressed(path: str, model: keras.Model) -> keras.Model:
    """Turns an untrained model into the trained one that was exported.

    `model` must be what was wrapped in the `SubspaceModel`: of the same architecture, with the same
    weights. A seeded initialisation gives these in any process: call `keras.utils.set_random_seed(seed)`
    before the model is built, both times. So does loading them from a file. Their hash tells whether
    they are the same.

    Args:
      path: a file that `SubspaceModel.export_compressed` wrote.
      model: a built Keras model, whose weights are taken for theta0.

    Returns:
      `model` itself, changed in place: its weights are theta0 + P c, its non-trainable state (moving
      statistics) is the exported model's. It predicts what `SubspaceModel.materialize()` did, bit for
      bit on the same machine with the same TensorFlow.

    Raises:
      DamagedFileError: if the file is not of this kind, is truncated or was altered.
      StreamVersionError: if it is for other random streams, or of another format.
      ArchitectureError: if the model's variables differ in number, shape or dtype.
      InitialWeightsError: if the model's weights are not those the exported model started from.
      OSError: if the file cannot be read.
      TypeError, ValueError: if `model` is not a built Keras model.

    The first four are `CompressedFileError`s, and so ValueErrors. If any is raised, the model is as it was.

    Example:
    >>> keras.utils.set_random_seed(0)
    >>> model = rb.load_compressed("trained.rb", build_model())
    """
    keras_api.check_built(model)
    header, data = _read(os.fspath(path))
    for name, expected in (("format_version", FORMAT_VERSION), ("stream_version", STREAM_VERSION)):
        if header.get(name) != expected:
            raise StreamVersionError(
                f"path={path!r} has {name}={header.get(name)!r}; this random_bases reads {expected} only."
            )
    with files.shaped(f"path={path!r}", DamagedFileError):
        _load(path, header, data, model)
    return model


def _load(path: str, header: Dict[str, Any], data: bytes, model: keras.Model) -> None:
    """`load_compressed`, of a file whose checksum is right; its header may be forged."""
    weights = keras_api.weights_of(model)
    described = keras_api.describe(weights)
    if described != header["variables"]:
        raise ArchitectureError(
            f"model={model.name!r} has variables {described}; path={path!r} needs {header['variables']}."
        )
    initial, state = _initial_and_state(model)
    if files.sha256_of_arrays(_arrays(initial), described=True) != header["theta0_sha256"]:
        raise InitialWeightsError(
            f"model={model.name!r} does not have the weights from which the model in path={path!r} was "
            "trained: initialise it with the same seed, or load them, and do not train it before."
        )
    basis = header["basis"]
    for name in ("dimensions", "seed"):  # None would have another one drawn
        arguments.integer(name, header[name], 0)
    for position in header["trained"]:
        arguments.integer("trained", position, 0, len(weights) - 1)
    variables = [weights[position] for position in header["trained"]]
    parametrisation = Parametrisation(
        variables,
        header["dimensions"],
        bases.deserialize(basis) if isinstance(basis, dict) else basis,
        header["compartments"],
        header["allocation"],
        header["seed"],
        linear_layers.matrices(linear_layers.of(model, variables), variables),
    )
    sizes = list(parametrisation.subspace.compartment_sizes)
    if sizes != header["compartment_sizes"]:
        raise ArchitectureError(
            f"model={model.name!r} has compartments of {sizes} parameters; path={path!r} needs "
            f"{header['compartment_sizes']}: its variables are grouped into layers differently."
        )
    like = [np.zeros(header["dimensions"], np.float32), *_arrays(state)]
    coordinates, *values = _split(data, like)
    theta = parametrisation.theta(tf.constant(coordinates))
    for variable, value in zip([*parametrisation.variables, *state], [*theta, *values]):
        variable.assign(value)
    keras_api.restore_adapted(model, header.get("adapted", []))  # 0.1.0 wrote none


def _initial_and_state(model: keras.Model) -> Tuple[list, list]:
    """The variables that an initialisation gives again, and those that training has changed anyhow."""
    ids = {id(variable) for variable in keras_api.parameters_of(model)}
    weights = keras_api.weights_of(model)
    return [v for v in weights if id(v) in ids], [v for v in weights if id(v) not in ids]


def _arrays(variables: Sequence) -> List[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]


def _position(variable, variables: Sequence) -> int:
    return next(i for i, each in enumerate(variables) if each is variable)


def _split(data: bytes, like: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Arrays of the shapes and dtypes of others, one after the other."""
    arrays, begin = [], 0
    if len(data) != sum(each.nbytes for each in like):
        raise ValueError(f"{len(data)} bytes of values; needed: {sum(each.nbytes for each in like)}.")
    for each in like:
        array = np.frombuffer(data, each.dtype, each.size, begin)
        arrays.append(array.reshape(each.shape))
        begin += each.nbytes
    return arrays


def _read(path: str) -> Tuple[Dict[str, Any], bytes]:
    """The header and what follows it, once the checksum has been found right."""
    with open(path, "rb") as file:
        content = file.read()
    if not content.startswith(MAGIC):
        raise DamagedFileError(f"path={path!r} is not a file that export_compressed wrote.")
    body, checksum = content[: -files.HASH_SIZE], content[-files.HASH_SIZE :]
    if hashlib.sha256(body).digest() != checksum:
        raise DamagedFileError(f"path={path!r} is truncated or was altered: its checksum does not match.")
    with files.shaped(f"path={path!r}", DamagedFileError):
        return files.header(body, MAGIC), body[files.end_of_header(body, MAGIC) :]
