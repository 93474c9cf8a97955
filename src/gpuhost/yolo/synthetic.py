"""Weights that are made, not learned: the arithmetic of the real network, on every machine the same
bytes, no download.

Every filter is a difference of neighbouring random numbers, so it sums to about zero and ignores the
mean of its input; with plain random filters a deep network's maps collapse to one constant per channel,
and a benchmark's correctness check would see nothing. The variance of each layer's output is followed
through the network, so that no value grows or fades away, and the heads are set so that a photo yields
some tens of boxes: enough work for the steps behind the network. Only sums, products and square roots
are used, which IEEE 754 rounds alike everywhere.
"""

import hashlib
import math
import pathlib
from typing import Any, Iterator, List, NamedTuple, Sequence

import numpy as np

from .counter import between, stream, uniforms
from .darknet import ConvShape, absolute, convolutions
from .files import whole_file
from .networks import CHANNELS_PER_BOX, Conv, Layer, MaxPool, Route, Shortcut
from .weights import ConvWeights, conv_bytes, header

SEED = 1
WEIGHTS, BIASES, SCALES, MEANS, VARIANCES = range(5)

INPUT_VARIANCE = 0.02
"""Of a photo's pixels in [0, 1] around the mean of their neighbourhood (measured on the generated photos,
rounded).
"""
ACTIVATION_VARIANCE = {"leaky": 0.770, "mish": 0.818, "linear": 1.0}
"""Variance behind the activation of a normal value with mean 1 and variance 1, which is what each
convolution aims at. With a mean of 0 half of the values would meet the bend at zero, and a deep network
would make a rounding error 100 times larger than with a mean of 1.
"""
POOL_VARIANCE = 0.62
"""Factor for the maximum over a window (fitted on the generated photos)."""
DIFFERENCE_VARIANCE = 1.0 / 6.0
"""Variance of the difference of two independent uniform values in [0, 1)."""

OBJECTNESS_BIAS = -4.5
HEAD_DEVIATIONS = {"box": 0.5, "objectness": 1.4, "class": 2.0}
"""Standard deviation aimed at for a head's outputs, before the logistic function."""


class Made(NamedTuple):
    """A weight file that was written: its length in bytes and its SHA-256."""

    bytes: int
    sha256: str


def _input_variances(layers: Sequence[Layer]) -> List[float]:
    """For each layer, the estimated variance of what enters it."""
    entering: List[float] = []
    leaving: List[float] = []
    channels: List[int] = []
    last, width = INPUT_VARIANCE, 3
    for index, layer in enumerate(layers):
        entering.append(last)
        if isinstance(layer, Conv):
            last, width = ACTIVATION_VARIANCE[layer.activation], layer.filters
        elif isinstance(layer, MaxPool):
            last *= POOL_VARIANCE
        elif isinstance(layer, Shortcut):
            last += leaving[absolute(index, layer.source)]
        elif isinstance(layer, Route):
            sources = [absolute(index, source) for source in layer.sources]
            total = sum(channels[source] for source in sources)
            last = sum(leaving[source] * channels[source] for source in sources) / total
            width = total // layer.groups
        leaving.append(last)
        channels.append(width)
    return entering


def _head_factors(filters: int) -> Any:
    """For each output of a head, the standard deviation aimed at: float32, shape (filters, 1)."""
    per_box = [HEAD_DEVIATIONS["box"]] * 4 + [HEAD_DEVIATIONS["objectness"]]
    per_box += [HEAD_DEVIATIONS["class"]] * (CHANNELS_PER_BOX - 5)
    return np.array(per_box * (filters // CHANNELS_PER_BOX), dtype=np.float32).reshape(-1, 1)


def make_conv(shape: ConvShape, variance: float, seed: int = SEED) -> ConvWeights:
    """One convolution's arrays, for an input of the given `variance`."""
    conv, arrays = shape.conv, ConvWeights()
    count = conv.filters * shape.fan_in

    def spread(kind: int, low: float, high: float) -> Any:
        return between(stream(seed, shape.layer, kind), conv.filters, low, high)

    plain = uniforms(stream(seed, shape.layer, WEIGHTS), count).reshape(conv.filters, shape.fan_in)
    filters = plain - np.roll(plain, 1, axis=1)
    unit = 1.0 / math.sqrt(shape.fan_in * variance * DIFFERENCE_VARIANCE)
    if conv.normalised:
        arrays["biases"] = spread(BIASES, 0.9, 1.1)
        arrays["scales"] = spread(SCALES, 0.8, 1.2)
        arrays["means"] = spread(MEANS, -0.1, 0.1)
        arrays["variances"] = spread(VARIANCES, 0.5, 2.0)
        # Normalisation divides by this root; multiplying by it first leaves the aimed variance.
        filters *= np.sqrt(arrays["variances"]).reshape(-1, 1) * np.float32(unit)
    else:
        filters *= _head_factors(conv.filters) * np.float32(unit)
        arrays["biases"] = spread(BIASES, -0.1, 0.1)
        arrays["biases"][4::CHANNELS_PER_BOX] = OBJECTNESS_BIAS
    arrays["weights"] = filters
    return arrays


def _blocks(layers: Sequence[Layer], seed: int) -> Iterator[bytes]:
    """The file's bytes, one convolution at a time: the largest network is 258 MB in all."""
    variances = _input_variances(layers)
    yield header()
    for shape in convolutions(layers):
        yield conv_bytes(shape, make_conv(shape, variances[shape.layer], seed))


def write_weights(path: pathlib.Path, layers: Sequence[Layer], seed: int = SEED) -> Made:
    """Write the weight file of `layers`; it appears whole or not at all."""
    digest, written = hashlib.sha256(), 0
    with whole_file(path) as handle:
        for block in _blocks(layers, seed):
            digest.update(block)
            written += handle.write(block)
    return Made(written, digest.hexdigest())
