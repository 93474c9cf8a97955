"""Darknet's own program in C as an oracle, in a process of its own because it ends the process on an error.

Arguments: its library, the configuration, the weights, the number of classes, and two files of NumPy: the blob
(channels, height, width) to read, and the boxes to write: a row each of centre x, y, width, height in 0..1, objectness,
and each class's score.
"""

import ctypes
import sys

import numpy as np


class Box(ctypes.Structure):
    """Darknet's `box`."""

    _fields_ = [(name, ctypes.c_float) for name in ("x", "y", "w", "h")]


class Found(ctypes.Structure):
    """Darknet's `detection`."""

    _fields_ = [
        ("box", Box),
        ("classes", ctypes.c_int),
        ("prob", ctypes.POINTER(ctypes.c_float)),
        ("mask", ctypes.POINTER(ctypes.c_float)),
        ("objectness", ctypes.c_float),
        ("sort_class", ctypes.c_int),
    ]


def main(library: str, cfg: str, weights: str, classes: str, blob_file: str, boxes_file: str) -> None:
    """Run one forward pass, and write every box with a score above -1: all of them."""
    darknet = ctypes.CDLL(library)
    darknet.load_network.restype = ctypes.c_void_p
    darknet.get_network_boxes.restype = ctypes.POINTER(Found)
    network = ctypes.c_void_p(darknet.load_network(cfg.encode(), weights.encode(), 0))
    darknet.set_batch_network(network, 1)
    blob = np.ascontiguousarray(np.load(blob_file), dtype=np.float32)
    darknet.network_predict(network, blob.ctypes.data_as(ctypes.c_void_p))
    _, height, width = blob.shape
    count = ctypes.c_int()
    low, hierarchy = ctypes.c_float(-1), ctypes.c_float(0.5)
    found = darknet.get_network_boxes(network, width, height, low, hierarchy, None, 1, ctypes.byref(count))
    rows = [
        [one.box.x, one.box.y, one.box.w, one.box.h, one.objectness, *one.prob[: int(classes)]]
        for one in found[: count.value]
    ]
    np.save(boxes_file, np.array(rows, dtype=np.float32))


if __name__ == "__main__":
    main(*sys.argv[1:])
