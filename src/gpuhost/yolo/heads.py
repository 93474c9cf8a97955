"""From what enters the detection layers to boxes: the arithmetic of Darknet's yolo layer, for engines
that stop in front of it.
"""

from typing import Any

import numpy as np

from .networks import CHANNELS_PER_BOX, Yolo


def _logistic(values: Any) -> None:
    """1 / (1 + e^-x) in place. Where e^-x is too large for the type, the result is 0, as it should be."""
    np.negative(values, out=values)
    with np.errstate(over="ignore"):
        np.exp(values, out=values)
    values += 1
    np.reciprocal(values, out=values)


def rows_of(raw: Any, head: Yolo, side: int) -> Any:
    """One head's boxes, as OpenCV's region layer gives them: float32 (batch, rows, 85) of centre x, y, width,
    height in 0..1, objectness, and each class's score times objectness.

    `raw` is (batch, anchors x 85, rows, columns), `side` the network's input in pixels. Rows go along the
    cells, and within a cell along the anchors. Box arithmetic: Redmon and Farhadi 2018, section 2.1, with
    the spread of centres of YOLOv4.
    """
    batch, _, down, across = raw.shape
    anchors = np.array([head.anchors[number] for number in head.mask], dtype=np.float32) / np.float32(side)
    boxes = raw.reshape(batch, len(anchors), CHANNELS_PER_BOX, down, across).transpose(0, 3, 4, 1, 2)
    rows = np.array(boxes, dtype=np.float32, order="C")  # Always a copy: what follows is done in place.
    with np.errstate(over="ignore"):
        sizes = np.exp(rows[..., 2:4]) * anchors
    _logistic(rows)
    rows[..., 2:4] = sizes
    cells = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).astype(np.float32)
    spread = np.float32(head.scale_x_y)
    centres = (rows[..., 0:2] - np.float32(0.5)) * spread + np.float32(0.5) + cells[:, :, np.newaxis]
    rows[..., 0:2] = centres / np.array([across, down], dtype=np.float32)
    rows[..., 5:] *= rows[..., 4:5]
    return rows.reshape(batch, -1, CHANNELS_PER_BOX)
