"""Collect what the checks judge from the machine that this runs on, each part on its own, with nothing changed there.

The result has the form that `diagnoses.verdict` judges, without a lock, and beside it

    as_found       what the host is checked against (`checks.found`)
    surroundings   where the system runs (`host.probe.surroundings`)
    cuda           what CUDA said (`host.probe.cuda`)
    heard          the lines that programs and files of the machine said, by source, as evidence
"""

import functools
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from ..checks import found
from ..credentials import without_secrets
from ..host.commands import NOT_FOUND, Run, run_command
from ..host.edges import Edges
from ..host.probe import cuda as probe_cuda
from ..host.probe.driver import MODPROBE_FOLDERS, RECORD, ROOT, damaged, driver
from ..host.probe.guard import guard
from ..host.probe.installed import installed
from ..host.probe.machine import observe, read_kernel
from ..host.probe.rights import rights
from ..host.probe.signs import signs
from ..host.probe.surroundings import surroundings
from ..text import printable
from ..types import Json

if TYPE_CHECKING:
    from ..shapes.answers import Machine
    from ..shapes.seen import Seen

#: No command may take longer, however long a run that installs would wait for it.
LIMIT_S = 20.0
KEPT_LINES, KEPT_CHARACTERS = 8, 300
#: Which lines of a command's output are evidence, by the words that it begins with.
TELLING: Tuple[Tuple[str, str], ...] = (
    ("modinfo", r"^(filename|version|license|signer|sig_key|signat)\b|modinfo:"),
    ("mokutil", r"."),
    ("nvidia-smi", r"."),
    ("dkms status", r"^nvidia"),
    ("dmesg", r"NVRM|Xid|nouveau|Loading of .*module.* is rejected|unsigned module"),
    ("dpkg --audit", r"."),
)
#: Files whose lines are evidence, and which.
FILES: Tuple[Tuple[str, str], ...] = (
    ("/proc/driver/nvidia/version", r"NVRM"),
    ("/proc/modules", r"^(nvidia|nouveau)"),
)


def collect(
    releases: Json, root: str = "/", run: Optional[Run] = None, cuda: Callable[[], Optional[Json]] = probe_cuda.cuda
) -> "Seen":
    """Return what the checks judge of the machine whose files lie below `root` and whose commands `run` runs.

    `releases` has the `codenames` of all releases of each distribution, and the `platforms` that gpuhost provisions.
    """
    over, end = os.pipe()
    # In this order: what ends the commands of the threads, which no signal reaches, is closed before they are awaited.
    with os.fdopen(over, "rb"), ThreadPoolExecutor(2) as pool, os.fdopen(end, "wb"):
        return together(releases, root, run or functools.partial(run_command, over=over), cuda, pool)


def together(
    releases: Json, root: str, run: Run, cuda: Callable[[], Optional[Json]], pool: ThreadPoolExecutor
) -> "Seen":
    """Return the same; what takes long is read in two threads at once."""
    heard: Dict[str, List[str]] = {}
    listening = functools.partial(heard_run, run, heard)
    edges = Edges(root, listening)
    where = surroundings(edges)
    observing = pool.submit(observe, root, listening, False)
    own = pool.submit(own_parts, edges)
    observation, state = observing.result(), own.result()
    state["signs"] = signs(edges, observation["kernel"]["running"], observation["nvidia"]["smi"]["status"] == "ok")
    state["problems"] = edges.problems
    machine = cast("Machine", {"observation": observation, "installed": state})
    as_found = found.expectation(machine, where["place"], where["names"])
    for problems in (observation["problems"], state["problems"]):
        problems[:] = [problem for problem in problems if concerns(problem["what"], where["place"], as_found["family"])]
    heard_files(edges, heard)
    seen = {
        "host": observation["hostname"] or "this machine",
        "lock": None,
        "lock_error": None,
        "options": {"require_gpu": True, "benchmark": False, "photos": 0, "images": None},
        "machine": machine,
        "as_found": as_found,
        "surroundings": where,
        "expected": {
            "platforms": list(releases["platforms"]),
            "platform": found.platform_row(machine["observation"], releases["codenames"]),
            "in_force": None,
        },
        "environments": {},
        "benchmark": {},
        "cuda": cuda(),
        "heard": heard,
    }
    return cast("Seen", seen)


def own_parts(edges: Edges) -> Json:
    """Return the part of the probe's answer that speaks of the driver, the guard and the store.

    Not every distribution names its kernels in /boot by their release; where none is found there, the running one is
    taken for the next. gpuhost's own record names the kernel that it made the driver for, so there nothing is guessed.
    """
    state, kernel = installed(edges, ROOT), read_kernel(edges)
    guess = None if edges.exists(f"{ROOT}/{RECORD}") else kernel["running"]
    state["driver"] = driver(edges, kernel["boots"] or guess or None, ROOT)
    state["guard"] = guard(edges, ROOT)
    state["driver"]["damaged"] = damaged(edges, state["driver"]["record"], state["guard"]["stack"])
    state["rights"] = rights(edges.path(ROOT)) if edges.exists(ROOT) else None
    return state


#: What no distribution but Debian's family has, and what a system without a kernel of its own has not.
OF_APT = ("dpkg", "apt-cache", "apt-get", "/var/lib/dpkg", "/var/lib/apt", "/etc/apt")
OF_KERNEL = ("modinfo", "lsinitramfs", "/boot", "/lib/modules", "/etc/default/grub", "/sys/firmware", "mokutil")


def concerns(what: str, place: str, family: Any) -> bool:
    """Return whether it says something about this host that a source could not be read."""
    without = (*(OF_APT if family != found.APT else ()), *(OF_KERNEL if place in found.OUTER else ()))
    return not what.startswith(without)


def heard_run(run: Run, heard: Dict[str, List[str]], argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
    """Run a command within the doctor's own limit, and keep the lines of its answer that are evidence."""
    code, out, err = run(argv, min(timeout, LIMIT_S))
    line = " ".join(argv)
    for begin, pattern in TELLING:
        if line.startswith(begin) and code != NOT_FOUND:
            lines = [text for text in (out + "\n" + err).splitlines() if re.search(pattern, text)]
            heard[printable(line, KEPT_CHARACTERS)] = shown(lines)
    return code, out, err


def heard_files(edges: Edges, heard: Dict[str, List[str]]) -> None:
    """Keep the lines of files that are evidence. What cannot be read here was reported by the probe."""
    quiet = Edges(str(edges.path("/")), edges.run)
    for name, pattern in FILES:
        lines = [line for line in (quiet.text(name) or "").splitlines() if re.search(pattern, line)]
        if lines:
            heard[name] = shown(lines)
    for folder in MODPROBE_FOLDERS:
        for name in quiet.names(folder) or []:
            text = quiet.text(f"{folder}/{name}") if name.endswith(".conf") else None
            lines = [line for line in (text or "").splitlines() if re.search(r"^\s*[a-z].*(nouveau|nvidia)", line)]
            if lines:
                heard[printable(f"{folder}/{name}", KEPT_CHARACTERS)] = shown(lines)


def shown(lines: Sequence[str]) -> List[str]:
    """Return the last of some lines, safe to show."""
    return [printable(without_secrets(line), KEPT_CHARACTERS) for line in lines[-KEPT_LINES:]]
