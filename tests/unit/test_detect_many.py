"""`detect` on many pictures: what goes in, what comes out, what is set aside and what is never overwritten."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List

import cv2
import numpy as np
import pytest

from gpuhost.cli import bench as cli_bench
from gpuhost.cli import main as cli
from gpuhost.yolo import commands, detecting, draw, images, options, outputs, photos, sources, video
from gpuhost.yolo import detector as detector_module
from gpuhost.yolo.darknet import Size, sides
from gpuhost.yolo.detector import Detection
from gpuhost.yolo.networks import MODELS
from gpuhost.yolo.table import device_named

FRAMES = 12
FIXED = [Detection((10.0, 20.0, 30.0, 40.0), 0, "person", 0.9), Detection((1.0, 2.0, 3.0, 4.0), 16, "dog\x1b[2J", 0.5)]


class Made:
    """As much of a detector as `detect` uses: it finds the same two objects in every picture."""

    size, meaningful = 32, True

    def __init__(self, *_: Any) -> None:
        self.network = SimpleNamespace(device=device_named("cpu"), forward=lambda blob: [blob])
        self.files = SimpleNamespace(weights_kind="real", weights_sha256="0" * 64, notes=())

    def blob(self, image: Any) -> Any:
        """A blob of no meaning."""
        return np.zeros((1, 3, 32, 32), dtype=np.float32)

    def boxes(self, heads: Any, width: int, height: int) -> List[Detection]:
        """The two objects."""
        return FIXED

    def detect(self, picture: Any) -> List[Detection]:
        """The same."""
        return FIXED


@pytest.fixture(autouse=True)
def made_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is made: what is tested is around it."""
    monkeypatch.setattr(commands, "Detector", Made)


def jpeg(path: Path, number: int = 0) -> Path:
    """Write a small made photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", photos.pixels(number)[:64, :96])[1].tobytes())
    return path


def clip(path: Path, count: int = FRAMES) -> Path:
    """Write a video whose frames grow lighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), number * 6, dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture(name="folder")
def many_files(tmp_path: Path) -> Path:
    """A folder with folders in it, a video, other files, and what cannot be used."""
    folder = tmp_path / "in"
    for name in ("b.jpg", "a.JPG", "deep/er/c.jpg", "deep/b.jpg"):
        jpeg(folder / name)
    (folder / "notes.txt").write_text("no picture", encoding="ascii")
    (folder / "bad\x1b[2J.jpg").write_bytes(b"no picture")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    clip(folder / "v.avi")
    return folder


def detect(*words: Any) -> int:
    """Run the command."""
    return commands.main(["detect", "--work", "nowhere", *[str(word) for word in words]])


