"""Whether the pair that runs works: the watch's own look, CUDA itself, and the environments in force.

Runs on the target: Python 3.6, standard library. Changes nothing.
"""

import time
from typing import TYPE_CHECKING, Callable, List, Optional, cast

from ...errors import GpuhostError
from ...types import Json
from .. import computing
from ..edges import Edges
from ..probe import cuda as probe_cuda
from ..probe.driver import module_for
from ..probe.signs import mig_instances
from ..watch import run as watch
from ..watch.judge import planned
from ..watch.read import read

if TYPE_CHECKING:
    from ...shapes.answers import CudaAnswer

#: So long may it take until driver, library and nodes are there, and then until CUDA and the environments have
#: answered: TensorFlow alone takes half a minute to load from a cold disk.
WITHIN_S, ANSWERS_S = 60.0, 60.0
#: Of the latter, how long CUDA may fail: the instances of MIG are made by another service of the boot.
CUDA_S = 30.0
_PAUSE_S = 3.0
_NODES_S = 15.0
#: What the update itself has not come to yet, or what has nothing to do with kernel and driver.
NOT_ASKED = ("guard.", "service.", "virtualbox.")
#: What each environment is asked, with its own Python: the number of cards that its library sees.
ASKED = {
    "opencv_cuda": "import cv2; print(cv2.cuda.getCudaEnabledDeviceCount())",
    "dl4cv": "import tensorflow; print(len(tensorflow.config.list_physical_devices('GPU')))",
}


def verdict(edges: Edges, root: str, within_s: float = WITHIN_S) -> str:
    """Return what is wrong with the kernel and the driver that run, "" for nothing.

    A driver may take a while until it is there, so that what is wrong counts only when the time is over.
    """
    until = time.monotonic() + within_s
    cards = cards_of(edges, root)
    if cards:
        # Where nothing else has made the device nodes since the boot, CUDA does, as for every program.
        probe_cuda.cuda(_NODES_S)
    wrong = patient(lambda: seen(edges, root), until)
    if wrong or not cards:
        return wrong
    return answered(edges, root, cards, min(within_s, CUDA_S))


def patient(ask: Callable[[], str], until: float) -> str:
    """Return what is wrong, "" for nothing, asking again until the time is over."""
    while True:
        wrong = ask()
        if not wrong or time.monotonic() + _PAUSE_S > until:
            return wrong
        time.sleep(_PAUSE_S)


def seen(edges: Edges, root: str) -> str:
    """What the watch finds wrong, where the kernel that runs is taken for the one that will boot."""
    edges.problems.clear()
    state = watch.look(edges, root, 30.0, as_it_runs)
    return "; ".join(f"{one.id}: {one.what}" for one in state.findings if not one.id.startswith(NOT_ASKED))


def as_it_runs(edges: Edges, root: str) -> Json:
    """Return what the watch reads; while a pair is on trial the default is the old kernel, and not this one."""
    found = read(edges, root, with_service=False)
    if "driver" in found:
        running = found["running"]
        found["driver"] = {**found["driver"], "kernel": running, "module": module_for(edges, running)}
    return found


def cards_of(edges: Edges, root: str) -> int:
    """Return how many cards there are that the lock in force is for; 0 where that cannot be read: the watch says so."""
    try:
        found = read(edges, root, with_service=False)
    except GpuhostError:
        return 0
    plan = planned(found.get("stack"))
    return len(found["cards"]) if plan and plan["gpus"] else 0


def answered(edges: Edges, root: str, cards: int, within_s: float) -> str:
    """What CUDA, or an environment, says against its cards; CUDA is asked again for so long."""
    begun = time.monotonic()
    until = begun + ANSWERS_S
    wrong = patient(lambda: cuda(probe_cuda.cuda(left(until)), cards, bool(mig_instances(edges))), begun + within_s)
    return wrong or environments(edges, root, until)


def left(until: float) -> float:
    """The seconds that are left, and a few at least."""
    return max(until - time.monotonic(), 10.0)


def cuda(found: Json, cards: int, has_mig: bool) -> str:
    """What is wrong by CUDA's own answers, with the ids of verify's checks; "" for nothing. Pure."""
    answer = cast("CudaAnswer", found)
    if computing.unloaded(answer):
        return f"cuda.library: {computing.unloaded(answer)}"
    if computing.refused(answer):
        return f"cuda.answers: {computing.refused(answer)}"
    if not computing.sees_all(answer, cards, has_mig):
        return f"cuda.answers: CUDA sees {found['count'] or 'none'} of {cards} cards"
    wrong = computing.wrong(answer)
    return f"cuda.computes: {'; '.join(wrong)}" if wrong else ""


def environments(edges: Edges, root: str, until: float) -> str:
    """What an environment in force says that sees no card; "" for nothing."""
    for name, asked in sorted(ASKED.items()):
        python = f"{root}/current/venvs/{name}/bin/python"
        if edges.exists(python):
            code, out, err = edges.run([str(edges.path(python)), "-I", "-c", asked], left(until))
            if code != 0 or count(out) < 1:
                said = last(err) or last(out) or f"it ended with status {code}"
                return f"environment {name}: it sees no card ({said})"
    return ""


def count(out: str) -> int:
    """The number in the last line of an output; 0 where there is none."""
    lines: List[str] = out.split()
    return int(lines[-1]) if lines and lines[-1].isdigit() else 0


def last(text: str) -> Optional[str]:
    """The last line of a text."""
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else None
