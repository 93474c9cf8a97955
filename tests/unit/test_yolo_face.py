"""A real, trained network: a face detector of the npm package face-api, converted to Darknet's form here."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest

from gpuhost.cli import bench as cli_bench
from gpuhost.cli import main as cli
from gpuhost.errors import UsageError
from gpuhost.yolo import commands
from gpuhost.yolo.detector import Detection, Detector

DATA = Path(__file__).parents[1] / "data" / "face"
MEAN = (117.001, 114.697, 97.404)
"""Red, green, blue of 255: what that network subtracts from its input."""
SHA256 = "96e7b33b81e7c9dddd95a47039046b047e04a092a8e5f44c9cd5704b3fd76854"
"""Of the converted weights with which Darknet's own program in C was seen to find the same face at 97 %."""


def arrays() -> Dict[str, Any]:
    """The network's arrays by name, float32, from their bytes and the manifest."""
    manifest = json.loads((DATA / "tiny_face_detector_model-weights_manifest.json").read_text("utf-8"))
    data, place, found = (DATA / "tiny_face_detector_model.bin").read_bytes(), 0, {}
    for row in manifest[0]["weights"]:
        raw = np.frombuffer(data, np.uint8, int(np.prod(row["shape"])), place)
        scale, least = (np.float32(row["quantization"][key]) for key in ("scale", "min"))
        found[row["name"]] = (raw.astype(np.float32) * scale + least).reshape(row["shape"])
        place += raw.size
    assert place == len(data)
    return found


def converted() -> bytes:
    """The weight file of `face.cfg`. The input's mean goes into the first bias, which is exact because that convolution
    has no padding; each anchor's five values get a sixth, for the one class.
    """
    of = arrays()
    first = of["conv0/filters"].transpose(3, 2, 0, 1)
    mean = np.array(MEAN, np.float32) / np.float32(255)
    parts = [of["conv0/bias"] - (first * mean.reshape(1, 3, 1, 1)).sum((1, 2, 3)), first]
    for number in range(1, 6):
        deep = of[f"conv{number}/depthwise_filter"].transpose(2, 3, 0, 1)
        parts += [np.zeros(len(deep)), deep]
        parts += [of[f"conv{number}/bias"], of[f"conv{number}/pointwise_filter"].transpose(3, 2, 0, 1)]
    bias, last = of["conv8/bias"].reshape(5, 5), of["conv8/filters"].transpose(3, 2, 0, 1).reshape(5, 5, 512)
    parts += [np.pad(bias, ((0, 0), (0, 1))), np.pad(last, ((0, 0), (0, 1), (0, 0)))]
    header = np.array([0, 2, 5, 0, 0], "<i4").tobytes()
    return header + b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in parts)


@pytest.fixture(name="weights", scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted weights, which are the recorded ones to the bit."""
    path = tmp_path_factory.mktemp("face") / "face.weights"
    path.write_bytes(converted())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


def faces(weights: Path, picture: Any, device: str = "cpu", **more: Any) -> List[Detection]:
    """What the network finds in a picture."""
    own: Dict[str, Any] = {"cfg": DATA / "face.cfg", "weights": str(weights), "names": DATA / "face.names"}
    own.update(more)
    return Detector(device=device, work=weights.parent, **own).detect(picture)


@pytest.mark.parametrize("device", ["cpu", "onnxruntime", "openvino"])
def test_the_face_is_found(device: str, weights: Path) -> None:
    """The one face, with the score and the box that were recorded for the photograph."""
    (face,) = faces(weights, DATA / "astronaut.jpg", device)
    assert face.label == "face" and face.score == pytest.approx(0.972, abs=0.002)
    assert face.box == pytest.approx((163.4, 75.8, 115.4, 110.6), abs=1.0)


def test_a_letterbox_finds_the_face_in_a_wide_picture(weights: Path) -> None:
    """In a picture of 2.5:1, which stretched shows a face that is too narrow."""
    wide = np.full((512, 1280, 3), 127, dtype=np.uint8)
    wide[:, 384:896] = cv2.imread(str(DATA / "astronaut.jpg"))
    (face,) = faces(weights, wide, fit="letterbox")
    assert face.score > 0.65 and face.box == pytest.approx((384 + 163.4, 75.8, 115.4, 110.6), abs=25)
    assert faces(weights, wide) == [], "without letter_box in the configuration it is stretched"
    trained = weights.with_name("letter_box.cfg")
    trained.write_text((DATA / "face.cfg").read_text("ascii").replace("[net]", "[net]\nletter_box=1"), encoding="ascii")
    assert faces(weights, wide, cfg=trained) == [face]


def test_classes_are_those_of_the_network(weights: Path) -> None:
    """A name of its own file is known, one of COCO is not."""
    with pytest.raises(UsageError, match="knows no person"):
        faces(weights, DATA / "astronaut.jpg", classes=["person"])


def test_an_input_of_the_pictures_proportions(weights: Path) -> None:
    """A strip of the photograph, in an input as wide and as low."""
    strip = cv2.imread(str(DATA / "astronaut.jpg"))[:256]
    (face,) = faces(weights, strip, size=(416, 224))
    assert face.score > 0.9 and face.box == pytest.approx((163.4, 75.8, 115.4, 110.6), abs=5)


# ---- docs/how-to/own-network.md -------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs/how-to/own-network.md").read_text("utf-8")
COMMANDS = [
    pytest.param(shlex.split(line), id=line, marks=[pytest.mark.full] if " bench " in line else [])
    for line in PAGE.splitlines()
    if line.startswith("./run gpuhost")
]
"""The benchmark's takes seconds, because it waits until the time of a pass rests."""


def block(kind: str) -> str:
    """The page's block of a language."""
    return PAGE.split(f"```{kind}\n")[1].split("```")[0]


@pytest.fixture(name="birds")
def training(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the page, with the face's network for that of the birds."""
    shutil.copy(str(DATA / "face.cfg"), str(tmp_path / "birds.cfg"))
    shutil.copy(str(weights), str(tmp_path / "birds.weights"))
    (tmp_path / "birds.names").write_text("blue tit\n", encoding="ascii")
    (tmp_path / "garden").mkdir()
    for name in ("garden.jpg", "garden/1.jpg"):
        shutil.copy(str(DATA / "astronaut.jpg"), str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS)
def test_the_commands_of_the_page(words: List[str], birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is typed as it stands there, and the JSON is the page's."""
    given = cli.parser().parse_args(words[2:])
    known = cli_bench.BENCH if words[2] == "bench" else cli_bench.DETECT
    photos = [] if words[2] == "bench" else ["--", *given.photo]
    assert commands.main([words[2], "--work", "work", *cli_bench.option_list(given, known), *photos]) == 0
    said = capsys.readouterr()
    assert "NOTHING MEANINGFUL" not in said.err
    if given.json is True:
        answer, shown = json.loads(said.out), json.loads(block("json"))
        (found,), (told,) = answer.pop("detections"), shown.pop("detections")
        assert answer == shown and found.keys() == told.keys() and found["label"] == told["label"]
        assert found["score"] == pytest.approx(told["score"], abs=0.001)
        assert found["box"] == pytest.approx(told["box"], abs=0.5)
    elif words[2] == "detect":
        made = given.output or given.results
        assert made.exists() if made else "blue tit" in said.out


def test_the_python_of_the_page(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the one bird."""
    exec(compile(block("python"), "own-network.md", "exec"), {})  # noqa: S102 - the page of this repository
    assert capsys.readouterr().out.startswith("blue tit 0.97 (163.")
