"""What is prepared for the benchmark: the command, the marker that says what it has made, and the published weights."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from gpuhost.errors import RefusedError
from gpuhost.planning import detector

BASE: Dict[str, Any] = {
    "models": ["yolov4-tiny"],
    "root": "/opt/gpuhost",
    "environment": "store/e",
    "folder": "store/yolo",
    "size": 416,
    "photos": 192,
    "weights": "synthetic",
    "lock": {"contents": {"weights": detector.published()}},
}


def test_the_marker_is_named_after_all_that_changes_the_files() -> None:
    """Sizes, models, weights and the detector itself."""
    changes = [{"models": ["yolov3"]}, {"size": 320}, {"photos": 10}, {"weights": "published"}, {"folder": "store/y2"}]
    markers = {detector.files(**{**BASE, **change})["marker"] for change in [{}, *changes]}
    assert len(markers) == 6
    assert all(marker.startswith("/opt/gpuhost/cache/yolo/.prepared-") for marker in markers)


def test_the_command_runs_the_detector_in_its_environment() -> None:
    """With words only, as the module `command` wants them."""
    found = detector.files(**{**BASE, "weights": "published"})["command"]
    assert found[0] == "/opt/gpuhost/store/e/bin/python" and "/opt/gpuhost/store/yolo" in found
    assert found[-2:] == ["--weights-dir", "/opt/gpuhost/cache/yolo/published"]
    assert all(isinstance(word, str) for word in found)


def test_published_weights_come_over_https_with_a_checksum() -> None:
    """As the role artifact demands, one for each network."""
    assert detector.files(**BASE)["weights"] == []
    (row,) = detector.files(**{**BASE, "weights": "published"})["weights"]
    assert row["name"] == "yolov4-tiny.weights"
    assert row["url"].startswith("https://") and len(row["sha256"]) == 64 and row["size"] > 10**7
    for lock in ({}, {"contents": {"weights": []}}):
        with pytest.raises(RefusedError, match=r"no published weights of yolov4-tiny.*yolo_weights=published"):
            detector.files(**{**BASE, "weights": "published", "lock": lock})
