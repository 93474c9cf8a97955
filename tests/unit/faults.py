"""Described faults: each file below tests/hosts/faults is one host, told as what differs from a healthy one.

about       what has happened on this host
words       where the words of drivers and libraries in it were read
host        the healthy host that it differs from: gpu, cpu, alone (gpu, without OpenCV and TensorFlow), or beside
            (gpu, with VirtualBox)
says        what programs print there; it goes through the project's own parsers. Lines, or {"record", "asked"}: what a
            real machine said in that state (tests/data/secureboot) when the command was asked
set, drop   places in what verify/ collects, and their values
fails       every check that fails, with its diagnosis (null: none is known)
actual      words that the failure shows
remedy      the whole remedy of the first failure
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from gpuhost.host.probe.driver import parse_modinfo, parse_test_key
from gpuhost.host.probe.environment import build_lines
from gpuhost.host.probe.signs import parse_free_memory, telling_lines
from gpuhost.verification.collect import telling

from .. import recorded
from .collected import alone_host, beside_host, cpu_host, gpu_host

Json = Dict[str, Any]
FOLDER = Path(__file__).resolve().parents[1] / "hosts" / "faults"
FILES = sorted(FOLDER.glob("*.json"))
HEALTHY = {"cpu": cpu_host(), "gpu": gpu_host(), "alone": alone_host(), "beside": beside_host()}

#: The beginnings of places, in short.
SHORT = {
    "observation": ["machine", "observation"],
    "installed": ["machine", "installed"],
    "driver": ["machine", "installed", "driver"],
    "guard": ["machine", "installed", "guard"],
    "virtualbox": ["machine", "installed", "virtualbox"],
    "signs": ["machine", "installed", "signs"],
    "links": ["machine", "installed", "links"],
    "opencv": ["environments", "opencv_cuda"],
    "tensorflow": ["environments", "dl4cv"],
}
#: A program's words, the place that they decide, and who reads them.
PROGRAMS: Dict[str, Tuple[str, Callable[[str], Any]]] = {
    "dmesg": ("signs/kernel_log", telling_lines),
    "tensorflow": ("tensorflow/said", telling),
    "cv2.getBuildInformation": ("opencv/computed/build", build_lines),
    "modinfo": ("driver/module", parse_modinfo),
    "mokutil --test-key": ("driver/key/enrolled", parse_test_key),
    "nvidia-smi memory": ("signs/free_mib", parse_free_memory),
}


def read(file: Path) -> Json:
    """Read one described fault."""
    return dict(json.loads(file.read_text(encoding="utf-8")))


def fresh(kind: str) -> Json:
    """A copy of a healthy host."""
    return copy.deepcopy(HEALTHY[kind])


def places(seen: Json, path: str) -> List[Tuple[Any, Any]]:
    """Where a path leads: the containers and the key in each; what a lock holds stands in what is in force too.

    A slash inside a name is written %."""
    first, *rest = [step.replace("%", "/") for step in path.split("/")]
    tops: List[Any] = [seen]
    if first in ("plan", "contents"):
        tops = [seen["lock"], seen["machine"]["installed"]["stack"]]
    found = []
    for top in tops:
        steps = [*SHORT.get(first, [first]), *rest]
        for step in steps[:-1]:
            top = top[int(step)] if isinstance(top, list) else top[step]
        found.append((top, int(steps[-1]) if isinstance(top, list) and steps[-1] != "+" else steps[-1]))
    return found


def put(seen: Json, path: str, value: Any) -> None:
    """Set a place; a path that ends with + adds to a list."""
    for top, key in places(seen, path):
        if key == "+":
            top.append(value)
        else:
            top[key] = value


def made(fault: Json) -> Json:
    """Return what verify/ collects on the host of a described fault."""
    seen = fresh(fault["host"])
    for program, text in fault.get("says", {}).items():
        path, parse = PROGRAMS[program]
        is_recorded = isinstance(text, dict)
        words = recorded.said(text["record"], *text["asked"])[1] if is_recorded else "\n".join(text)
        put(seen, path, parse(words))
    for path, value in fault.get("set", {}).items():
        put(seen, path, value)
    for path in fault.get("drop", []):
        for top, key in places(seen, path):
            del top[key]
    return seen
