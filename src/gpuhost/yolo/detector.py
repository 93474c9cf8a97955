"""From a picture to named boxes: blob, forward pass, decoding, non-maximum suppression."""

import pathlib
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from ..errors import EnvironmentProblem, UsageError
from ..text import printable
from . import images
from .darknet import Size, sides
from .devices import open_network
from .models import SYNTHETIC, ModelFiles, Wanted, facts_of, files_of
from .network import Network
from .networks import Layer, Route, Scale, Yolo
from .onnx_network import END2END, Asked, open_onnx

CONFIDENCE = 0.5
MOST_CANDIDATES = 30000
"""Boxes that are compared with one another. A network of 416 pixels has 10,647 rows, so only `multi_label` with a
confidence near 0 reaches it.
"""
STRETCH, LETTERBOX = FITS = ("stretch", "letterbox")
"""How a picture is brought to the network's input: over the whole of it, or with its own proportions, grey around."""
OVERLAP = 0.3
"""Of two boxes of one class that share more than this part of their union, only the one with the higher
score stays.
"""

Picture = Any
"""The path of a file (str or Path), or an array as cv2.imread returns it."""


class Border(NamedTuple):
    """How a letterboxed picture was made in training: the grey around it in 0..1, and whether its sides and its place
    are rounded to the nearest pixel, else down.
    """

    grey: float
    nearest: bool


DARKNET = Border(0.5, False)
EXPORTED = Border(114 / 255, True)
"""Of YOLOv5 and all that came after it."""


class Detection(NamedTuple):
    """One object: its box (left, top, width, height) in pixels of the picture as it was given, its class, and
    the score in 0..1.
    """

    box: Tuple[float, float, float, float]
    class_id: int
    label: str
    score: float


def _pixels(picture: Picture) -> Any:
    """The pixels of a picture given as an array or as a path; ImageError if it is neither."""
    if isinstance(picture, (str, pathlib.Path)):
        return images.decode(images.read_bytes(pathlib.Path(picture)), str(picture))
    return images.check_pixels(picture)


def to_blob(image: Any, size: Size, fit: str = STRETCH, border: Border = DARKNET) -> Any:
    """The network's input for a picture (height, width, 3), blue first: stretched over the whole of it, or with its own
    proportions on grey; red first, values in 0..1, (1, 3, height, width).
    """
    width, height = sides(size)
    left, top, wide, high = placed(image.shape[1], image.shape[0], size, fit, border)
    inner = cv2.dnn.blobFromImage(image, 1 / 255.0, (wide, high), swapRB=True, crop=False)
    if (wide, high) == (width, height):
        return inner
    blob = np.full((1, 3, height, width), border.grey, dtype=np.float32)
    blob[:, :, top : top + high, left : left + wide] = inner
    return blob


def placed(width: int, height: int, size: Size, fit: str, border: Border = DARKNET) -> Tuple[int, int, int, int]:
    """Return where a picture of `width` x `height` lies in the network's input: left, top, width, height."""
    across, down = sides(size)
    if fit == STRETCH:
        return 0, 0, across, down
    if border.nearest:
        scale = min(across / width, down / height)
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        return max(0, round((across - wide) / 2 - 0.1)), max(0, round((down - high) / 2 - 0.1)), wide, high
    if across * height <= down * width:
        wide, high = across, max(1, height * across // width)
    else:
        wide, high = max(1, width * down // height), down
    return (across - wide) // 2, (down - high) // 2, wide, high


def decode(
    heads: Sequence[Any], width: float, height: float, confidence: float, multi_label: bool = False
) -> Tuple[Any, Any, Any]:
    """The candidates that have an area and a score above `confidence`, the surest MOST_CANDIDATES of them.

    Heads are (rows, 5 + classes) as Network.forward returns them. A row is its best class alone, or with `multi_label`
    each that is above. Returns boxes, float32 (n, 4) of left, top, width, height in pixels of a picture of
    `width` x `height` that fills the network's input; scores, float32 (n,); class numbers, (n,).
    """
    rows = np.concatenate([head.reshape(-1, head.shape[-1]) for head in heads])
    # A class score is at most its row's objectness, so most rows go before their 80 scores are looked at.
    rows = rows[rows[:, 4] > confidence]
    # A box turned inside out is none, and OpenCV's suppression takes two of them for the same one.
    rows = rows[(rows[:, 2:4] > 0).all(axis=1)]
    if multi_label:
        numbers, classes = np.nonzero(rows[:, 5:] > confidence)
        rows, scores = rows[numbers], rows[numbers, 5 + classes]
    else:
        classes = rows[:, 5:].argmax(axis=1)
        scores = rows[np.arange(len(rows)), 5 + classes]
        chosen = scores > confidence
        rows, scores, classes = rows[chosen], scores[chosen], classes[chosen]
    if len(scores) > MOST_CANDIDATES:
        surest = np.sort(np.argsort(-scores, kind="mergesort")[:MOST_CANDIDATES])
        rows, scores, classes = rows[surest], scores[surest], classes[surest]
    boxes = rows[:, :4] * np.array([width, height, width, height], dtype=np.float32)
    boxes[:, :2] -= boxes[:, 2:] / 2
    return boxes, scores, classes


def suppress(boxes: Any, scores: Any, classes: Any, overlap: float, cv: Any = cv2) -> Any:
    """The numbers of the boxes that stay after non-maximum suppression within each class, highest score
    first.
    """
    if not len(boxes):
        return np.zeros(0, dtype=np.int64)
    if hasattr(cv.dnn, "NMSBoxesBatched"):
        kept = cv.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), 0.0, overlap)
    else:
        # Before OpenCV 4.7: boxes of different classes are moved so far apart that they cannot overlap.
        reach = float(np.abs(boxes[:, :2]).max() + boxes[:, 2:].max()) + 1.0
        apart = boxes.astype(np.float64)
        apart[:, 0] += classes * 2.0 * reach
        kept = cv.dnn.NMSBoxes(apart.tolist(), scores.tolist(), 0.0, overlap)
    numbers = np.asarray(kept, dtype=np.int64).ravel()
    return numbers[np.argsort(-scores[numbers], kind="mergesort")]


