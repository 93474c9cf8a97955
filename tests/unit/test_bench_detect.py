"""`detect`: boxes on one photo, hostile pictures, and the way from `gpuhost` to the Python that has OpenCV."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest

import gpuhost
from gpuhost.cli import bench as cli_bench
from gpuhost.cli import child
from gpuhost.cli import main as cli
from gpuhost.errors import EnvironmentProblem
from gpuhost.yolo import commands, draw, images, options, photos
from gpuhost.yolo.detector import Detection
from gpuhost.yolo.models import synthetic_weights

SOURCE = Path(gpuhost.__file__).resolve().parent.parent
PHOTO = photos.pixels(0)


@pytest.fixture(name="work", scope="module")
def work_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder for this module, so that weights are made once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(name="photo", scope="module")
def photo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of a generated photo."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    cv2.imwrite(str(path), PHOTO)
    return path


def detect(work: Path, *more: str) -> int:
    """`detect` with the smallest network at a small size."""
    weights = [] if any(word.startswith("--weights") for word in more) else ["--weights", "synthetic"]
    return commands.main(["detect", "--size", "128", "--work", str(work), "--confidence", "0.2", *weights, *more])


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header claims side x side pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def jpeg(components: int, width: int = 8, height: int = 8) -> bytes:
    """A whole JPEG of one flat 8 x 8 block a component (4 make it CMYK), or one whose header claims more."""
    table = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\x01" * 64
    parts = b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 8 + len(parts), 8, height, width, components) + parts
    # One code of one bit for the only symbol, 0: "no difference" for DC, "end of block" for AC.
    codes = b"".join(
        b"\xff\xc4" + struct.pack(">HB", 20, kind) + b"\x01" + b"\x00" * 15 + b"\x00" for kind in (0x00, 0x10)
    )
    ids = b"".join(bytes([number, 0]) for number in range(1, components + 1))
    scan = b"\xff\xda" + struct.pack(">HB", 6 + len(ids), components) + ids + b"\x00\x3f\x00"
    bits = 2 * components
    data = bytes([(1 << (-bits % 8)) - 1]) if bits < 8 else b"\x00"
    return b"\xff\xd8" + table + frame + codes + scan + data + b"\xff\xd9"


def encoded(image: Any, kind: str) -> bytes:
    """An array as a file of this kind."""
    return bytes(cv2.imencode(kind, image)[1])


BAD: Dict[str, Any] = {
    "truncated.jpg": (lambda: encoded(PHOTO, ".jpg")[:3000], "is cut off"),
    "truncated.png": (lambda: encoded(PHOTO, ".png")[:3000], "is cut off"),
    "empty.jpg": (lambda: b"", "is an empty file"),
    "zero.jpg": (lambda: jpeg(3, 0, 0), "has no area"),
    "zero.png": (lambda: png_bomb(0), "has no area"),
    "bomb.jpg": (lambda: jpeg(3, 60000, 60000), "is too large"),
    "bomb.png": (lambda: png_bomb(30000), "is too large"),
    "text.jpg": (lambda: b"<html>not a picture</html>", "is not a picture"),
    "noise.png": (lambda: bytes(range(256)) * 16, "is not a picture"),
    "broken.png": (lambda: png_bomb(64), "is not a picture"),
    "markers.jpg": (lambda: b"\xff\xd8" + b"\xff\xe0\x00\x00" * 50, "is cut off"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_picture_is_named_before_any_work(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line with the file's name, no output file, no network made, no crash."""
    make, words = BAD[name]
    path, target = tmp_path / name, tmp_path / "out.jpg"
    path.write_bytes(make())
    assert detect(tmp_path / "work", str(path), "-o", str(target)) == 2
    err = capfd.readouterr().err
    assert name in err and words in err and "Traceback" not in err
    assert not target.exists() and not (tmp_path / "work").exists()


GOOD: Dict[str, Any] = {
    "grey.png": lambda: encoded(PHOTO[:, :, 0], ".png"),
    "alpha.png": lambda: encoded(np.dstack([PHOTO, np.full(PHOTO.shape[:2], 9, np.uint8)]), ".png"),
    "sixteen.png": lambda: encoded(PHOTO.astype(np.uint16) * 257, ".png"),
    "cmyk.jpg": lambda: jpeg(4),
    "one-pixel.png": lambda: encoded(PHOTO[:1, :1], ".png"),
    "thin.png": lambda: encoded(PHOTO[:1], ".png"),
}


