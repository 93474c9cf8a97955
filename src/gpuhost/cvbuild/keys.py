"""The cache key: everything that changes the wheel's bytes, and nothing that does not (no path of a machine)."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

from .. import strict_json
from ..host import files
from ..types import Json
from .options import Option
from .wheel import NAME, facts_of

#: Raised when the script itself changes what it makes from the same input.
FORM = 2


def inputs(
    sources: Sequence[Mapping[str, Any]],
    options: List[Option],
    toolkit: str,
    cudnn: str,
    compiler: str,
    numpy: str,
    python_tag: str,
    glibc: str,
    cmake: str,
) -> Json:
    """What the key is made of; `options` have words in place of paths. With the limited API any Python 3 may build."""
    limited = any(o.name == "PYTHON3_LIMITED_API" and o.value == "ON" for o in options)
    return {
        "form": FORM,
        "sources": sorted(str(row["sha256"]) for row in sources),
        "options": [o.argument for o in options],
        "toolkit": toolkit,
        "cudnn": cudnn,
        "compiler": compiler,
        "numpy": numpy,
        "python": "abi3" if limited else python_tag,
        "glibc": glibc,
        "cmake": cmake,
    }


def key(value: Json) -> str:
    """32 hex digits over the inputs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8")).hexdigest()[:32]


def kept(cache: Path, wanted: str) -> Optional[Path]:
    """The wheel of a key in the cache, when it is complete: its bytes are those that were put there."""
    folder = cache / wanted
    try:
        note = strict_json.load(folder / "wheel.json")
        path = folder / str(note["file"])
        whole = path.is_file() and files.sha256(path) == note["sha256"] and facts_of(path)["key"] == wanted
    except (OSError, ValueError, KeyError):
        return None
    return path if whole else None


def described(wheel: Path) -> Json:
    """A wheel as an environment's lock names a package's file, and where it lies."""
    return {
        "path": str(wheel),
        "name": NAME,
        "version": wheel.name.split("-")[1],
        "file": wheel.name,
        "kind": "wheel",
        "sha256": files.sha256(wheel),
        "size": wheel.stat().st_size,
    }


def keep(cache: Path, wanted: str, wheel: Path) -> Path:
    """Put a wheel into the cache under its key; the note that makes it count is written last."""
    folder = cache / wanted
    path = folder / wheel.name
    with wheel.open("rb") as given, files.whole(path) as handle:
        shutil.copyfileobj(given, handle, 1 << 20)
    files.write_whole(folder / "wheel.json", json.dumps({"file": wheel.name, "sha256": files.sha256(path)}) + "\n")
    return path