def require_opencv(minimum: str, model: str, version: str = cv2.__version__) -> None:
    """EnvironmentProblem when OpenCV `version` is older than `minimum`: 4.2 loads YOLOv4-tiny without a
    word and computes nonsense.
    """
    numbers = [tuple(int(part) for part in text.split("-")[0].split(".")[:2]) for text in (version, minimum)]
    if numbers[0] < numbers[1]:
        raise EnvironmentProblem(
            f"{model} needs OpenCV {minimum} or later; this is {version}.",
            next_step="Use yolov3 or yolov3-tiny, or a newer OpenCV 4.",
        )


def opencv_minimum(layers: Sequence[Layer]) -> str:
    """The first OpenCV that computes all of `layers`: 4.2 knows what YOLOv3 has, 4.4 what YOLOv4 added."""
    for layer in layers:
        if isinstance(layer, Scale) or (isinstance(layer, Route) and layer.groups > 1):
            return "4.4.0"
        if isinstance(layer, Yolo) and layer.scale_x_y != 1.0:
            return "4.4.0"
        if getattr(layer, "activation", "linear") not in ("linear", "leaky"):
            return "4.4.0"
    return "4.2.0"


def numbers_of(names: Sequence[str], labels: Sequence[str]) -> List[int]:
    """The numbers of some classes; UsageError for a name that the network does not have."""
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise UsageError(
            "The network knows no {}.".format(printable(", ".join(unknown), 200)),
            next_step="It knows {}.".format(printable(", ".join(labels), 600)),
        )
    return [labels.index(name) for name in names]


