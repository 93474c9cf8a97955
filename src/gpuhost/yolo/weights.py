"""Darknet's weight files: a header, then float32 values in the order of the convolutions, and nothing
after them.

Layout (little-endian), from Darknet's own loader: int32 major, minor, revision; the number of images
seen, as uint64 from version 0.2 on and as uint32 before it; then for each convolution its biases, with
batch normalisation also its scales, means and variances, and last its weights (filters, inputs, rows,
columns).
"""

import pathlib
import struct
from typing import Any, Container, Dict, Iterator, Mapping, Sequence, Tuple

import numpy as np

from ..errors import ArtifactError
from .darknet import ConvShape, convolutions
from .networks import Layer

FLOAT = np.dtype("<f4")


class ConvWeights(Dict[str, Any]):
    """One convolution's arrays by name: weights (n, c, k, k), biases (n,), and if normalised scales,
    means, variances (n,).
    """


def header(seen: int = 0) -> bytes:
    """The 20 bytes in front of the values, as version 0.2.5 writes them."""
    return struct.pack("<iiiQ", 0, 2, 5, seen)


def conv_bytes(shape: ConvShape, values: ConvWeights) -> bytes:
    """One convolution's arrays as they lie in the file."""
    names = ["biases"] + (["scales", "means", "variances"] if shape.conv.normalised else []) + ["weights"]
    block = np.concatenate([np.asarray(values[name], dtype=FLOAT).ravel() for name in names])
    if block.size != shape.parameters:
        raise ValueError(f"layer {shape.layer} needs {shape.parameters} values, not {block.size}")
    return bytes(block.tobytes())


def _values_start(path: pathlib.Path) -> int:
    """The offset in bytes of the first value: after 20 bytes of header, or 16 for versions below 0.2."""
    with path.open("rb") as handle:
        start = handle.read(12)
    if len(start) < 12:
        raise _damaged(path, "it ends within its header")
    major, minor, _ = struct.unpack("<iii", start)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise _damaged(path, "its header holds no version")
    return 20 if major * 10 + minor >= 2 else 16


def _damaged(path: pathlib.Path, reason: str) -> ArtifactError:
    """The error for a file that cannot be this network's weights."""
    return ArtifactError(
        f"The weight file {path} does not fit its network: {reason}.",
        next_step="Remove it and fetch or make it again.",
    )


def check_length(path: pathlib.Path, layers: Sequence[Layer], without: Container[int] = ()) -> int:
    """The offset of the first value when the file's length is exactly what `layers` (but for those with the numbers
    `without`) need, else ArtifactError.

    Darknet and OpenCV both read on without a word when a file is too long, and Darknet does so when it
    is too short.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no weight file {path}.", next_step="Run `prepare` first.")
    start = _values_start(path)
    count = sum(shape.parameters for shape in convolutions(layers) if shape.layer not in without)
    expected, found = start + 4 * count, path.stat().st_size
    if found != expected:
        raise _damaged(path, f"it has {found} bytes where {expected} belong")
    return start


def completed(
    path: pathlib.Path, layers: Sequence[Layer], inserted: Mapping[int, Tuple[Tuple[float, ...], float]]
) -> Iterator[bytes]:
    """The weight file `path`, piece by piece, with the constants of the `inserted` convolutions in their places."""
    start = check_length(path, layers, inserted)
    yield header()
    with path.open("rb") as handle:
        handle.seek(start)
        for shape in convolutions(layers):
            if shape.layer in inserted:
                weights, bias = inserted[shape.layer]
                filters = shape.conv.filters
                yield (
                    np.full(filters, bias, dtype=FLOAT).tobytes() + np.tile(np.array(weights, FLOAT), filters).tobytes()
                )
            else:
                yield handle.read(4 * shape.parameters)


def read(path: pathlib.Path, layers: Sequence[Layer]) -> Iterator[Tuple[ConvShape, ConvWeights]]:
    """Each convolution with its arrays (float32, backed by the file), in file order."""
    values = np.memmap(str(path), dtype=FLOAT, mode="r", offset=check_length(path, layers))
    position = 0
    for shape in convolutions(layers):
        conv, arrays = shape.conv, ConvWeights()
        names = ["biases"] + (["scales", "means", "variances"] if conv.normalised else [])
        for name in names:
            arrays[name] = values[position : position + conv.filters]
            position += conv.filters
        count = conv.filters * shape.fan_in
        arrays["weights"] = values[position : position + count].reshape(conv.filters, -1, conv.size, conv.size)
        position += count
        yield shape, arrays
