"""Trained models in a few bytes: a seed, coordinates and the hash of the weights they start from.

A network that was trained in a subspace is theta0 + P c. A seed gives theta0 again, another P; so c and
the seed are all that a file must hold (Li et al. 2018, arXiv:1804.08838).

The file, in order: 8 bytes of magic; the length of the header, 4 bytes, little-endian; the header, JSON
in UTF-8, deflated (RFC 1950, with a preset dictionary); the coordinates, float32, and the variables that are
state, all row-major and little-endian; the SHA-256 of everything before.

Coordinates of 8 or 4 bits are integers, int8, times the header's scale: 4 bytes of length, and that many of a
Huffman code (RFC 1951, without matches).

State is what training changes beside the trained weights: moving statistics. Frozen weights are in the hash,
and so are quantised ones with their scales. Format 1 had those among the state, and its header as it is.

A file that ends in .safetensors is of that format: arrays "coordinates", "state.0" and so on; the header and
the SHA-256 of header and arrays are its metadata.
"""

import hashlib
import json
import logging
import os
import zlib
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import tensorflow as tf

from random_bases import arguments, bases, files, keras_api, safetensors
from random_bases.keras_api import keras
from random_bases.models import tapping
from random_bases.models.parametrisation import Parametrisation
from random_bases.sampling import STREAM_VERSION

MAGIC = b"RNDBASES"
FORMAT_VERSION = 2
BITS = (4, 8, 32)
_READ = (1, 2)
# What deflating begins with, part of format 2: never change it.
_DICTIONARY = (
    b'"adapted":[null,"compartment_sizes":[bfloat16[float16[int8[uint8[,"int8[],"int32[]","float32[],"float32['
    b'{"format_version":2,"stream_version":1,"dimensions":1000,"basis":"normal","basis":"partition",'
    b'"basis":"hadamard","compartments":"layer","compartments":null,"allocation":"proportional",'
    b'"allocation":null,"seed":0,"trained":[0,1,2,3,4,5,6,7,8,9,10,11,12,13],"theta0_sha256":"'
)
_LONGEST_HEADER = 2**26  # bytes; what a forged file may have inflated


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


def save(
    path: files.AnyPath,
    parametrisation: Parametrisation,
    model: keras.Model,
    coordinates: np.ndarray,
    bits: int = 32,
) -> int:
    """Writes a compressed file: see `SubspaceModel.export_compressed`."""
    arguments.check(arguments.integer("bits", bits, 1) in BITS, "bits", bits, f"one of {BITS}")
    generator = getattr(parametrisation.basis, "generator", "counter")
    if generator != "counter":
        raise ValueError(
            f"basis={parametrisation.basis!r} has generator={generator!r}, whose samples depend on the "
            'device; allowed: "counter".'
        )
    base = Base(model)
    state, weights = base.state(FORMAT_VERSION), base.weights
    scale, coordinates = _quantized(coordinates, bits)
    arrays = [coordinates, *_arrays(state)]
    header = {
        "format_version": FORMAT_VERSION,
        "stream_version": STREAM_VERSION,
        **parametrisation.get_config(),
        "trained": [_position(variable, weights) for variable in parametrisation.variables],
        "variables": base.described,
        "theta0_sha256": base.sha256(FORMAT_VERSION),
    }
    if bits < 32:
        header["scale"] = scale
    adapted = keras_api.adapted_state(model)
    if any(state is not None for state in adapted):
        header["adapted"] = adapted
    if parametrisation.compartments == "layer":  # what else there is tells those of all other kinds
        header["compartment_sizes"] = list(parametrisation.subspace.compartment_sizes)
    text = json.dumps(header, default=float, separators=(",", ":"))
    written = (_write_safetensors if _is_safetensors(path) else _write)(path, text, arrays)
    size = sum(array.nbytes for array in _arrays(weights))
    logging.getLogger("random_bases").info(
        "%s: %d bytes, %.0f times fewer than the %d of the weights", path, written, size / written, size
    )
    return written


def _write(path: files.AnyPath, header: str, arrays: Sequence[np.ndarray]) -> int:
    deflated = _deflated(header.encode("utf-8"))
    content = MAGIC + len(deflated).to_bytes(4, "little") + deflated
    content += _coded(arrays[0]) + b"".join(array.tobytes() for array in arrays[1:])
    content += hashlib.sha256(content).digest()
    files.write(path, content)
    return len(content)