def rows_of(text: str) -> List[Dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_walked_in_a_stable_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders after the files beside them, no link to a folder, each frame of a video; the bad one is set aside."""
    assert detect(folder, "--format", "jsonl", "--every", "5") == 1
    out, err = capsys.readouterr()
    found = [(Path(row["photo"]).relative_to(folder).as_posix(), row.get("frame")) for row in rows_of(out)]
    frames = [("v.avi", number) for number in (0, 5, 10)]
    whole = [("b.jpg", None), *frames, ("deep/b.jpg", None), ("deep/er/c.jpg", None)]
    assert [row for row in found if row[0][:3] != "bad"] == [("a.JPG", None), *whole]
    assert [row["photo"] for row in rows_of(out) if "error" in row] == [str(folder / "bad\x1b[2J.jpg")]
    assert "\x1b" not in out + err and "1 of 8 pictures could not be used" in err
    assert [line.split() for line in err.splitlines() if line.startswith("  person")] == [["person", "7"]]


def test_files_lists_and_standard_input(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order in which they were named."""
    listing = tmp_path / "list"
    listing.write_bytes(os.fsencode(folder / "deep/b.jpg") + b"\r\n\n" + os.fsencode(folder / "a.JPG") + b"\n")
    data = (folder / "b.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert detect(folder / "b.jpg", "-", "--list", listing, "--format", "jsonl") == 0
    named = [row["photo"] for row in rows_of(capsys.readouterr().out)]
    assert named == [str(folder / "b.jpg"), "standard input", str(folder / "deep/b.jpg"), str(folder / "a.JPG")]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert detect("-", "--json") == 0
    assert json.loads(capsys.readouterr().out)["width"] == 96
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert detect("-") == 2
    assert "standard input is empty" in capsys.readouterr().err


def test_every_format_holds_the_same_boxes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a program reads it back."""
    words = [folder / "deep"]

    def told(kind: str) -> str:
        assert detect(*words, "--format", kind) == 0
        return capsys.readouterr().out

    whole = json.loads(told("json"))
    assert whole["weights"]["kind"] == "real" and [len(row["detections"]) for row in whole["pictures"]] == [2, 2]
    assert whole["pictures"] == rows_of(told("jsonl"))
    table = list(csv.DictReader(io.StringIO(told("csv"))))
    assert [row["label"] for row in table] == ["person", "dog\x1b[2J"] * 2
    assert (table[0]["photo"], table[0]["left"], table[0]["score"]) == (str(folder / "deep/b.jpg"), "10.0", "0.9")
    coco = json.loads(told("coco"))
    assert coco[0] == {"image_id": "b", "category_id": 1, "bbox": [10.0, 20.0, 30.0, 40.0], "score": 0.9}
    assert coco[1]["category_id"] == 18, "COCO numbers the dog 18"
    assert told("text").splitlines()[1].endswith("c.jpg: 2 objects: 1 dog\N{REPLACEMENT CHARACTER}[2J, 1 person")


def test_a_table_on_a_terminal_cannot_move_its_cursor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One photo's lines too."""
    assert detect(folder / "b.jpg") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_drawn_pictures_videos_and_labels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the folder as they were below theirs; two of one name each have a file."""
    into, labels = tmp_path / "into", tmp_path / "labels"
    assert detect(folder, folder / "deep/b.jpg", "--into", into, "--labels", labels) == 1
    made = sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file())
    assert made == ["a.jpg", "b-2.jpg", "b.jpg", "deep/b.jpg", "deep/er/c.jpg", "v.avi"]
    capture, count = cv2.VideoCapture(str(into / "v.avi")), 0
    while capture.read()[0]:
        count += 1
    assert count == FRAMES
    assert (labels / "deep/b.txt").read_text().splitlines() == [
        "0 0.2604 0.6250 0.3125 0.6250",
        "16 0.0260 0.0625 0.0312 0.0625",
    ]
    assert len(list(labels.glob("v-*.txt"))) == FRAMES


@pytest.mark.parametrize("option", ["-o", "--results", "--into", "--labels"])
def test_nothing_is_overwritten_without_force(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before any work, and with --force done."""
    target = tmp_path / "out.jpg"
    if option in ("-o", "--results"):
        target.write_bytes(b"before")
    else:
        target.mkdir()
        (target / "b.jpg").write_bytes(b"before")
        (target / "b.txt").write_bytes(b"before")
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.glob("out.jpg*/*"))
    assert detect(folder / "b.jpg", option, target) == 2
    err = capsys.readouterr().err
    assert option in err and "--force" in err
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.glob("out.jpg*/*")) == before
    assert detect(folder / "b.jpg", option, target, "--force") == 0