@pytest.mark.parametrize("name", GOOD)
def test_unusual_pictures_are_brought_to_three_channels(
    name: str, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grey, alpha, 16 bits, CMYK, a line and a dot: detected in, and drawn."""
    path, target = tmp_path / name, tmp_path / "out.png"
    path.write_bytes(GOOD[name]())
    assert detect(work, str(path), "-o", str(target), "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert cv2.imread(str(target)).shape == (answer["height"], answer["width"], 3)


def test_a_header_that_lies_is_refused_in_any_format_from_the_command_line(tmp_path: Path) -> None:
    """A BMP of 54 bytes that claims 900 megapixels."""
    path = tmp_path / "bomb.bmp"
    path.write_bytes(
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    line = [sys.executable, "-m", "gpuhost.yolo", "detect", str(path), "--work", str(tmp_path / "work")]
    done = subprocess.run(line, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "bomb.bmp" in done.stderr and "is too large (30000 x 30000" in done.stderr


def test_boxes_as_json_and_drawn(work: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed is what is drawn, in pixels of the photo; synthetic weights are called so, loudly."""
    target = tmp_path / "deep" / "out.png"
    assert detect(work, str(photo), "-o", str(target), "--json") == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert answer["meaningful"] is False and answer["weights"]["kind"] == "synthetic"
    assert "NOTHING MEANINGFUL" in err
    assert (answer["width"], answer["height"], answer["device"]) == (640, 480, "cpu")
    assert answer["detections"], "the threshold is low enough for noise"
    for row in answer["detections"]:
        left, top, wide, high = row["box"]
        assert 0 <= left <= left + wide <= 640.01 and 0 <= top <= top + high <= 480.01
        assert 0.2 <= row["score"] <= 1 and row["label"]
    before, after = cv2.imread(str(photo)), cv2.imread(str(target))
    assert after.shape == before.shape and (after != before).any()
    assert detect(work, str(photo)) == 0
    assert f"{len(answer['detections'])} objects" in capsys.readouterr().out


def test_a_higher_confidence_leaves_fewer(work: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The surest ones of those before."""
    found = []
    for confidence in ("0.2", "0.4", "1"):
        assert detect(work, str(photo), "--json", "--confidence", confidence) == 0
        found.append(json.loads(capsys.readouterr().out)["detections"])
    assert len(found[0]) > len(found[1]) and found[2] == []
    assert found[1] == [row for row in found[0] if row["score"] > 0.4]


def test_an_output_that_exists_is_replaced_whole_or_kept(
    work: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it is written, the old file is still there and no half a new one beside it."""
    target = tmp_path / "out.jpg"
    target.write_bytes(b"before")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    assert detect(work, str(photo)) == 0, "so that the only file to be written is the picture"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        assert detect(work, str(photo), "-o", str(target), "--force") == 7
    assert target.read_bytes() == b"before" and [path.name for path in tmp_path.iterdir()] == ["out.jpg"]
    assert detect(work, str(photo), "-o", str(target)) == 2, "nothing is overwritten without --force"
    assert target.read_bytes() == b"before"
    assert detect(work, str(photo), "-o", str(target), "--force") == 0
    assert target.read_bytes().startswith(b"\xff\xd8")


MISTAKES: Dict[str, List[str]] = {
    "No picture of the kind 'out.xyz'": ["-o", "out.xyz"],
    "No picture of the kind 'out.exr'": ["-o", "out.exr"],
    "No picture of the kind 'out.gif'": ["-o", "out.gif"],
    "No picture of the kind 'out'": ["-o", "out"],
    "A confidence of 1.5": ["--confidence", "1.5"],
    "A confidence of nan": ["--confidence", "nan"],
    "no model 'yolov9'": ["--model", "yolov9"],
    "no device 'tpu'": ["--device", "tpu"],
    "no folder nowhere": ["--weights-dir", "nowhere"],
    "--cfg and --model name two": ["--cfg", "x.cfg", "--model", "yolov3"],
    "two kinds of weights": ["--weights", "x.weights", "--weights-dir", "."],
    "no configuration x.cfg": ["--cfg", "x.cfg", "--weights", "x.weights"],
    "no weights for x.cfg": ["--cfg", "x.cfg", "--weights", "synthetic"],
    "no file of names x.names": ["--names", "x.names"],
    "input size of 100": ["--size", "100"],
    "input size of 0": ["--size", "0"],
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_ends_with_2_before_any_work(
    message: str, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names it."""
    assert detect(tmp_path / "work", str(photo), *MISTAKES[message]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "work").exists()


@pytest.mark.parametrize("damage", ["nothing", "another case", "a dangling link", "a folder", "four bytes more"])
def test_missing_weights_never_become_noise(
    damage: str, work: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the folder of the published ones nor as a file of one's own."""
    file = tmp_path / "yolov4-tiny.weights"
    if damage == "another case":
        (tmp_path / "YOLOv4-tiny.weights").write_bytes(b"1")
    elif damage == "a dangling link":
        file.symlink_to("nowhere")
    elif damage == "a folder":
        file.mkdir()
    elif damage == "four bytes more":
        file.write_bytes(synthetic_weights("yolov4-tiny", work).read_bytes() + bytes(4))
    for given in (["--weights-dir", str(tmp_path)], ["--weights", str(file)]):
        assert detect(work, str(photo), *given) == 6
        said = capsys.readouterr()
        assert "yolov4-tiny.weights" in said.err and not said.out


def test_no_weights_at_all(tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ways to have some are named."""
    assert commands.main(["detect", "--work", str(tmp_path), str(photo)]) == 2
    said = capsys.readouterr().err
    assert all(words in said for words in ("no weights for yolov4-tiny", "--weights-dir", "--weights synthetic"))


def test_weights_of_ones_own_for_a_published_network(
    work: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the right length they are taken whatever their checksum, and their boxes are meant."""
    own = work / "own.weights"
    own.write_bytes(synthetic_weights("yolov4-tiny", work).read_bytes()[:-4] + bytes(4))
    assert detect(work, str(photo), "--json", "--weights", str(own)) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["weights"]["kind"] == "own" and "NOTHING MEANINGFUL" not in said.err


def test_a_photo_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named."""
    assert detect(tmp_path / "work", str(tmp_path / "none.jpg")) == 2
    assert "none.jpg is not there" in capsys.readouterr().err


def test_boxes_at_the_edges_are_drawn_inside() -> None:
    """On any size, down to one pixel, with names longer than the picture."""
    found = [Detection((0.0, 0.0, 5000.0, 5000.0), 79, "a name that is much longer than that", 0.9)]
    for shape in ((1, 1, 3), (1, 400, 3), (400, 1, 3), (60, 60, 3)):
        image = np.zeros(shape, dtype=np.uint8)
        for meaningful in (True, False):
            assert draw.drawn(image, found, meaningful).shape == shape
        assert not image.any(), "the picture that was given stays as it is"


def test_the_two_homes_of_the_confidence_agree() -> None:
    """The options are read where OpenCV is not, so they hold the figure once more."""
    from gpuhost.yolo import detector

    assert options.CONFIDENCE == detector.CONFIDENCE
    assert set(options.MODES) == set(commands.benchmark.MODES)


# ---- from gpuhost to the Python that has OpenCV ---------------------------------------------------------------------


def test_the_installed_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then this Python, if it has cv2; else an error that says how to get it."""
    python = tmp_path / "current/venvs/opencv_cuda/bin/python"
    assert cli_bench.python_with_opencv(tmp_path) == sys.executable
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "cv2" else real(name))
    with pytest.raises(EnvironmentProblem, match="no OpenCV to detect with") as caught:
        cli_bench.python_with_opencv(tmp_path)
    assert "site.yml" in caught.value.next_step
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert cli_bench.python_with_opencv(tmp_path) == str(python)


@pytest.fixture(name="here")
def no_installed_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Path) -> Path:
    """A machine on which nothing is installed below /opt, and a user's cache of its own."""
    monkeypatch.setattr(cli_bench, "python_with_opencv", lambda: sys.executable)
    monkeypatch.setattr(cli_bench, "work_folder", lambda: work)
    monkeypatch.setattr(cli_bench, "published", lambda models: [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_detect_from_gpuhost(here: Path, photo: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Options, paths relative to where the user is, output and exit code pass through; a cv2.py that lies in the
    working folder is not imported.
    """
    (here / "cv2.py").write_text("raise SystemExit(99)\n", encoding="ascii")
    (here / "-p.jpg").write_bytes(photo.read_bytes())
    line = ["detect", "--size", "128", "--confidence", "0.2", "-o", "out.jpg", "--json", "--weights", "synthetic"]
    line += ["--", "-p.jpg"]
    assert cli.main(line) == 0
    assert json.loads(capfd.readouterr().out)["photo"] == "-p.jpg"
    assert (here / "out.jpg").is_file()
    assert cli.main(["detect", "none.jpg"]) == 2


def test_bench_from_gpuhost_with_a_picture(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole line: both ways and the reference loop, report and picture."""
    line = ["bench", "--model", "yolov4-tiny", "--size", "64", "--count", "6", "--mode", "both", "--batch", "2"]
    assert cli.main([*line, "--baseline", "--json", "r.json", "--picture", "p.svg"]) == 0
    out = capfd.readouterr().out
    assert "[INFO] 6 photos in" in out and "pipeline, batch 2" in out and "picture: p.svg" in out
    entry = json.loads((here / "r.json").read_text(encoding="utf-8"))["models"][0]
    assert set(entry["faster"]) == {"offline/baseline", "single/baseline", "offline/single"}
    assert entry["faster"]["offline/baseline"]["ratio"] == pytest.approx(
        sum(entry["rounds_s"]["baseline"]) / sum(entry["rounds_s"]["offline"]), rel=1e-3
    )
    assert entry["boxes"] == entry["offline"]["boxes"]
    assert cli.main([*line, "--picture", "p.png"]) == 2
    assert cli.main([*line, "--picture", "p.svg", "--json", "-"]) == 2


def test_options_become_a_command_line_again() -> None:
    """What the user typed and nothing else; --baseline with and without a device."""
    parser = cli.parser()
    given = parser.parse_args(["bench", "--model", "a", "--model", "b", "--baseline", "--read-only", "--passes", "6"])
    line = cli_bench.option_list(given, cli_bench.BENCH)
    again = parser.parse_args(["bench", *line])
    assert {name: getattr(again, name) for name in cli_bench.BENCH} == {
        name: getattr(given, name) for name in cli_bench.BENCH
    }
    assert "--baseline" in line and "--photos" not in " ".join(line)
    assert "--baseline=cpu" in cli_bench.option_list(parser.parse_args(["bench", "--baseline", "cpu"]), cli_bench.BENCH)


@pytest.mark.parametrize("option", ["--size", "--count", "--passes", "--batch", "--budget"])
def test_a_zero_reaches_the_command(option: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A zero is a number that was typed and no missing option: refused by name, before any work."""
    assert cli.main(["bench", option, "0", "--work", str(tmp_path / "work")]) == 2
    err = capfd.readouterr().err
    assert (option in err or "input size of 0" in err) and not (tmp_path / "work").exists()


def test_every_option_of_the_commands_is_passed_on() -> None:
    """A new option in options.py must not be forgotten by gpuhost."""
    parser = cli.parser()
    own = {"command", "run", "work", "weights_dir"}
    assert set(vars(parser.parse_args(["bench"]))) - own - {"picture", "json", "action"} == set(cli_bench.BENCH)
    assert set(vars(parser.parse_args(["detect", "x"]))) - own - {"photo"} == set(cli_bench.DETECT)


def test_a_signal_is_told_as_a_shell_does() -> None:
    """And an exit code as it is."""
    assert child.ended(7) == 7
    assert child.ended(-signal.SIGKILL) == 137


def test_images_of_the_library_are_checked_too() -> None:
    """Without __main__: a PNG's size is read before it is decoded."""
    with pytest.raises(images.ImageError, match="too large"):
        images.decode(png_bomb(20000), "x")
