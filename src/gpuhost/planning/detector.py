"""What the role yolo prepares beside the detector: the files of the benchmark, and the published weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any, List, Sequence, TypedDict

from ..errors import RefusedError
from ..host.isolated import start
from ..shapes.lock import Lock, Weights
from .catalog import shipped


class Prepared(TypedDict):
    """What `files` returns."""

    command: List[str]
    marker: str
    weights: List[Weights]


def files(
    models: Sequence[str],
    root: str,
    environment: str,
    folder: str,
    size: int,
    photos: int,
    weights: str,
    lock: Lock,
) -> Prepared:
    """Return the `command` that makes the benchmark's files, the `marker` of what it has made, and the `weights` of the
    networks, as the role `artifact` takes them.

    `environment` and `folder` (the detector's own) are relative to `root`. Another command, or another detector, is
    another marker.
    """
    line = [*start(f"{root}/{environment}/bin/python", f"{root}/{folder}", "gpuhost.yolo"), "prepare"]
    line += ["--work", f"{root}/cache/yolo", "--size", str(size), "--count", str(photos)]
    for name in models:
        line += ["--model", name]
    if weights == "published":
        line += ["--weights-dir", f"{root}/cache/yolo/published"]
    return {
        "command": line,
        "marker": f"{root}/cache/yolo/.prepared-{short_digest([line, folder])}",
        "weights": locked(lock, models) if weights == "published" else [],
    }


def locked(lock: Lock, models: Sequence[str]) -> List[Weights]:
    """Return the published weights of some networks, as the lock has them."""
    known = {row["name"]: row for row in lock["contents"]["weights"]} if lock else {}
    for name in models:
        if f"{name}.weights" not in known:
            raise RefusedError(
                f"The lock has no published weights of {name}.",
                "Take them into it: ./run ansible-playbook playbooks/plan.yml -e yolo_weights=published",
            )
    return [known[f"{name}.weights"] for name in models]


def published() -> List[Weights]:
    """Return the published weights of every network of the catalog, as a lock has them."""
    rows = [(row["name"], row["weights"]) for row in shipped().yolo["models"]]
    return [
        {"name": f"{name}.weights", "url": file["url"], "sha256": file["sha256"], "size": file["bytes"]}
        for name, file in rows
    ]


def short_digest(value: Any) -> str:
    """Return 12 hex digits that change when a value does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
