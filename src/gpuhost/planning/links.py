"""What a generation links to: decided by the lock, given the store folders that a run has installed."""

from __future__ import annotations

from typing import Any, Dict

from ..types import Json

#: Names in a generation, as patterns of the shell, that only a lock with a card has.
GPU_ONLY = ("cuda", "cuda-*", "cudnn")


def of_generation(folders: Dict[str, Any], lock: Json) -> Dict[str, Any]:
    """`links`: name -> store folder, of the folders that this run has installed; `without`: the names and patterns to
    take out.

    A folder that is empty was left out of this run (by a tag): its link stays as it is. What only a
    card needs goes when the lock has none. (An OpenCV for the CPU under a lock with a card is `verify/`'s to tell.)
    """
    links = {name: str(folder) for name, folder in folders.items() if folder}
    gone = GPU_ONLY if lock["plan"]["driver"] is None else ()
    return {"links": links, "without": [name for name in gone if name not in links]}
