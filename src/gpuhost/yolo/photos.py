"""Photos that are drawn, not taken: the benchmark's 192 JPEG files without a download and without
anybody's rights in them.

Each is a colour gradient with rectangles, ellipses and stripes on it and fine noise over all, in one of
the sizes that cameras and the web use. The pixels are the same everywhere; the JPEG bytes may differ
with the encoder, so a folder keeps a list of what was written into it.
"""

import hashlib
import json
import pathlib
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from .. import strict_json
from ..errors import EnvironmentProblem, UsageError
from ..host.files import sha256
from .counter import hashes, stream, uniforms
from .files import whole_file, write_text

COUNT = 192
"""As many photos as the measurement had that this benchmark is compared with."""
SIZES = ((640, 480), (768, 576), (480, 640), (500, 375), (1024, 768), (800, 600), (576, 768), (1280, 720))
"""Width and height in pixels."""
QUALITY = 90
LIST_NAME = "photos.json"
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
NOT_READ = (".gif", ".avif", ".jp2", ".j2k", ".heic", ".heif", ".jxl", ".exr", ".hdr")
"""Pictures of kinds that the reader refuses: taken too, so that each is named and none is passed by in silence."""
_SEED = 192
_SHAPES, _CORNERS, _NOISE = range(3)
_NOISE_SPAN = 21


class PhotoSet(NamedTuple):
    """The photos of one run: their paths in order, whether they were `made` or `given`, and a digest of
    all their bytes if made.
    """

    paths: Tuple[pathlib.Path, ...]
    kind: str
    sha256: Optional[str]


def _gradient(width: int, height: int, corners: Any) -> Any:
    """A smooth colour field between four corner colours (4, 3) in 0..255: float32 (height, width, 3)."""
    across = (np.arange(width, dtype=np.float32) / np.float32(width)).reshape(1, width, 1)
    down = (np.arange(height, dtype=np.float32) / np.float32(height)).reshape(height, 1, 1)
    top = corners[0] + (corners[1] - corners[0]) * across
    bottom = corners[2] + (corners[3] - corners[2]) * across
    return top + (bottom - top) * down


def _draw_shape(image: Any, numbers: Any) -> None:
    """Put one shape on `image`; `numbers` (10 values in [0, 1)) choose its place, extent, kind, stripes
    and two colours.
    """
    height, width = image.shape[:2]
    half_width = 6 + int(numbers[2] * width * 0.2)
    half_height = 6 + int(numbers[3] * height * 0.2)
    centre_x, centre_y = int(numbers[0] * width), int(numbers[1] * height)
    left, right = max(centre_x - half_width, 0), min(centre_x + half_width, width)
    top, bottom = max(centre_y - half_height, 0), min(centre_y + half_height, height)
    rows = np.arange(top, bottom, dtype=np.float32).reshape(-1, 1)
    columns = np.arange(left, right, dtype=np.float32).reshape(1, -1)
    across = (columns - np.float32(centre_x)) / np.float32(half_width)
    down = (rows - np.float32(centre_y)) / np.float32(half_height)
    kind = int(numbers[4] * 3)
    if kind == 0:
        inside = np.ones((bottom - top, right - left), dtype=bool)
    elif kind == 1:
        inside = across * across + down * down <= np.float32(1)
    else:
        inside = np.abs(across) <= (down + np.float32(1)) * np.float32(0.5)
    period = np.float32(4 + int(numbers[5] * 24))
    stripes = np.mod(rows + columns, period) * np.float32(2) < period
    first = numbers[6:9] * np.float32(255)
    second = np.float32(255) - first if numbers[9] < 0.5 else first
    region = image[top:bottom, left:right]
    region[inside & stripes] = first
    region[inside & ~stripes] = second


def pixels(number: int) -> Any:
    """Photo `number` (from 0): uint8, shape (height, width, 3), blue first."""
    width, height = SIZES[number % len(SIZES)]
    corners = uniforms(stream(_SEED, number, _CORNERS), 12).reshape(4, 3) * np.float32(255)
    image = _gradient(width, height, corners)
    choices = uniforms(stream(_SEED, number, _SHAPES), 1 + 24 * 10)
    for shape in range(8 + int(choices[0] * 16)):
        _draw_shape(image, choices[1 + shape * 10 : 11 + shape * 10])
    values = width * height * 3
    noise = hashes(stream(_SEED, number, _NOISE), -(-values // 8)).astype("<u8").view(np.uint8)[:values] % _NOISE_SPAN
    noisy = image.astype(np.int16) + noise.reshape(height, width, 3) - np.int16(_NOISE_SPAN // 2)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _name(number: int) -> str:
    """The file name of photo `number`."""
    return f"photo-{number:03d}.jpg"


def _recorded(folder: pathlib.Path) -> Dict[str, str]:
    """File name to SHA-256 as the folder's list has them; nothing when the list is missing or damaged."""
    try:
        recorded = strict_json.load(folder / LIST_NAME)
    except (FileNotFoundError, ValueError):
        return {}
    files = recorded.get("files") if isinstance(recorded, dict) else None
    return files if isinstance(files, dict) else {}


def make(
    folder: pathlib.Path, count: int = COUNT, report: Callable[[int, int], None] = lambda done, of: None
) -> PhotoSet:
    """See that `folder` holds photos 0 to `count` - 1 whole, and draw those that are missing or changed."""
    before = _recorded(folder)
    after: Dict[str, str] = {}
    for number in range(count):
        path = folder / _name(number)
        digest = before.get(path.name)
        if digest is None or not path.is_file() or sha256(path) != digest:
            encoded, buffer = cv2.imencode(".jpg", pixels(number), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not encoded:
                raise EnvironmentProblem(
                    "This OpenCV cannot write JPEG files.", next_step="Use a build with JPEG support."
                )
            with whole_file(path) as handle:
                handle.write(buffer.tobytes())
            digest = sha256(path)
        after[path.name] = digest
        report(number + 1, count)
    kept = dict(before, **after)
    if kept != before:
        write_text(folder / LIST_NAME, json.dumps({"schema": 1, "files": kept}, indent=1, sort_keys=True) + "\n")
    paths = tuple(folder / name for name in after)
    return PhotoSet(paths, "made", _digest_of(list(after.values())))


def _digest_of(digests: List[str]) -> str:
    """One SHA-256 over the photos' own, in order."""
    return hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


def is_photo(name: str) -> bool:
    """Return whether a file's ending says that it is a picture."""
    return pathlib.PurePath(name).suffix.lower() in SUFFIXES + NOT_READ


def given(folder: pathlib.Path, count: Optional[int] = None) -> PhotoSet:
    """The first `count` pictures of a user's folder by name (all of them without `count`); UsageError
    when it has none.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.", next_step="Name a folder that holds photos.")
    found = sorted(path for path in folder.iterdir() if is_photo(path.name) and not path.is_dir())
    if not found:
        raise UsageError(
            f"The folder {folder} holds no photo.",
            next_step="Put files ending in {} into it.".format(", ".join(SUFFIXES)),
        )
    return PhotoSet(tuple(found[:count]), "given", None)
