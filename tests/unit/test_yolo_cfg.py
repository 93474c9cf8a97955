"""Darknet configurations: 53 real ones, the spellings of one network, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.errors import ArtifactError, UsageError
from gpuhost.yolo import cfg_network, devices, reference
from gpuhost.yolo.cfg_sections import MOST_SECTIONS
from gpuhost.yolo.darknet import cfg_text, count_parameters, yolo_heads
from gpuhost.yolo.models import Wanted, files_of

from .small_networks import NETWORKS, REAL, read, small, weights_for

#: What cannot be computed here, and the line that says so.
REFUSED = {
    "Gaussian_yolov3_BDD": (608, "Gaussian_yolo"),
    "cspx-p7-mish": (2583, "mask"),
    "cspx-p7-mish_hp": (2612, "anchors has 31"),
    "t1.test": (99, "connected"),
    "tiny-yolo_xnor": (34, "xnor=1"),
    "yolo9000": (217, "tree="),
    "yolov1_tiny-yolo": (108, "connected"),
    "yolov1_xyolo.test": (28, "batchnorm"),
    "yolov1_yolo": (229, "local"),
    "yolov1_yolo-coco": (230, "local"),
    "yolov1_yolo-small": (16, "crop"),
    "yolov1_yolo.train": (229, "local"),
    "yolov1_yolo2": (226, "local"),
    "yolov3-tiny_occlusion_track": (112, "crnn"),
    "yolov3-tiny_xnor": (38, "xnor=1"),
    "yolov4-sam-mish-csp-reorg-bfm": (865, "reorg3d"),
}
#: Millions of values in the weight file, as OpenCV 4.14.0 counted them.
MILLIONS = {
    "yolov2": 51.0, "yolov2-tiny-voc": 15.9, "yolov3-spp": 63.1, "yolov3-tiny-prn": 4.9, "yolov3-tiny": 8.9,
    "yolov3_5l": 62.4, "yolov3-openimages": 64.8, "csresnext50-panet-spp": 57.0, "yolov4-csp-s-mish": 8.3,
    "yolov4-csp-x-swish": 99.8, "yolov4-p5": 70.9, "yolov4-tiny-3l": 6.3, "yolov7-tiny": 6.2, "yolov7": 37.0,
}  # fmt: skip


def real(name: str) -> cfg_network.CfgNetwork:
    """One of the real configurations."""
    return cfg_network.read((REAL / f"{name}.cfg").read_bytes(), f"{name}.cfg")


def test_every_real_configuration_is_read_or_refused_at_its_line() -> None:
    """None is forgotten."""
    found = {path.stem for path in REAL.glob("*.cfg")}
    assert len(found) == 53 and set(REFUSED) < found
    for name in sorted(found - set(REFUSED)):
        network = real(name)
        assert yolo_heads(network.layers) and not network.inserted
        assert opens(network.layers, network.width, network.height)
        if name in MILLIONS:
            assert round(count_parameters(network.layers) / 1e6, 1) == MILLIONS[name]
    for name, (line, words) in REFUSED.items():
        with pytest.raises(UsageError, match=words) as caught:
            real(name)
        assert caught.value.message.startswith(f"{name}.cfg:{line}: ") and caught.value.next_step


PLAIN = read(small()).layers
#: Spellings that change nothing.
ALIKE: Dict[str, Any] = {
    "crlf": small().replace("\n", "\r\n"),
    "old Mac": small().replace("\n", "\r"),
    "bom": b"\xef\xbb\xbf" + small().encode(),
    "tabs": small([("filters=8", "\tfilters\t=\t8\t")]),
    "spaces": small([("filters=8", "  filters =  8 ")]),
    "network": small([("[net]", "[network]")]),
    "semicolon": "; a comment\n" + small(),
    "Latin-1 comment": b"# \xe9t\xe9\n" + small().encode(),
    "inline hash": small([("filters=8", "filters=8 # eight")]),
    "inline semicolon": small([("filters=8", "filters=8 ; eight")]),
    "comment in a list": small([("40,44", "40,44 # was 1,2")]),
    "section space": small([("[net]", "[ net ]")]),
    "section comment": small([("[maxpool]", "[maxpool] # halves")]),
    "anchors trailing comma": small([("40,44", "40,44,")]),
    "anchors float": small([("anchors=4,5,", "anchors=4.0,5.,")]),
    "whole as float": small([("filters=8", "filters=8.0")]),
    "noeol": small().rstrip("\n"),
    "empty value": small([("random=0", "random=")]),
    "no equals": small([("random=0", "random")]),
    "conv short": small([("[convolutional]", "[conv]")]),
    "max short": small([("[maxpool]", "[max]")]),
    "twice, the first counts": small([("filters=8", "filters=8\nfilters=9")]),
    "unknown option": small([("filters=8", "filters=8\ncolour=blue")]),
    "random": small([("random=0", "random=1")]),
    "more anchors than num": small([("40,44", "40,44, 1,1")]),
    "iou_thresh": small([("num=6", "num=6\niou_thresh=0.213\niou_loss=ciou")]),
    "dilation 1": small([("filters=8", "filters=8\ndilation=1\nxnor=0")]),
    "stopbackward": small([("filters=8", "filters=8\nstopbackward=1")]),
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_spelling_changes_nothing(name: str) -> None:
    """The layers are those of the plain text."""
    assert read(ALIKE[name]).layers == PLAIN


@pytest.mark.parametrize("name", ["empty value", "no equals", "twice, the first counts", "unknown option"])
def test_what_is_passed_over_is_told_with_its_line(name: str) -> None:
    """Nothing is passed over in silence."""
    notes = read(ALIKE[name]).notes
    assert notes and all(note.startswith("birds.cfg:") for note in notes)


def test_silu_is_swish() -> None:
    """Two names of one function."""
    assert read(NETWORKS["swish"].replace("swish", "silu")).layers == read(NETWORKS["swish"]).layers


BAD: Dict[str, Any] = {
    "empty": (b"", 1, "no section"),
    "binary": (bytes(range(256)), 1, "zero bytes"),
    "utf-16": (small().encode("utf-16"), 1, "zero bytes"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, 1, "not a line"),
    "no net": (small([("[net]", "[convolutional]")]), 1, "first section"),
    "before the first section": ("width=3\n" + small(), 1, "before the first section"),
    "net again": (small() + "[net]\nwidth=32\n", 69, "kind [net]"),
    "upper": (small([("[maxpool]", "[MAXPOOL]")]), 18, "lower case"),
    "no bracket": (small([("[maxpool]", "[maxpool")]), 18, "not a section"),
    "no width": (small([("width=64\n", "")]), 1, "no width"),
    "zero width": (small([("width=64", "width=0")]), 4, "width=0"),
    "huge width": (small([("width=64", "width=99999999999999999999")]), 4, "32 bits"),
    "two channels": (small([("channels=3", "channels=2")]), 6, "2 channels"),
    "text for a number": (small([("filters=8", "filters=many")]), 12, "filters=many"),
    "text behind a number": (small([("filters=8", "filters=8x")]), 12, "filters=8x"),
    "half a filter": (small([("filters=8", "filters=8.5")]), 12, "filters=8.5"),
    "no filters": (small([("filters=8", "filters=0")]), 12, "filters=0"),
    "negative filters": (small([("filters=8", "filters=-8")]), 12, "filters=-8"),
    "too many filters": (small([("filters=8", "filters=999999999")]), 12, "filters=999999999"),
    "wrong filters": (small([("filters=21", "filters=20")]), 43, "needs 21 filters"),
    "classes": (small([("classes=2", "classes=3")]), 43, "needs 24 filters"),
    "num too small": (small([("num=6", "num=3")]), 41, "num=3"),
    "too few anchors": (small([(", 40,44", "")]), 42, "anchors has 10"),
    "no anchors": (small([("anchors=", "anker=")]), 40, "no anchors"),
    "negative mask": (small([("mask=3,4,5", "mask=-1,4,5")]), 41, "mask"),
    "anchor zero": (small([("16,20", "0,20")]), 42, "not above 0"),
    "route too far back": (small([("layers=-3", "layers=-30")]), 48, "no such one"),
    "route ahead": (small([("layers=-1,2", "layers=-1,9")]), 54, "no such one"),
    "route to a head": (small([("layers=-3", "layers=-1")]), 48, "detection layer"),
    "route of two sizes": (small([("layers=-1,2", "layers=-1,0")]), 53, "different sizes"),
    "behind a head": (small([("[route]\nlayers=-3", "[dropout]")]), 47, "boxes of the detection layer"),
    "activation": (small([("activation=linear", "activation=hardtan")]), 38, "hardtan"),
    "activation with a comment": (small([("activation=leaky", "activation=leaky#x")]), 16, "leaky#x"),
    "dilation": (small([("filters=8", "filters=8\ndilation=2")]), 13, "dilation"),
    "share_index": (small([("filters=16", "filters=16\nshare_index=0")]), 24, "share_index"),
    "xnor": (small([("filters=8", "filters=8\nxnor=1")]), 13, "xnor=1"),
    "flipped": (small([("filters=8", "filters=8\nflipped=1")]), 13, "flipped=1"),
    "dontload": (small([("filters=8", "filters=8\ndontload=1")]), 13, "dontload=1"),
    "two strides": (small([("filters=8", "filters=8\nstride_x=1")]), 13, "stride_x"),
    "groups": (small([("filters=8", "filters=8\ngroups=2")]), 13, "groups=2"),
    "no head": ("[net]\nwidth=32\nheight=32\nchannels=3\n[conv]\nfilters=1\n", 1, "no detection layer"),
    "only net": ("[net]\nwidth=32\nheight=32\nchannels=3\n", 1, "no detection layer"),
    "vanishing": (small([("size=2\nstride=2", "size=99\npadding=0\nstride=1")]), 18, "values"),
    "too many sections": ("[net]\n" + "[route]\n" * (MOST_SECTIONS + 1), MOST_SECTIONS + 1, "sections"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_computed_is_refused_with_its_line(name: str) -> None:
    """The file, the line, what is wrong, and what to do."""
    text, line, words = BAD[name]
    with pytest.raises(UsageError) as caught:
        read(text)
    assert caught.value.message.startswith(f"birds.cfg:{line}: "), caught.value.message
    assert words in caught.value.message and caught.value.next_step


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Alone, and behind the beginning of a configuration; no other exception."""
    for text in (data, b"[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\n" + data):
        with pytest.raises(UsageError, match=r"birds\.cfg:[0-9]+: "):
            read(text)


