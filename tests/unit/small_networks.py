"""Small Darknet networks with every kind of layer and head, as text, and random weights for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from gpuhost.yolo import cfg_network
from gpuhost.yolo.darknet import convolutions

REAL = Path(__file__).parents[1] / "data" / "darknet-cfg"
"""53 configurations of AlexeyAB/darknet."""


def weights_for(folder: Path, network: cfg_network.CfgNetwork) -> Path:
    """A weight file of random values that keep the maps near 1, as somebody's training would write it: without the
    convolutions that are inserted here.
    """
    path, random = folder / "random.weights", np.random.RandomState(0)
    values = [np.zeros(0)]
    for shape in convolutions(network.layers):
        if shape.layer not in network.inserted:
            filters = shape.conv.filters
            values.append(random.normal(0, 0.5, filters))
            if shape.conv.normalised:
                values += [random.uniform(0.5, 1.5, filters), random.normal(0, 0.1, filters)]
                values.append(random.uniform(0.5, 1.5, filters))
            values.append(random.normal(0, shape.fan_in**-0.5, filters * shape.fan_in))
    path.write_bytes(np.array([0, 2, 0, 0, 0], dtype="<i4").tobytes() + np.concatenate(values).astype("<f4").tobytes())
    return path


SMALL: Dict[str, List[str]] = {
    "net": ["batch=64", "subdivisions=16", "width=64", "height=64", "channels=3", "steps=400,450", "scales=.1,.1"],
    "one": ["batch_normalize=1", "filters=8", "size=3", "stride=2", "pad=1", "activation=leaky"],
    "pool": ["size=2", "stride=2"],
    "deep": ["filters=16", "size=3", "stride=1", "pad=1", "activation=leaky"],
    "out": ["size=1", "stride=1", "pad=1", "filters=21", "activation=linear"],
    "yolo": ["mask=3,4,5", "anchors=4,5, 8,9, 12,14, 16,20, 24,28, 40,44", "classes=2", "num=6", "random=0"],
    "up": ["stride=2"],
    "yolo2": ["mask=0,1,2", "anchors=4,5, 8,9, 12,14, 16,20, 24,28, 40,44", "classes=2", "num=6"],
}
KINDS = (
    ("net", "net"), ("convolutional", "one"), ("maxpool", "pool"), ("convolutional", "deep"), ("maxpool", "pool"),
    ("convolutional", "out"), ("yolo", "yolo"), ("route", "-3"), ("upsample", "up"), ("route", "-1,2"),
    ("convolutional", "out"), ("yolo", "yolo2"),
)  # fmt: skip


def small(changes: Any = (), kinds: Tuple[Tuple[str, str], ...] = KINDS) -> str:
    """The small network with two heads; `changes` are pairs of what to replace in its text."""
    lines: List[str] = []
    for kind, key in kinds:
        lines += [f"[{kind}]", *SMALL.get(key, [f"layers={key}"]), ""]
    text = "\n".join(lines) + "\n"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def read(text: Any) -> cfg_network.CfgNetwork:
    """The network of a text."""
    return cfg_network.read(text if isinstance(text, bytes) else text.encode("utf-8"), "birds.cfg")


def region(anchors: str = "1,1, 2,3") -> str:
    """A YOLOv2 head with a reorg before it."""
    return small(kinds=(*KINDS[:2], ("convolutional", "deep"))) + (
        "[reorg]\nstride=2\n[route]\nlayers=-1\n[convolutional]\nfilters=14\nsize=1\n"
        f"activation=linear\n[region]\nanchors={anchors}\nclasses=2\nnum=2\nsoftmax=1\n"
    )


def attention() -> str:
    """Squeeze and excitation, a sum over some channels, `sam`, and a share of the channels."""
    head = "[convolutional]\nfilters=21\nsize=1\nactivation=logistic\n[yolo]\nmask=0,1,2\nanchors=4,5,8,9,12,14\n"
    return small(kinds=KINDS[:2]) + (
        "[avgpool]\n[convolutional]\nfilters=8\nsize=1\nactivation=logistic\n[scale_channels]\nfrom=0\n"
        "[convolutional]\nfilters=12\nsize=3\npad=1\nactivation=swish\n[shortcut]\nfrom=0\nactivation=leaky\n"
        "[convolutional]\nfilters=6\nsize=3\npad=1\nactivation=tanh\n[shortcut]\nfrom=-2\nactivation=linear\n"
        "[convolutional]\nfilters=6\nsize=1\nactivation=logistic\n[sam]\nfrom=-2\n[dropout]\n"
        "[route]\nlayers=-1\ngroups=3\ngroup_id=1\n" + head + "classes=2\nnum=3\nnew_coords=1\nscale_x_y=2.0\n"
    )


def shortcut() -> str:
    """Sums over the channels that two maps have in common: of fewer channels than the layer before, and of more."""
    return small(kinds=KINDS[:2]) + (
        "[convolutional]\nfilters=12\nsize=3\npad=1\nactivation=leaky\n[shortcut]\nfrom=-2\nactivation=leaky\n"
        "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n[shortcut]\nfrom=-2\nactivation=linear\n"
        "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n"
        "[yolo]\nmask=0,1,2\nanchors=4,5,8,9,12,14\nclasses=2\nnum=3\n"
    )


def new_coords() -> str:
    """Heads as those of YOLOv4-csp and YOLOv7 in Darknet's form."""
    return small([("activation=linear", "activation=logistic"), ("num=6", "num=6\nnew_coords=1\nscale_x_y=2.0")])


def tall() -> str:
    """An input that is higher than wide, a mask out of order, a dropout between, and another activation."""
    changes = [("height=64", "height=96"), ("mask=3,4,5", "mask=5,3,4"), ("activation=leaky", "activation=logistic")]
    return small([*changes, ("[upsample]", "[dropout]\nprobability=.5\n\n[upsample]")])


NETWORKS: Dict[str, str] = {
    "plain": small(),
    "wide": small([("width=64", "width=96")]),
    "tall": tall(),
    "one channel": small([("channels=3", "channels=1")]),
    "relu": small([("leaky", "relu")]),
    "relu6": small([("leaky", "relu6")]),
    "mish": small([("leaky", "mish")]),
    "swish": small([("leaky", "swish")]),
    "scale_x_y": small([("num=6", "num=6\nscale_x_y=1.1")]),
    "new_coords": new_coords(),
    "pad 0": small([("size=3\nstride=1\npad=1", "size=3\nstride=1\npad=0\npadding=2")]),
    "maxpool padding": small([("size=2\nstride=2", "size=3\nstride=2\npadding=2")]),
    "shortcut": shortcut(),
    "region": region(),
    "attention": attention(),
}
