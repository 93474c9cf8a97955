"""The networks' arithmetic once more, in plain NumPy and float64: what OpenCV's output is held against.

Slow and simple on purpose. Images are (channels, rows, columns); the result is what enters each
detection layer.
"""

import pathlib
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from .darknet import absolute
from .networks import Conv, Layer, MaxPool, Route, Shortcut, Upsample, Yolo
from .weights import ConvWeights, read

EPSILON = 1e-6
"""Added to the variance in batch normalisation. Darknet adds 1e-5 and OpenCV 1e-6; OpenCV's is what is
under test.
"""


def _mish(values: Any) -> Any:
    """x tanh(ln(1 + e^x)) (Misra 2019)."""
    return values * np.tanh(np.logaddexp(0.0, values))


def _leaky(values: Any) -> Any:
    """x above zero, a tenth of x below."""
    return np.where(values > 0, values, 0.1 * values)


ACTIVATIONS: Dict[str, Callable[[Any], Any]] = {
    "leaky": _leaky,
    "mish": _mish,
    "linear": lambda values: values,
}


def convolve(image: Any, weights: Any, stride: int) -> Any:
    """Cross-correlate `image` (c, h, w) with `weights` (n, c, k, k), zero padding k // 2, as one matrix product."""
    filters, channels, size, _ = weights.shape
    pad = size // 2
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="constant")
    rows, columns = ((side + 2 * pad - size) // stride + 1 for side in image.shape[1:])
    taps = [
        padded[:, down : down + stride * rows : stride, right : right + stride * columns : stride]
        for down in range(size)
        for right in range(size)
    ]
    windows = np.stack(taps, axis=1).reshape(channels * size * size, rows * columns)
    return np.dot(weights.reshape(filters, -1), windows).reshape(filters, rows, columns)


def _convolution(image: Any, conv: Conv, arrays: ConvWeights) -> Any:
    """One convolution layer: weights, batch normalisation or bias, activation."""
    result = convolve(image, arrays["weights"].astype(np.float64), conv.stride)
    column = {name: values.astype(np.float64).reshape(-1, 1, 1) for name, values in arrays.items() if name != "weights"}
    if conv.normalised:
        result = (result - column["means"]) / np.sqrt(column["variances"] + EPSILON) * column["scales"]
    return ACTIVATIONS[conv.activation](result + column["biases"])


def max_pool(image: Any, size: int, stride: int) -> Any:
    """The largest value of each window; size - 1 cells of padding in all, the smaller half in front."""
    before = (size - 1) // 2
    after = size - 1 - before
    padded = np.pad(image, ((0, 0), (before, after), (before, after)), mode="constant", constant_values=-np.inf)
    rows, columns = ((side - 1) // stride + 1 for side in image.shape[1:])
    windows = [
        padded[:, down : down + stride * rows : stride, right : right + stride * columns : stride]
        for down in range(size)
        for right in range(size)
    ]
    return np.maximum.reduce(windows)


def forward(layers: Sequence[Layer], weights: pathlib.Path, image: Any) -> List[Any]:
    """Run the network on `image` (3, side, side); returns each head's raw prediction (255, rows,
    columns), in file order.
    """
    outputs: List[Any] = []
    heads = []
    arrays_of = read(weights, layers)
    last = image.astype(np.float64)
    for index, layer in enumerate(layers):
        if isinstance(layer, Conv):
            _, arrays = next(arrays_of)
            last = _convolution(last, layer, arrays)
        elif isinstance(layer, MaxPool):
            last = max_pool(last, layer.size, layer.stride)
        elif isinstance(layer, Upsample):
            last = last.repeat(layer.stride, axis=1).repeat(layer.stride, axis=2)
        elif isinstance(layer, Route):
            joined = [outputs[absolute(index, source)] for source in layer.sources]
            last = np.concatenate([part[-(part.shape[0] // layer.groups) :] for part in joined])
        elif isinstance(layer, Shortcut):
            last = last + outputs[absolute(index, layer.source)]
        elif isinstance(layer, Yolo):
            heads.append(last)
        outputs.append(last)
    return heads


def relative_error(found: Any, expected: Any) -> float:
    """The length of the difference over the length of `expected` (rel2, no unit)."""
    return float(np.linalg.norm(np.ravel(found) - np.ravel(expected)) / np.linalg.norm(np.ravel(expected)))
