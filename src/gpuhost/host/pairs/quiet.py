"""Whether a host may be restarted now: the hour, and whether anybody changes it or uses its card.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import http.client
import re
import time
from typing import List, NamedTuple, Optional

from ...errors import RefusedError
from ...text import printable
from .. import files, store
from ..edges import Edges
from ..service import ready
from ..service.places import SERVICE, SOCKET_FILE
from ..service.running import shown

DAY = 24 * 60
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])-([01]?[0-9]|2[0-3]):([0-5][0-9])$")
_APPS = ("nvidia-smi", "--query-compute-apps=pid,process_name", "--format=csv,noheader")
_TIMEOUT_S = 60.0
_ASK_S = 10.0


class Window(NamedTuple):
    """Hours of each day, in minutes since midnight by the host's clock; the end may be on the next day."""

    begin: int
    end: int

    def left(self, now: int) -> int:
        """How many minutes of it are left; 0 outside of it."""
        length = (self.end - self.begin) % DAY or DAY
        since = (now - self.begin) % DAY
        return length - since if since < length else 0


def window(text: str) -> Window:
    """The hours that a text such as "02:00-05:00" means."""
    found = _TIME.match(text.strip())
    if found is None:
        raise RefusedError(
            f"update_window is '{printable(text, 40)}'.", "Write two times of the day, such as 02:00-05:00."
        )
    hours = [int(part) for part in found.groups()]
    return Window(60 * hours[0] + hours[1], 60 * hours[2] + hours[3])


def outside(text: str, needed: int, now: Optional[time.struct_time] = None) -> str:
    """Why a host must not be restarted at this time; "" where it may. `needed` are the minutes that it takes."""
    clock = now or time.localtime()
    left = window(text).left(60 * clock.tm_hour + clock.tm_min)
    at = f"it is {clock.tm_hour:02}:{clock.tm_min:02} on this host"
    if left == 0:
        return f"{at}, outside of update_window {text}"
    return f"{at}, and {left} minutes are left of update_window {text}, which is too short" if left < needed else ""


def busy(edges: Edges, root: str) -> List[str]:
    """What would be cut off by a restart: another run that changes the host, such as a build of OpenCV, requests inside
    the service, benchmarks, and programs that compute on a card.
    """
    told = changing(edges, root) + requests(edges) + benchmarks(edges)
    own = shown(edges, SERVICE, "MainPID")
    code, out, _ = edges.run(_APPS, _TIMEOUT_S)
    rows = [line.split(",", 1) for line in out.splitlines() if "," in line] if code == 0 else []
    others = [(pid.strip(), name.strip()) for pid, name in rows if pid.strip() != own]
    return told + [f"{printable(name, 80)} (process {pid}) computes on a card" for pid, name in others if pid.isdigit()]


def changing(edges: Edges, root: str) -> List[str]:
    """The run that holds the host's lock, which every build and installation of this project's does."""
    who = files.holder_of(edges.path(f"{root}/{store.LOCK}"))
    return [who] if who else []


def benchmarks(edges: Edges) -> List[str]:
    """The benchmarks of this project that run, of which those of a CPU use no card."""
    told = []
    for pid in edges.names("/proc") or []:
        words = (edges.text(f"/proc/{pid}/cmdline") or "").split("\0") if pid.isdigit() else []
        if "gpuhost.yolo" in words and "bench" in words:
            told.append(f"a benchmark runs (process {pid})")
    return told


def requests(edges: Edges) -> List[str]:
    """The requests that are inside the service; one that runs and does not tell counts as one that has some."""
    if not edges.path(SOCKET_FILE).exists() or shown(edges, SERVICE, "MainPID") in ("", "0"):
        return []
    try:
        data = ready.fetch(_ASK_S, str(edges.path(SOCKET_FILE)), "/metrics")[1]
    except (OSError, http.client.HTTPException) as error:
        return [f"the detection service does not say whether it is idle ({printable(error, 100)})"]
    found = re.search(rb"^gpuhost_service_inside ([0-9]+)$", data, re.MULTILINE)
    if found is None:
        return ["the detection service does not say whether it is idle"]
    return [f"the detection service has {int(found.group(1))} requests inside"] if int(found.group(1)) else []