def test_a_long_network_is_read_at_once() -> None:
    """3,000 layers."""
    text = small() + "[route]\nlayers=0\n" * 3000
    assert len(read(text).layers) == len(PLAIN) + 3000


# ---- the same network on every engine -------------------------------------------------------------------------------


def prepared(text: str, folder: Path) -> Any:
    """The files of a network with random weights."""
    cfg = folder / "birds.cfg"
    cfg.write_text(text, encoding="utf-8")
    weights = weights_for(folder, read(text))
    return files_of(Wanted("", cfg, str(weights)), None, folder / "work")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_engine_and_plain_numpy_agree(name: str, tmp_path: Path) -> None:
    """Raw heads and boxes, for what the networks of others have and the four published ones have not."""
    files = prepared(NETWORKS[name], tmp_path)
    width, height = files.size
    blob = np.random.RandomState(3).rand(1, 3, height, width).astype(np.float32)
    expected = reference.forward(files.layers, files.weights, blob[0])
    opened = [devices.open_network(files, device) for device in ("cpu", "onnxruntime", "openvino")]
    for network in opened:
        for found, right in zip(network.raw_heads(blob), expected):
            assert reference.relative_error(found, right) < 1e-4
    first, *others = [network.forward(blob) for network in opened]
    for heads in others:
        for found, right in zip(heads, first):
            np.testing.assert_allclose(found, right, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["scale_x_y", "new_coords", "mish", "swish", "wide"])
