"""What gpuhost has put on a machine, read back: the generation in force, its links, toolkit and cuDNN
versions, the driver, the guard over it, and what tells the causes of a failure apart.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
from pathlib import Path
from typing import Any, Dict, Optional

from . import store
from .errors import GpuhostError
from .probe import observe
from .probe_answer import channel
from .probe_driver import driver
from .probe_edges import Edges, Run, run_command
from .probe_guard import guard
from .probe_rights import rights
from .probe_signs import signs

Json = Dict[str, Any]
_NVCC_TIMEOUT_S = 30.0


def main(arguments: Json) -> int:
    """Answer with one observation of this machine and of what is installed below `arguments["root"]`."""
    answer = channel()
    try:
        observation = observe()
    except GpuhostError as error:
        answer({"error": error.message, "next_step": error.next_step})
        return error.exit_code
    root, edges = arguments["root"], Edges("/", run_command)
    found = installed(Path(root))
    found["driver"] = driver(edges, observation["kernel"]["boots"], root)
    found["guard"] = guard(edges, root)
    found["rights"] = rights(Path(root))
    found["signs"] = signs(edges, observation["kernel"]["running"], observation["nvidia"]["smi"]["status"] == "ok")
    answer({"observation": observation, "installed": found})
    return 0


def installed(root: Path, run: Run = run_command) -> Json:
    """The state of the store below `root`.

    `generation` is None when none is in force. `links` maps each name in it to its store folder and that
    folder's digest, None where it is not whole. `cuda`, `nvcc` and `cudnn` are the versions that the files
    below `current` themselves say.
    """
    number = store.current_generation(root)
    found: Json = {"root": str(root), "generation": number, "stack": None, "links": {}}
    if number is not None:
        described = store.describe(root, number)
        found["stack"] = described["stack"]
        for name, target in sorted(described["links"].items()):
            marker = store.read_json(root / target / store.MARKER)
            found["links"][name] = {
                "target": target,
                "digest": None if marker is None else marker.get("digest"),
            }
    # Of one generation, even when another comes into force meanwhile.
    current = root / "current" if number is None else root / "generations" / str(number)
    found["cuda"] = toolkit_version(current / "cuda")
    found["nvcc"] = nvcc_version(current / "cuda" / "bin" / "nvcc", run)
    found["cudnn"] = cudnn_version(current / "cudnn" / "include")
    return found


def read_text(path: Path) -> str:
    """A file's text, empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def toolkit_version(folder: Path) -> Optional[str]:
    """The version that a CUDA toolkit's version.json (from 11.1 on) or version.txt (before) names."""
    described = store.read_json(folder / "version.json")
    if described is not None:
        part = described.get("cuda")
        version = part.get("version") if isinstance(part, dict) else None
        return version if isinstance(version, str) else None
    match = re.search(r"CUDA Version ([0-9.]+)", read_text(folder / "version.txt"))
    return match.group(1) if match else None


def nvcc_version(path: Path, run: Run) -> Optional[str]:
    """The series ("11.8") that a toolkit's compiler says it is; None where there is no compiler or it does
    not start.
    """
    if not path.exists():
        return None
    code, out, _ = run([str(path), "--version"], _NVCC_TIMEOUT_S)
    match = re.search(r"release ([0-9]+\.[0-9]+)", out) if code == 0 else None
    return match.group(1) if match else None


def cudnn_version(folder: Path) -> Optional[str]:
    """The version ("8.6.0") that cuDNN's header defines: cudnn_version.h from 8 on, cudnn.h before."""
    for name in ("cudnn_version.h", "cudnn.h"):
        text = read_text(folder / name)
        parts = [re.search(rf"#define CUDNN_{part}\s+([0-9]+)", text) for part in ("MAJOR", "MINOR", "PATCHLEVEL")]
        if all(parts):
            return ".".join(part.group(1) for part in parts if part)
    return None
