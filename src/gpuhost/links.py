"""What a generation links to: decided by the lock, given the store folders that a run has installed."""

from __future__ import annotations

from typing import Any, Dict, List

from .catalog import Json

#: Names in a generation, as patterns of the shell, that only a lock with a card has.
GPU_ONLY = ("cuda", "cuda-*", "cudnn")


def of_generation(folders: Dict[str, Any], lock: Json) -> Dict[str, Any]:
    """`links`: name -> store folder, of the folders that this run has installed; `without`: the names and patterns to
    take out.

    A folder that is empty was left out of this run (by a tag): its link stays as it is. A name that the lock no longer
    has goes, so that a host never keeps, say, an OpenCV for the CPU under a lock that wants it built for a card.
    """
    plan = lock["plan"]
    links = {name: str(folder) for name, folder in folders.items() if folder}
    gone: List[str] = []
    if plan["driver"] is None:
        gone += GPU_ONLY
    if plan["opencv"]["source"] != "wheel":
        # The detector lives in OpenCV's environment.
        gone += ["venvs/opencv_cuda", "yolo"]
    return {"links": links, "without": [name for name in gone if name not in links]}
