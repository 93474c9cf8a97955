"""The boxes of Darknet's own program in C (Debian's package `darknet`, of 2018) for the same networks and pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gpuhost.yolo import devices
from gpuhost.yolo.darknet import heads_of
from gpuhost.yolo.detector import to_blob
from gpuhost.yolo.models import Wanted, files_of
from gpuhost.yolo.networks import Region
from gpuhost.yolo.synthetic import write_weights

from . import test_yolo_face
from .small_networks import NETWORKS, REAL, read, weights_for

LIBRARY = Path("/usr/lib/darknet/libdarknet.so")
PROGRAM = Path(__file__).with_name("darknet_in_c.py")
pytestmark = pytest.mark.skipif(
    not LIBRARY.is_file(), reason="Darknet's own program is not here: apt install darknet (Debian 12)"
)
KNOWN = ("plain", "wide", "tall", "one channel", "relu", "pad 0", "maxpool padding", "shortcut", "region")
"""Of the networks that other engines are checked against, those without what came after 2018."""


def by_darknet(cfg: Path, weights: Path, head: Any, blob: Any, folder: Path) -> Any:
    """Every box that Darknet itself makes of a blob (channels, height, width), cell by cell; `head` is the last one."""
    np.save(folder / "blob.npy", blob)
    line = [sys.executable, PROGRAM, LIBRARY, cfg, weights, head.classes, folder / "blob.npy", folder / "boxes.npy"]
    ran = subprocess.run(
        [str(word) for word in line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stdout.decode(errors="replace")[-2000:]
    boxes = np.load(folder / "boxes.npy")
    if isinstance(head, Region):  # which has them anchor by anchor
        boxes = boxes.reshape(len(head.anchors), -1, boxes.shape[1]).transpose(1, 0, 2).reshape(boxes.shape)
    return boxes


def agree(cfg: Path, weights: Path, blob: Any, folder: Path) -> Any:
    """Hold every box against Darknet's, within 0.1 pixels, and every score, within 1e-4; Darknet's boxes."""
    text = cfg.read_text("latin-1")
    network, given = read(text), blob[0]
    if "channels=1\n" in text:
        given = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), given, 1)[np.newaxis]
    expected = by_darknet(cfg, weights, heads_of(network.layers)[-1], given, folder)
    files = files_of(Wanted("", cfg, str(weights)), None, folder / "work")
    found = np.concatenate(devices.open_network(files, "cpu").forward(blob))
    assert found.shape == expected.shape
    pixels = np.array([network.width, network.height] * 2)
    assert np.abs((found - expected)[:, :4] * pixels).max() < 0.1
    assert np.abs((found - expected)[:, 4:]).max() < 1e-4
    return expected


def noise(cfg: Path) -> Any:
    """A blob of the size of a configuration."""
    network = read(cfg.read_text("latin-1"))
    return np.random.RandomState(3).rand(1, 3, network.height, network.width).astype(np.float32)


@pytest.mark.parametrize("name", KNOWN)
def test_the_boxes_are_those_of_darknet(name: str, tmp_path: Path) -> None:
    """Small networks with every kind of layer and head that it knows."""
    cfg = tmp_path / "birds.cfg"
    cfg.write_text(NETWORKS[name], encoding="utf-8")
    expected = agree(cfg, weights_for(tmp_path, read(NETWORKS[name])), noise(cfg), tmp_path)
    assert len(expected) > 100 and np.ptp(expected[:, 4]) > 0.4, "the boxes are not alive"


@pytest.mark.full
@pytest.mark.parametrize("name", ["yolov2", "yolov2-tiny-voc", "yolov3", "yolov3-tiny", "yolov3-spp"])
def test_real_networks_give_the_boxes_of_darknet(name: str, tmp_path: Path) -> None:
    """The real configurations of v2 and v3, with their input made small."""
    cfg, weights = tmp_path / "birds.cfg", tmp_path / "made.weights"
    text = re.sub(r"(?m)^(width|height)=.*$", r"\1=96", (REAL / f"{name}.cfg").read_text("latin-1"))
    cfg.write_text(text, encoding="utf-8")
    if name.startswith("yolov3"):  # where sums of many layers would grow beyond all bounds with random values
        write_weights(weights, read(text).layers)
    else:
        weights = weights_for(tmp_path, read(text))
    agree(cfg, weights, noise(cfg), tmp_path)


@pytest.mark.full
def test_a_trained_network_gives_the_boxes_of_darknet(tmp_path: Path) -> None:
    """The face of the photograph, as both see it."""
    weights, picture = tmp_path / "face.weights", cv2.imread(str(test_yolo_face.DATA / "astronaut.jpg"))
    weights.write_bytes(test_yolo_face.converted())
    expected = agree(test_yolo_face.DATA / "face.cfg", weights, to_blob(picture, 416), tmp_path)
    assert expected[:, 5].max() == pytest.approx(0.972, abs=0.002)