def test_opencv_alone_gives_the_same_boxes(name: str, tmp_path: Path) -> None:
    """Its importer and its layers on the very file, without suppression, for what came after the Darknet in C."""
    text = NETWORKS[name].replace("num=6", "num=6\nthresh=0\nnms_threshold=0")
    files = prepared(text, tmp_path)
    net = cv2.dnn.readNetFromDarknet(str(tmp_path / "birds.cfg"), str(tmp_path / "random.weights"))
    blob = np.random.RandomState(3).rand(1, 3, *files.size[::-1]).astype(np.float32)
    net.setInput(blob)
    expected = net.forward(net.getUnconnectedOutLayersNames())
    for device in ("cpu", "onnxruntime"):
        for found, right in zip(devices.open_network(files, device).forward(blob), expected):
            assert found.shape == right.shape
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5)


def test_grey_and_relu6_by_their_definitions(tmp_path: Path) -> None:
    """The inserted convolutions do what they stand for: a grey picture in three channels, and a bend at 6."""
    text = small([("channels=3", "channels=1"), ("activation=leaky", "activation=relu6")])
    files = prepared(text, tmp_path)
    plain = read(small([("activation=leaky", "activation=relu6")])).layers
    assert len(plain) > len(PLAIN)
    blob = np.random.RandomState(5).rand(1, 3, 64, 64).astype(np.float32)
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), blob[0], 1)
    same = np.repeat(grey[np.newaxis], 3, axis=0)
    one = reference.forward(files.layers, files.weights, blob[0])
    two = reference.forward(files.layers, files.weights, same)
    for found, right in zip(one, two):
        assert reference.relative_error(found, right) < 1e-5
    values = np.linspace(-3, 9, 25)
    assert np.allclose(6 - np.maximum(6 - np.maximum(values, 0), 0), np.clip(values, 0, 6))


