"""The reference detection loop that this benchmark is compared against: one photo after the other, and
every row of the network's output looked at by Python.

It is here to be measured, not to be used. Only its order of work is kept: read and decode with
cv2.imread, blob, forward pass, a loop over the rows that takes each row's best class and keeps the row
above the threshold, and cv2.dnn.NMSBoxes over all classes together.
"""

import pathlib
from typing import Any

import cv2
import numpy as np

from .darknet import Size, sides
from .images import ImageError


def detect(network: Any, path: pathlib.Path, size: Size, threshold: float, overlap: float) -> int:
    """How many boxes stay in the photo at `path`; ImageError when it cannot be read at all."""
    image = cv2.imread(str(path))
    if image is None:
        raise ImageError(f"The picture {path} cannot be read.", next_step="Leave it out, or save it again as JPEG.")
    height, width = image.shape[:2]
    heads = network.forward(cv2.dnn.blobFromImage(image, 1 / 255.0, sides(size), swapRB=True, crop=False))
    boxes, scores, classes = [], [], []
    for head in heads:
        for row in head.reshape(-1, head.shape[-1]):
            best = np.argmax(row[5:])
            score = row[5 + best]
            if score > threshold:
                centre_x, centre_y, wide, high = row[:4] * np.array([width, height, width, height])
                boxes.append([int(centre_x - wide / 2), int(centre_y - high / 2), int(wide), int(high)])
                scores.append(float(score))
                classes.append(int(best))
    if not boxes:
        return 0
    return len(np.asarray(cv2.dnn.NMSBoxes(boxes, scores, threshold, overlap)).ravel())