def test_a_name_that_is_taken_meanwhile_is_kept(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before the work is not what protects a file."""
    monkeypatch.setattr(outputs, "check_free", lambda *_: None)
    target = tmp_path / "out.jpg"
    target.write_bytes(b"before")
    assert detect(folder / "b.jpg", "-o", target) == 2
    assert target.read_bytes() == b"before" and "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_ctrl_c_keeps_what_was_done(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are complete files, the video can be played, and the exit code is that of an interruption."""
    real, done = outputs.Table.add, []

    def add(self: outputs.Table, seen: outputs.Seen) -> None:
        real(self, seen)
        done.append(seen)
        if len(done) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(outputs.Table, "add", add)
    results, into = tmp_path / "r.json", tmp_path / "into"
    assert detect(folder / "v.avi", "--format", "json", "--results", results, "--into", into) == 130
    assert len(json.loads(results.read_text(encoding="utf-8"))["pictures"]) == 5
    assert "interrupted" in capsys.readouterr().err
    assert cv2.VideoCapture(str(into / "v.avi")).read()[0]
    assert [path.name for path in into.iterdir()] == ["v.avi"]


BAD_WORDS: Dict[str, List[str]] = {
    "no picture to look at": [],
    "An address of the kind ftp://": ["ftp://a/b"],
    "An address of the kind file://": ["file:///etc/passwd"],
    "--every must be": ["x.jpg", "--every", "0"],
    "--frames must be": ["x.jpg", "--frames", "0"],
    "--reconnect must be": ["x.jpg", "--reconnect", "-1"],
    "--batch must be": ["x.jpg", "--batch", "0"],
    "A overlap of 2": ["x.jpg", "--overlap", "2"],
    "input size of 416x is": ["x.jpg", "--size", "416x"],
    "input size of 300 pixels": ["x.jpg", "--size", "416x300"],
    "no fit 'crop'": ["x.jpg", "--fit", "crop"],
    "knows no unicorn": ["x.jpg", "--classes", "car,unicorn"],
    "-o takes one picture": ["x.jpg", "y.jpg", "-o", "out.jpg"],
    "--json is --format json": ["x.jpg", "--json", "--format", "csv"],
    "The list none cannot be read": ["--list", "none"],
    "Standard input can be read once": ["-", "-"],
}


@pytest.mark.parametrize("message", BAD_WORDS)
def test_what_cannot_be_meant_ends_with_2(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, before any work."""
    assert detect(*BAD_WORDS[message]) == 2
    out, err = capsys.readouterr()
    assert message in (out if "--json" in BAD_WORDS[message] else err)


@pytest.mark.parametrize("message", BAD_WORDS)
@pytest.mark.parametrize("option", [["--json"], ["--format", "json"]])
def test_with_json_an_error_is_json_too(message: str, option: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    """On the output, in the form of every command of gpuhost, and nothing beside it."""
    if "--format" in BAD_WORDS[message] and option == ["--format", "json"]:
        return  # the later one counts: that is not an error
    assert detect(*option, *BAD_WORDS[message]) == 2
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert message in told["message"] and told["exit_code"] == 2 and set(told) == {"message", "next_step", "exit_code"}
    assert err == ""


def test_an_error_does_not_follow_an_answer_that_has_begun(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a JSON text with a whole one behind it would be neither."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs.Drawn, "add", full)
    assert detect(folder, "--json", "--into", tmp_path / "into") == 7
    out, err = capsys.readouterr()
    assert '"error"' not in out and "error: [Errno 28] No space left" in err


def test_a_folder_without_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told, and so is the last fault where every picture is bad."""
    assert detect(tmp_path) == 2
    assert "no picture in what was named" in capsys.readouterr().err
    (tmp_path / "x.jpg").write_bytes(b"")
    assert detect(tmp_path) == 2
    assert "x.jpg is an empty file" in capsys.readouterr().err


def test_a_login_in_an_address_is_never_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A camera that cannot be reached."""
    assert detect("rtsp://admin:hunter2@127.0.0.1:9/live?token=abc", "--format", "jsonl") == 2
    told = "".join(capfd.readouterr())
    assert "cannot be opened" in told and "hunter2" not in told and "abc" not in told and "Traceback" not in told


def shown() -> List[List[str]]:
    """The commands of the page about `detect`, word by word."""
    text = (Path(__file__).parents[2] / "docs/how-to/detect.md").read_text(encoding="utf-8")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("./run gpuhost detect")]


@pytest.mark.parametrize("words", shown(), ids=" ".join)
def test_the_commands_of_the_page(words: List[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is typed as it stands there; a camera is only understood, because there is none here."""
    monkeypatch.chdir(folder)
    for name in ("photo.jpg", "other.png", "photos/1.jpg", "photos/in/2.jpg"):
        jpeg(folder / name)
    (folder / "published").mkdir()
    clip(folder / "clip.avi")
    (folder / "pictures.txt").write_text("photo.jpg\n", encoding="ascii")
    given = cli.parser().parse_args(words[2:])
    typed = [*cli_bench.option_list(given, cli_bench.DETECT), "--", *given.photo]
    if any(word.startswith("/dev/") or sources.is_url(word) for word in given.photo):
        assert detecting.Asked(options.parser().parse_args(["detect", "--work", "w", *typed])).words == given.photo
        return
    assert detect(*typed) == 0
    for path in (given.output, given.into, given.labels, given.results):
        assert path is None or path.exists()


# ---- videos and cameras ---------------------------------------------------------------------------------------------


def test_a_video_that_ends_too_early_is_told(tmp_path: Path) -> None:
    """Its frames are used; then it is named as what it is."""
    path = clip(tmp_path / "v.avi", 40)
    data = bytearray(path.read_bytes())
    at = data.index(b"avih") + 24
    data[at : at + 4] = (4000).to_bytes(4, "little")
    stream = data.index(b"strh") + 40
    data[stream : stream + 4] = (4000).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    taken: List[video.Frame] = []
    with pytest.raises(images.ImageError, match="ends after 40 of about"):
        taken.extend(video.file(path, video.Settings()))
    assert len(list(video.file(clip(path), video.Settings()))) == FRAMES


@pytest.mark.parametrize(
    "data", [b"", b"no video", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile a\n"]
)
def test_what_is_no_video_is_named(data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also a playlist that leads elsewhere; FFmpeg's own words stay off the terminal."""
    path = tmp_path / "v.mp4"
    path.write_bytes(data)
    with pytest.raises(images.ImageError, match=r"The video .*v\.mp4 cannot be opened"):
        list(video.file(path, video.Settings()))
    os.mkfifo(str(tmp_path / "pipe.mp4"))
    with pytest.raises(images.ImageError, match="is a named pipe"):
        list(video.file(tmp_path / "pipe.mp4", video.Settings()))
    with pytest.raises(images.ImageError, match="No such file"):
        list(video.file(tmp_path / "none.mp4", video.Settings()))


class Camera:
    """A source that gives some frames and then none."""

    def __init__(self, frames: int, width: int = 8, total: int = 0) -> None:
        self.left, self.width, self.total, self.released = frames, width, total, False

    def isOpened(self) -> bool:
        """Whether there was a first frame."""
        return self.left >= 0

    def get(self, name: int) -> float:
        """The properties that are asked for."""
        known = {cv2.CAP_PROP_FRAME_WIDTH: self.width, cv2.CAP_PROP_FRAME_HEIGHT: self.width}
        return float({**known, cv2.CAP_PROP_FRAME_COUNT: self.total}.get(name, -1))

    def grab(self) -> bool:
        """Take the next frame."""
        self.left -= 1
        return self.left >= 0

    def retrieve(self) -> Any:
        """Its pixels."""
        return True, np.zeros((self.width, self.width, 3), dtype=np.uint8)

    def release(self) -> None:
        """Let go."""
        self.released = True


def live(cameras: List[Camera], settings: video.Settings, waits: List[float]) -> Iterator[video.Frame]:
    """Frames of cameras one after the other, without waiting."""
    left = iter(cameras)
    return video._live("cam", lambda: next(left), settings, waits.append, lambda: 0.0)


def test_a_silent_camera_is_reached_again_up_to_a_limit() -> None:
    """A frame sets the count back, waits grow, and every connection is closed."""
    waits: List[float] = []
    cameras = [Camera(3), Camera(-1), Camera(0), Camera(2), Camera(-1), Camera(-1), Camera(-1)]
    taken: List[int] = []
    with pytest.raises(images.ImageError, match=r"The camera cam gave no more frames, and 3 attempts"):
        for frame in live(cameras, video.Settings(reconnect=3), waits):
            taken.append(frame.number)
    assert taken == [0, 1, 2, 3, 4] and waits == [1, 2, 4, 1, 2, 4]
    assert all(cameras[number].released for number in (0, 2, 3))


def test_a_camera_ends_where_it_should() -> None:
    """After the frames that were asked for, or at the end of a video behind an address."""
    assert [f.number for f in live([Camera(3), Camera(9)], video.Settings(most=5), [])] == [0, 1, 2, 3, 4]
    assert [f.number for f in live([Camera(9, total=9)], video.Settings(every=4), [])] == [0, 4, 8]
    assert len(list(live([Camera(4, total=4)], video.Settings(), []))) == 4
    with pytest.raises(images.ImageError, match="cannot be opened"):
        list(live([Camera(-1)], video.Settings(), []))
    with pytest.raises(images.ImageError, match="is too large"):
        list(live([Camera(5, width=20000)], video.Settings(), []))


def test_a_build_without_video_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is opened."""
    bare = SimpleNamespace(__version__="4.14.0")
    no_ffmpeg = SimpleNamespace(
        __version__="4.14.0", VideoCapture=1, CAP_FFMPEG=1900, videoio_registry=SimpleNamespace(getBackends=lambda: [])
    )
    assert "without video" in video.why_not(bare) and "without FFmpeg" in video.why_not(no_ffmpeg)
    assert video.why_not() == ""


# ---- boxes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [416, (416, 256), (96, 416)])
@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1000, 10), (1, 1), (3000, 1000)])
@pytest.mark.parametrize("fit", detector_module.FITS)
@pytest.mark.parametrize("border", [detector_module.DARKNET, detector_module.EXPORTED])
def test_a_box_comes_back_to_where_it_was(border: Any, fit: str, width: int, height: int, size: Size) -> None:
    """What is drawn at a place of the picture is found at the same place, in either fit, border and any input."""
    made = detector_module.Detector.__new__(detector_module.Detector)
    made.size, made.fit, made.confidence, made.overlap = size, fit, 0.1, 0.3
    made.multi_label, made._wanted, made.labels, made._border = False, [], ["a"], border
    left, top, wide, high = detector_module.placed(width, height, size, fit, border)
    across, down = sides(size)
    assert left >= 0 and top >= 0 and left + wide <= across and top + high <= down
    place = [(left + 0.5 * wide) / across, (top + 0.25 * high) / down, 0.5 * wide / across, 0.25 * high / down]
    row = np.array([[*place, 0.9, 0.9]], dtype=np.float32)
    (found,) = made.boxes([row], width, height)
    assert found.box == pytest.approx((0.25 * width, 0.125 * height, 0.5 * width, 0.25 * height), abs=1e-3 * width)


def test_a_letterbox_keeps_proportions_on_grey() -> None:
    """As Darknet's own: the longer side fills the input, the rest is 0.5, above and below alike."""
    image = np.full((100, 400, 3), 255, dtype=np.uint8)
    blob = detector_module.to_blob(image, 416, detector_module.LETTERBOX)
    assert detector_module.placed(400, 100, 416, "letterbox") == (0, 156, 416, 104)
    assert (blob[:, :, 156:260] == 1).all() and (blob[:, :, :156] == 0.5).all() and (blob[:, :, 260:] == 0.5).all()
    square = photos.pixels(0)[:400, :400]
    same = [detector_module.to_blob(square, 96, fit) for fit in detector_module.FITS]
    assert np.array_equal(*same)


def test_every_class_of_a_place_or_the_best_and_no_more_than_can_be_compared() -> None:
    """`multi_label` gives each class above the confidence a box of its own."""
    rows = np.zeros((2, 8), dtype=np.float32)
    rows[0] = [0.5, 0.5, 0.2, 0.2, 0.9, 0.6, 0.1, 0.5]
    decode = detector_module.decode
    assert decode([rows], 10, 10, 0.3)[2].tolist() == [0]
    boxes, scores, classes = decode([rows], 10, 10, 0.3, multi_label=True)
    assert classes.tolist() == [0, 2] and scores.tolist() == pytest.approx([0.6, 0.5]) and len(boxes) == 2
    flood = np.random.RandomState(1).rand(1000, 85).astype(np.float32) * 0.9 + 0.05
    _, scores, _ = decode([flood], 10, 10, 0.0, multi_label=True)
    assert len(scores) == detector_module.MOST_CANDIDATES and scores.min() >= np.sort(flood[:, 5:].ravel())[-30000]


def test_the_two_homes_of_the_options_agree() -> None:
    """The options are read where OpenCV is not."""
    assert options.OVERLAP == detector_module.OVERLAP and video.Settings().reconnect == options.RECONNECT
    assert len(outputs.COCO_IDS) == 80 and len(set(draw.SUFFIXES) - set(photos.SUFFIXES)) == 0
    assert set(MODELS) and detecting.EXIT_INTERRUPTED == commands.EXIT_INTERRUPTED
    assert sources.is_url("rtsp://x") and not sources.is_url("c:/x")