def test_weights_of_another_length_are_refused(tmp_path: Path) -> None:
    """One value too few or too many, and an old header of four bytes less, which is none."""
    files = prepared(small(), tmp_path)
    data = files.weights.read_bytes()
    cfg, path = tmp_path / "birds.cfg", tmp_path / "other.weights"
    for damaged in (data[:-4], data + bytes(4), data[:10], b""):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="does not fit its network"):
            files_of(Wanted("", cfg, str(path)), None, tmp_path / "work")
    path.write_bytes(np.array([0, 1, 0, 0], dtype="<i4").tobytes() + data[20:])
    assert files_of(Wanted("", cfg, str(path)), None, tmp_path / "work").weights_kind == "own"


def test_names_fit_their_network(tmp_path: Path) -> None:
    """One a line, as many as classes; without a file the classes are numbers."""
    prepared(small(), tmp_path)
    names, wanted = tmp_path / "birds.names", Wanted("", tmp_path / "birds.cfg", str(tmp_path / "random.weights"))
    assert files_of(wanted, None, tmp_path / "work").labels == ("class 0", "class 1")
    names.write_bytes("\ufeffblue tit\r\nchaffinch\r\n\r\n".encode())
    assert files_of(wanted._replace(names=names), None, tmp_path / "work").labels == ("blue tit", "chaffinch")
    for data, words in (
        (b"one\n", "1 names"),
        (b"a\n\nb\n", "empty line"),
        (b"\xff\xfe", "UTF-8"),
        (b"a\n\x1b[2J\n", ""),
    ):
        names.write_bytes(data)
        if words:
            with pytest.raises(UsageError, match=words):
                files_of(wanted._replace(names=names), None, tmp_path / "work")
        else:
            assert all(label.isprintable() for label in files_of(wanted._replace(names=names), None, tmp_path).labels)


def test_a_size_that_the_layers_cannot_have_is_refused(tmp_path: Path) -> None:
    """65 pixels make maps that cannot be joined."""
    prepared(small(), tmp_path)
    with pytest.raises(UsageError, match="65 x 65 pixels"):
        files_of(Wanted("", tmp_path / "birds.cfg", str(tmp_path / "random.weights")), 65, tmp_path / "work")


def opens(layers: Any, width: int, height: int) -> bool:
    """Whether OpenCV reads the configuration that is written for it."""
    text = cfg_text(layers, (width, height))
    return not cv2.dnn.readNetFromDarknet(np.frombuffer(text.encode(), np.uint8)).empty()


@pytest.mark.parametrize("name", ["network", "no equals", "conv short", "max short"])
def test_what_only_darknet_reads_becomes_what_opencv_reads(name: str) -> None:
    """The spelling itself is refused by OpenCV, and the configuration that is written for it is read."""
    with pytest.raises(cv2.error):
        cv2.dnn.readNetFromDarknet(np.frombuffer(ALIKE[name].encode(), np.uint8))
    assert opens(read(ALIKE[name]).layers, 64, 64)
