"""From what enters the detection layers to boxes: the arithmetic of Darknet's yolo and region layers, where the
network stops in front of them.
"""

from typing import Any, Union

import numpy as np

from .darknet import Size, sides
from .networks import Region, Yolo


def _logistic(values: Any) -> None:
    """1 / (1 + e^-x) in place. Where e^-x is too large for the type, the result is 0, as it should be."""
    np.negative(values, out=values)
    with np.errstate(over="ignore"):
        np.exp(values, out=values)
    values += 1
    np.reciprocal(values, out=values)


def _softmax(values: Any) -> None:
    """e^x over the sum of them along the last axis, in place."""
    values -= values.max(axis=-1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=-1, keepdims=True)


def rows_of(raw: Any, head: Union[Yolo, Region], size: Size) -> Any:
    """One head's boxes, as OpenCV's region layer gives them: float32 (batch, rows, 5 + classes) of centre x, y, width,
    height in 0..1, objectness, and each class's score times objectness.

    `raw` is (batch, anchors x (5 + classes), rows, columns), `size` the network's input in pixels. Rows go along the
    cells, and within a cell along the anchors. Box arithmetic: Redmon and Farhadi 2017 and 2018, section 2, with
    the spread of centres of YOLOv4.
    """
    batch, _, down, across = raw.shape
    if isinstance(head, Region):
        anchors = np.array(head.anchors, dtype=np.float32) / np.array([across, down], dtype=np.float32)
    else:
        chosen = [head.anchors[number] for number in head.mask]
        anchors = np.array(chosen, dtype=np.float32) / np.array(sides(size), dtype=np.float32)
    boxes = raw.reshape(batch, len(anchors), 5 + head.classes, down, across).transpose(0, 3, 4, 1, 2)
    rows = np.array(boxes, dtype=np.float32, order="C")  # Always a copy: what follows is done in place.
    new_coords = isinstance(head, Yolo) and head.new_coords
    with np.errstate(over="ignore"):
        wide_high = np.square(2 * rows[..., 2:4]) if new_coords else np.exp(rows[..., 2:4])
        wide_high *= anchors
    if isinstance(head, Region):
        _logistic(rows[..., :5])
        _softmax(rows[..., 5:])
    elif not new_coords:
        _logistic(rows)
    rows[..., 2:4] = wide_high
    cells = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).astype(np.float32)
    spread = np.float32(head.scale_x_y if isinstance(head, Yolo) else 1.0)
    centres = (rows[..., 0:2] - np.float32(0.5)) * spread + np.float32(0.5) + cells[:, :, np.newaxis]
    rows[..., 0:2] = centres / np.array([across, down], dtype=np.float32)
    rows[..., 5:] *= rows[..., 4:5]
    return rows.reshape(batch, -1, 5 + head.classes)
