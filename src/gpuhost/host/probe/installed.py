"""What gpuhost has put on a machine, read back: the generation in force, its links, toolkit and cuDNN
versions, the driver, the guard over it, and what tells the causes of a failure apart.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import re
from pathlib import Path
from typing import Optional

from ...errors import GpuhostError
from ...types import Json
from .. import store
from ..answer import channel
from ..commands import Run, run_command
from ..edges import Edges
from . import store as probe_store
from .driver import damaged, driver
from .fixes import fixes
from .guard import guard
from .machine import observe
from .rights import rights
from .signs import signs
from .surroundings import surroundings
from .virtualbox import RECORD as VIRTUALBOX
from .virtualbox import virtualbox

_NVCC_TIMEOUT_S = 30.0


def main(arguments: Json) -> int:
    """Answer with one observation of this machine and of what is installed below `arguments["root"]`."""
    answer = channel()
    try:
        answer(read(arguments["root"]))
    except GpuhostError as error:
        answer({"error": error.message, "next_step": error.next_step})
        return error.exit_code
    return 0


def read(root: str, machine: str = "/", run: Run = run_command) -> Json:
    """Return the observation of a machine (its files lie below `machine`) and what is installed below `root` there."""
    observation, edges = observe(machine, run), Edges(machine, run)
    found = installed(edges, root)
    found["driver"] = driver(edges, observation["kernel"]["boots"], root)
    found["guard"] = guard(edges, root)
    if found["driver"]["record"] is not None:
        found["fixes"] = fixes(edges, root, observation["kernel"], observation["platform"]["distribution"])
    found["driver"]["damaged"] = damaged(edges, found["driver"]["record"], found["guard"]["stack"])
    if edges.exists(f"{root}/{VIRTUALBOX}"):
        found["virtualbox"] = virtualbox(edges, observation["kernel"]["boots"], root)
    found["rights"] = rights(edges.path(root)) if edges.exists(root) else None
    found["signs"] = signs(edges, observation["kernel"]["running"], observation["nvidia"]["smi"]["status"] == "ok")
    # Without a lock it says how the host is judged; nothing else rests on it, so that what fails here is not a problem.
    found["surroundings"] = surroundings(Edges(machine, run))
    found["problems"] = edges.problems
    return {"observation": observation, "installed": found}


def installed(edges: Edges, root: str) -> Json:
    """The state of the store below `root`.

    `generation` is None when none is in force. `links` maps each name in it to its store folder and that
    folder's digest, None where it is not whole. `cuda`, `nvcc` and `cudnn` are the versions that the files
    below `current` themselves say.
    """
    number = probe_store.in_force(edges, root)
    found: Json = {"root": root, "generation": number, "stack": None, "links": {}}
    found.update(cuda=None, nvcc=None, cudnn=None)
    if number is not None:
        found["stack"] = probe_store.stack(edges, root, number)
        links = store.describe(Path(str(edges.path(root))), number)["links"]
        for name, target in sorted(links.items()):
            found["links"][name] = {"target": target, "digest": sealed(edges, f"{root}/{target}")}
        # Of one generation, even when another comes into force meanwhile.
        current = f"{root}/generations/{number}"
        found["cuda"] = toolkit_version(edges, f"{current}/cuda")
        found["nvcc"] = nvcc_version(edges, f"{current}/cuda/bin/nvcc")
        found["cudnn"] = cudnn_version(edges, f"{current}/cudnn/include")
    return found


def sealed(edges: Edges, folder: str) -> Optional[str]:
    """Return the digest of a complete store folder, by its marker and by the names and sizes of its files."""
    try:
        return store.sealed_digest(edges.path(folder), edges.record(f"{folder}/{store.MARKER}"))
    except OSError as error:
        edges.problem(folder, f"It cannot be read: {error.strerror}.")
        return None


def toolkit_version(edges: Edges, folder: str) -> Optional[str]:
    """The version that a CUDA toolkit's version.json (from 11.1 on) or version.txt (before) names; None without such a
    file, and a problem where one names none.
    """
    name = f"{folder}/version.json"
    if edges.exists(name):
        part = (edges.record(name) or {}).get("cuda")
        version = part.get("version") if isinstance(part, dict) else None
    else:
        name = f"{folder}/version.txt"
        match = re.search(r"CUDA Version ([0-9.]+)", edges.text(name) or "")
        version = match.group(1) if match else None
    if not isinstance(version, str):
        if edges.exists(name):
            edges.problem(name, "It names no version.")
        return None
    return version


def nvcc_version(edges: Edges, path: str) -> Optional[str]:
    """The series ("11.8") that a toolkit's compiler says it is; None where there is no compiler, and a problem where
    it does not say it.
    """
    if not edges.path(path).exists():
        return None
    out = edges.output([str(edges.path(path)), "--version"], _NVCC_TIMEOUT_S, path)
    match = re.search(r"release ([0-9]+\.[0-9]+)", out or "")
    if out is not None and match is None:
        edges.problem(path, "It does not say its version.")
    return match.group(1) if match else None


def cudnn_version(edges: Edges, folder: str) -> Optional[str]:
    """The version ("8.6.0") that cuDNN's header defines: cudnn_version.h from 8 on, cudnn.h before."""
    for name in ("cudnn_version.h", "cudnn.h"):
        text = edges.text(f"{folder}/{name}") or ""
        parts = [re.search(rf"#define CUDNN_{part}\s+([0-9]+)", text) for part in ("MAJOR", "MINOR", "PATCHLEVEL")]
        if all(parts):
            return ".".join(part.group(1) for part in parts if part)
    return None