def _quantized(coordinates: np.ndarray, bits: int) -> Tuple[float, np.ndarray]:
    """(s, q): coordinates s q, with integers q of so many bits, int8; (1, coordinates) of 32."""
    if bits == 32:
        return 1.0, coordinates
    largest = 2 ** (bits - 1) - 1
    scale = np.float32(np.abs(coordinates).max() / largest)
    if not np.isfinite(scale):
        raise ValueError(f"coordinates are not finite; allowed with bits={bits}: finite ones.")
    rounded = np.rint(coordinates / (scale or np.float32(1)))
    return float(scale), np.clip(rounded, -largest, largest).astype(np.int8)


def _coded(coordinates: np.ndarray) -> bytes:
    """Float32 as they are; integers by a Huffman code, which `zlib` has, after 4 bytes of its length."""
    if coordinates.dtype != np.int8:
        return coordinates.tobytes()
    coder = zlib.compressobj(9, wbits=-15, strategy=zlib.Z_HUFFMAN_ONLY)
    coded = coder.compress(coordinates.tobytes()) + coder.flush()
    return len(coded).to_bytes(4, "little") + coded


def _decoded(data: bytes, count: int) -> bytes:
    """`data`, in which integers that `_coded` made shorter are whole again."""
    end = 4 + int.from_bytes(data[:4], "little")
    try:
        integers = zlib.decompressobj(wbits=-15).decompress(data[4:end], count)
    except zlib.error as error:
        raise ValueError(f"its coordinates cannot be decoded: {error}") from error
    return integers + data[end:]


def _is_safetensors(path: files.AnyPath) -> bool:
    return os.fspath(path).endswith(".safetensors")


def _write_safetensors(path: files.AnyPath, header: str, arrays: Sequence[np.ndarray]) -> int:
    named = dict(zip(["coordinates", *(f"state.{i}" for i in range(len(arrays) - 1))], arrays))
    data = b"".join(array.tobytes() for array in arrays)
    return safetensors.write(path, named, {"random_bases": header, "sha256": _checksum(header, data)})


def _read_safetensors(path: str) -> Tuple[Dict[str, Any], bytes]:
    try:
        arrays, metadata = safetensors.read(path)
    except safetensors.SafetensorsError as error:
        raise DamagedFileError(str(error)) from error
    with files.shaped(f"path={path!r}", DamagedFileError):
        names = ["coordinates", *(f"state.{i}" for i in range(len(arrays) - 1))]
        data = b"".join(arrays[name].tobytes() for name in names)
        if _checksum(metadata["random_bases"], data) != metadata["sha256"]:
            raise DamagedFileError(f"path={path!r} was altered: its checksum does not match.")
        return json.loads(metadata["random_bases"]), data


def _checksum(header: str, data: bytes) -> str:
    return hashlib.sha256(header.encode("utf-8") + data).hexdigest()


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
    loaded = read(path, Base(model))
    theta = loaded.parametrisation.theta(tf.constant(loaded.coordinates))
    for variable, value in [*zip(loaded.parametrisation.variables, theta), *loaded.state]:
        variable.assign(value)
    keras_api.restore_adapted(model, loaded.adapted)
    return model


class Base:
    """A model's weights, onto which files are loaded, and their hashes, taken when this is made.

    Args:
      model: a built Keras model.

    Raises:
      TypeError, ValueError: if it is none.
    """

    def __init__(self, model: keras.Model):
        keras_api.check_built(model)
        self.model = model
        self.weights = keras_api.weights_of(model)
        self.described = keras_api.describe(self.weights)
        parameters, quantized = (
            {id(v) for v in found}
            for found in (keras_api.parameters_of(model), keras_api.quantized_of(model))
        )
        self._hashed = {1: parameters, 2: parameters | quantized}
        self._hashes = {version: self._sha256(version) for version in _READ if quantized or version == 2}

    def state(self, version: int) -> List[Any]:
        """The variables whose values a file of this format has."""
        return [v for v in self.weights if id(v) not in self._hashed[version]]

    def sha256(self, version: int) -> str:
        """The hash of all other variables: what an initialisation, or another file, gives again."""
        return self._hashes.get(version, self._hashes[2])

    def _sha256(self, version: int) -> str:
        hashed = [v for v in self.weights if id(v) in self._hashed[version]]
        return files.sha256_of_arrays(_arrays(hashed), described=True)


