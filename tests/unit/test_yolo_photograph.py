"""A real photograph with the published weights: needs files that are not part of this project (see CONTRIBUTING.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict

import pytest

from gpuhost.yolo.detector import Detector
from gpuhost.yolo.models import facts_of
from gpuhost.yolo.networks import MODELS

VARIABLES = {
    "GPUHOST_WEIGHTS": "the artifact cache with the published weights, such as /opt/gpuhost/cache/artifacts",
    "GPUHOST_PHOTO": "a photograph",
    "GPUHOST_PHOTO_LABELS": "what is in it, by COCO's names with commas, such as dog,bicycle",
}
pytestmark = pytest.mark.weights


@pytest.fixture(name="asked", scope="module")
def asked_for() -> Dict[str, str]:
    """What the environment names. The marker was asked for, so nothing of it may be missing."""
    missing = [f"{name} ({what})" for name, what in VARIABLES.items() if not os.environ.get(name)]
    if missing:
        pytest.fail(f"Set {', and '.join(missing)}.")
    return {name: os.environ[name] for name in VARIABLES}


def published(cache: Path, model: str) -> Path:
    """The published weights of a model in the cache, which keeps a file under its SHA-256."""
    facts = facts_of(model)["weights"]
    return cache / facts["sha256"] / f"{model}.weights"


@pytest.mark.parametrize("model", MODELS)
def test_the_objects_of_a_photograph_are_found(model: str, asked: Dict[str, str], tmp_path: Path) -> None:
    """Each of the objects is found, by each network whose weights are there, with the published SHA-256."""
    weights = published(Path(asked["GPUHOST_WEIGHTS"]), model)
    if not weights.is_file():
        pytest.skip(f"there is no {weights}")
    detector = Detector(model, "cpu", tmp_path, weights_dir=weights.parent)
    assert detector.files.weights_kind == "real"
    found = {row.label for row in detector.detect(Path(asked["GPUHOST_PHOTO"]))}
    assert {label.strip() for label in asked["GPUHOST_PHOTO_LABELS"].split(",")} <= found


def test_some_weights_are_there(asked: Dict[str, str]) -> None:
    """If every network was skipped, nothing was shown."""
    assert any(published(Path(asked["GPUHOST_WEIGHTS"]), model).is_file() for model in MODELS)