def check_settings(confidence: float, overlap: Optional[float], fit: Optional[str]) -> None:
    """UsageError for a threshold outside 0..1, and for a fit that there is not."""
    for name, value in (("confidence", confidence), ("overlap", overlap)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise UsageError(f"A {name} of {value} is not possible.", next_step="Use a number from 0 to 1.")
    if fit not in (None, *FITS):
        raise UsageError(f"There is no fit {fit!r}.", next_step="Use one of: {}.".format(", ".join(FITS)))


class Detector:
    """A model on a device."""

    def __init__(
        self,
        model: str = "",
        device: str = "cpu",
        work: Union[str, pathlib.Path] = "yolo-work",
        size: Optional[Size] = None,
        weights_dir: Optional[pathlib.Path] = None,
        confidence: float = CONFIDENCE,
        overlap: Optional[float] = None,
        fit: Optional[str] = None,
        multi_label: bool = False,
        classes: Sequence[str] = (),
        weights: Optional[str] = None,
        cfg: Optional[pathlib.Path] = None,
        names: Optional[pathlib.Path] = None,
        onnx: Optional[pathlib.Path] = None,
        layout: Optional[str] = None,
    ) -> None:
        """Prepare the network's files in `work` and open it. It is one of MODELS, the Darknet configuration `cfg`, or
        the exported model `onnx`, whose `layout` is told apart by itself where it can be;
        `weights` is a file or the word `synthetic`, `weights_dir` the folder of the published ones, `names` the file
        with the names of the classes. `size` is the input in pixels, the side of a square or (width, height), the
        thresholds are in 0..1. With the device `auto`, `network.trials` says what was tried and chosen.

        Without `fit` the picture is brought to the input as in the network's training, and without `overlap` boxes are
        suppressed above OVERLAP, or not at all where the model has done so itself. `multi_label` gives a place
        every class above the confidence, and `classes` leaves boxes of other names out.
        """
        check_settings(confidence, overlap, fit)
        self.network: Network
        suppressed = False
        if onnx is not None:
            exported, self.files = open_onnx(Asked(onnx, names, size, layout), device)
            self.network, suppressed = exported, exported.layout == END2END
        else:
            self.files = self._darknet_files(Wanted(model, cfg, weights, names, weights_dir), size, pathlib.Path(work))
        self.labels = self.files.labels
        self._wanted = numbers_of(classes, self.labels)
        self.fit, self.multi_label = fit or (LETTERBOX if self.files.letter_box else STRETCH), multi_label
        self._border = DARKNET if onnx is None else EXPORTED
        self.size, self.confidence = self.files.size, confidence
        # Nothing shares more than all of its union.
        self.overlap = overlap if overlap is not None else 1.0 if suppressed else OVERLAP
        if onnx is None:
            self.network = open_network(self.files, device)

    @staticmethod
    def _darknet_files(wanted: Wanted, size: Optional[Size], work: pathlib.Path) -> ModelFiles:
        """The files of a Darknet network, once this OpenCV is known to be new enough for it."""
        if wanted.cfg is None:
            require_opencv(facts_of(wanted.model)["opencv_minimum"], wanted.model)
        files = files_of(wanted, size, work)
        if wanted.cfg is not None:
            require_opencv(opencv_minimum(files.layers), wanted.title)
        return files

    def detect(self, image: Picture) -> List[Detection]:
        """The objects in a picture: an array as cv2.imread returns it, or the path of a file.
        ImageError if it is neither.
        """
        return self._detect_all([_pixels(image)])[0]

    def run(self, pictures: Iterable[Picture], batch: int = 1) -> Iterator[List[Detection]]:
        """The objects in each of any number of pictures, in their order; `batch` of them go through the
        network at once, and no more are held in memory. A picture that cannot be used ends it with an
        ImageError, after the results of those before it.
        """
        if batch < 1:
            raise UsageError(f"A batch of {batch} is not possible.", next_step="Use 1 or more.")
        return self._run(pictures, batch)

    def _run(self, pictures: Iterable[Picture], batch: int) -> Iterator[List[Detection]]:
        waiting: List[Any] = []
        for picture in pictures:
            try:
                waiting.append(_pixels(picture))
            except images.ImageError:
                yield from self._detect_all(waiting)
                raise
            if len(waiting) == batch:
                yield from self._detect_all(waiting)
                waiting = []
        yield from self._detect_all(waiting)

    def _detect_all(self, pictures: Sequence[Any]) -> List[List[Detection]]:
        """The objects in each of some pictures (height, width, 3), in one forward pass."""
        blobs = [self.blob(pixels) for pixels in pictures]
        if len(blobs) > 1:
            answers = self.network.forward_batch(np.concatenate(blobs))
        else:
            answers = [self.network.forward(blob) for blob in blobs]
        return [self.boxes(heads, pixels.shape[1], pixels.shape[0]) for heads, pixels in zip(answers, pictures)]

    @property
    def meaningful(self) -> bool:
        """Whether the boxes mean anything: synthetic weights compute, and find noise."""
        return self.files.weights_kind != SYNTHETIC

    def blob(self, image: Any) -> Any:
        """The network's input for the pixels of a picture."""
        return to_blob(image, self.size, self.fit, self._border)

    def boxes(
        self, heads: Sequence[Any], width: int, height: int, confidence: Optional[float] = None
    ) -> List[Detection]:
        """What `heads` say about a picture of `width` x `height` pixels, above the detector's own confidence unless
        another one is given; boxes are cut at its edges, and what lies beyond them, in the grey, is left out.
        """
        least = self.confidence if confidence is None else confidence
        boxes, scores, classes = self._candidates(heads, width, height, least)
        found = []
        for number in suppress(boxes, scores, classes, self.overlap):
            left, top, wide, high = (float(value) for value in boxes[number])
            right, bottom = min(left + wide, float(width)), min(top + high, float(height))
            left, top = max(left, 0.0), max(top, 0.0)
            if right <= left or bottom <= top:
                continue
            class_id = int(classes[number])
            found.append(
                Detection(
                    (left, top, right - left, bottom - top),
                    class_id,
                    self.labels[class_id],
                    float(scores[number]),
                )
            )
        return found

    def _candidates(self, heads: Sequence[Any], width: int, height: int, confidence: float) -> Tuple[Any, Any, Any]:
        """What `decode` finds, of the wanted classes, in pixels of a picture of `width` x `height`."""
        left, top, wide, high = placed(width, height, self.size, self.fit, self._border)
        across, down = width / wide, height / high
        columns, rows = sides(self.size)
        boxes, scores, classes = decode(heads, columns * across, rows * down, confidence, self.multi_label)
        boxes -= np.array([left * across, top * down, 0, 0], dtype=np.float32)
        if self._wanted:
            chosen = np.isin(classes, self._wanted)
            boxes, scores, classes = boxes[chosen], scores[chosen], classes[chosen]
        return boxes, scores, classes