class Loaded(NamedTuple):
    """What a file adds to a base.

    Attributes:
      parametrisation: of the variables that were trained.
      coordinates: float32 [d].
      state: variables and their values.
      adapted: what layers learned by `adapt`: see `keras_api.adapted_state`.
    """

    parametrisation: Parametrisation
    coordinates: np.ndarray
    state: List[Tuple[Any, np.ndarray]]
    adapted: List[Any]


def read(path: files.AnyPath, base: Base) -> Loaded:
    """A file that `SubspaceModel.export_compressed` wrote, for a model; raises as `load_compressed`."""
    path = os.fspath(path)
    header, data = _read(path)
    for name, allowed in (("format_version", _READ), ("stream_version", (STREAM_VERSION,))):
        if header.get(name) not in allowed:
            versions = " and ".join(map(str, allowed))
            raise StreamVersionError(
                f"path={path!r} has {name}={header.get(name)!r}; this random_bases reads {versions} only."
            )
    with files.shaped(f"path={path!r}", DamagedFileError):
        return _loaded(path, header, data, base)


def _loaded(path: str, header: Dict[str, Any], data: bytes, base: Base) -> Loaded:
    """`read`, of a file whose checksum is right; its header may be forged."""
    model, weights, version = base.model, base.weights, header["format_version"]
    if base.described != header["variables"]:
        raise ArchitectureError(
            f"model={model.name!r} has variables {base.described}; path={path!r} needs {header['variables']}."
        )
    if base.sha256(version) != header["theta0_sha256"]:
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
        tapping.matrices(tapping.of(model, variables), variables),
    )
    sizes = list(parametrisation.subspace.compartment_sizes)
    if sizes != header.get("compartment_sizes", sizes):
        raise ArchitectureError(
            f"model={model.name!r} has compartments of {sizes} parameters; path={path!r} needs "
            f"{header['compartment_sizes']}: its variables are grouped into layers differently."
        )
    state = base.state(version)
    count, scale = header["dimensions"], header.get("scale")
    if scale is not None:
        arguments.number("scale", scale, 0.0)
        data = data if _is_safetensors(path) else _decoded(data, count)
    like = [np.zeros(count, np.float32 if scale is None else np.int8), *_arrays(state)]
    coordinates, *values = _split(data, like)
    if scale is not None:
        coordinates = np.float32(scale) * coordinates.astype(np.float32)
    adapted = header.get("adapted", [])
    return Loaded(parametrisation, coordinates, list(zip(state, values)), adapted)


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
    if _is_safetensors(path):
        return _read_safetensors(path)
    with open(path, "rb") as file:
        content = file.read()
    if not content.startswith(MAGIC):
        raise DamagedFileError(f"path={path!r} is not a file that export_compressed wrote.")
    body, checksum = content[: -files.HASH_SIZE], content[-files.HASH_SIZE :]
    if hashlib.sha256(body).digest() != checksum:
        raise DamagedFileError(f"path={path!r} is truncated or was altered: its checksum does not match.")
    with files.shaped(f"path={path!r}", DamagedFileError):
        end = files.end_of_header(body, MAGIC)
        header = json.loads(_inflated(body[len(MAGIC) + 4 : end]).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("its header is no object of names and values.")
        return header, body[end:]


def _deflated(header: bytes) -> bytes:
    deflater = zlib.compressobj(9, zdict=_DICTIONARY)
    return deflater.compress(header) + deflater.flush()


def _inflated(header: bytes) -> bytes:
    if header.startswith(b"{"):  # format 1
        return header
    inflater = zlib.decompressobj(zdict=_DICTIONARY)
    try:
        inflated = inflater.decompress(header, _LONGEST_HEADER)
    except zlib.error as error:
        raise ValueError(f"its header cannot be inflated: {error}") from error
    if not inflater.eof:
        raise ValueError(f"its header is cut off, or has more than {_LONGEST_HEADER} bytes.")
    return inflated
