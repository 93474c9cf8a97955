"""The files of this package that a target needs to run the detector, or the watch, as text by relative path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List

from . import __version__, bundle
from .watch_install import LAUNCHER

ROOT = Path(__file__).parent
PARTS = (
    "__init__.py",
    "credentials.py",
    "errors.py",
    "files.py",
    "reading.py",
    "strict_json.py",
    "text.py",
    "data/yolo.json",
    "yolo",
)

#: The program of `python -I -c`, which runs a module from a folder: "folder", "module" and the module's own arguments
#: follow. With -I neither the working folder nor a variable adds modules; the folder comes last, so that the
#: environment's own NumPy and OpenCV are found before any beside this package.
_START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), {}, '__main__', True)"

#: Run with -I, so that no environment variable and no folder of a user's is read; its own folder it adds itself.
_LAUNCHER = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gpuhost.watch_run import main

sys.exit(main(sys.argv[1:]))
"""


def start(python: str, folder: str, module: str) -> List[str]:
    """Return the start of a command line that runs a module from a folder, and imports from no other place that others
    may write to.
    """
    return [python, "-I", "-B", "-c", _START, folder, module]


def yolo(_: Any = None) -> Dict[str, Any]:
    """The detector, as `described` tells it."""
    files: Dict[str, str] = {}
    for part in PARTS:
        path = ROOT / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            files[f"gpuhost/{file.relative_to(ROOT).as_posix()}"] = file.read_text(encoding="utf-8")
    return described(files)


def watch(_: Any = None) -> Dict[str, Any]:
    """The watch's program with the modules that it needs, as `described` tells it."""
    modules = bundle.sources("watch_run")
    files = {f"{name.replace('.', '/')}.py": text for name, text in modules.items() if name != "gpuhost"}
    return described({**files, "gpuhost/__init__.py": modules["gpuhost"], LAUNCHER: _LAUNCHER})


def described(files: Dict[str, str]) -> Dict[str, Any]:
    """`files`: path below the tree -> content; `digest`: 12 hex digits over all of it; `version`: the package's."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    return {"files": files, "digest": digest, "version": __version__}
