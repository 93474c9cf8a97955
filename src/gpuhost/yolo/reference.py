"""The networks' arithmetic once more, in plain NumPy and float64: what OpenCV's output is checked against.

Slow and simple on purpose. Images are (channels, rows, columns); the result is what enters each
detection layer.
"""

import pathlib
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from .darknet import absolute
from .networks import AvgPool, Conv, Layer, MaxPool, Region, Reorg, Route, Scale, Shortcut, Upsample, Yolo
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


def _logistic(values: Any) -> Any:
    """1 / (1 + e^-x), by tanh, which overflows nowhere."""
    return 0.5 + 0.5 * np.tanh(0.5 * values)


ACTIVATIONS: Dict[str, Callable[[Any], Any]] = {
    "leaky": _leaky,
    "mish": _mish,
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0.0),
    "logistic": _logistic,
    "swish": lambda values: values * _logistic(values),
    "tanh": np.tanh,
}


def convolve(image: Any, weights: Any, stride: int, pad: int) -> Any:
    """Cross-correlate `image` (c, h, w) with `weights` (n, c, k, k), zero padding `pad`, as one matrix product."""
    filters, channels, size, _ = weights.shape
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
    weights = arrays["weights"].astype(np.float64)
    parts = zip(np.split(image, conv.groups), np.split(weights, conv.groups))
    result = np.concatenate([convolve(part, own, conv.stride, conv.padding) for part, own in parts])
    column = {name: values.astype(np.float64).reshape(-1, 1, 1) for name, values in arrays.items() if name != "weights"}
    if conv.normalised:
        result = (result - column["means"]) / np.sqrt(column["variances"] + EPSILON) * column["scales"]
    return ACTIVATIONS[conv.activation](result + column["biases"])


def max_pool(image: Any, size: int, stride: int, padding: int) -> Any:
    """The largest value of each window; `padding` cells in all, the smaller half in front."""
    before = padding // 2
    after = padding - before
    padded = np.pad(image, ((0, 0), (before, after), (before, after)), mode="constant", constant_values=-np.inf)
    rows, columns = ((side + padding - size) // stride + 1 for side in image.shape[1:])
    windows = [
        padded[:, down : down + stride * rows : stride, right : right + stride * columns : stride]
        for down in range(size)
        for right in range(size)
    ]
    return np.maximum.reduce(windows)


def reorganised(image: Any, stride: int) -> Any:
    """Darknet's reorg: the values are taken for a map of fewer channels that is `stride` times as wide and high; each
    of its blocks becomes one cell of as many channels, and the values are taken for a map of the wanted shape.
    """
    channels, rows, columns = image.shape
    blocks = image.reshape(channels // stride**2, rows, stride, columns, stride).transpose(2, 4, 0, 1, 3)
    return blocks.reshape(channels * stride**2, rows // stride, columns // stride)


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
            last = max_pool(last, layer.size, layer.stride, layer.padding)
        elif isinstance(layer, Upsample):
            last = last.repeat(layer.stride, axis=1).repeat(layer.stride, axis=2)
        elif isinstance(layer, Route):
            joined = [outputs[absolute(index, source)] for source in layer.sources]
            last = np.split(np.concatenate(joined), layer.groups)[layer.share]
        elif isinstance(layer, Shortcut):
            other, last = outputs[absolute(index, layer.source)], last.copy()
            both = min(len(other), len(last))
            last[:both] += other[:both]
            last = ACTIVATIONS[layer.activation](last)
        elif isinstance(layer, Scale):
            last = ACTIVATIONS[layer.activation](outputs[absolute(index, layer.source)] * last)
        elif isinstance(layer, AvgPool):
            last = last.mean(axis=(1, 2), keepdims=True)
        elif isinstance(layer, Reorg):
            last = reorganised(last, layer.stride)
        elif isinstance(layer, (Yolo, Region)):
            heads.append(last)
        outputs.append(last)
    return heads


def relative_error(found: Any, expected: Any) -> float:
    """The length of the difference over the length of `expected` (rel2, no unit)."""
    return float(np.linalg.norm(np.ravel(found) - np.ravel(expected)) / np.linalg.norm(np.ravel(expected)))
