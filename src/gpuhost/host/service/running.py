"""What a detection service on a host says and shows of itself: what it was started with, and whether it is ready.

Runs on the target: Python 3.6, standard library. Reads only.
"""

import http.client
import os
import re
from typing import NamedTuple, Optional, Tuple

from ...text import printable
from ..edges import Edges
from ..units import TIMEOUT_S
from . import ready, units
from .places import SERVICE, SOCKET_FILE

_ASK_S = 10.0
#: systemd's words for a process that was ended because the unit had taken all of its MemoryMax.
_OOM = "killed by the OOM killer"


def shown(edges: Edges, unit: str, name: str) -> str:
    """Return a property of a unit; "" where systemd does not say it."""
    _, out, _ = edges.run(["systemctl", "show", "-p", name, unit], TIMEOUT_S)
    return out.strip().partition("=")[2]


class Serving(NamedTuple):
    """What a running service was started with: its generation, and the digest of its settings."""

    generation: Optional[int]
    settings: str


def serving(edges: Edges, root: str) -> Optional[Serving]:
    """Return what the service was started with; None where none runs."""
    pid = shown(edges, SERVICE, "MainPID")
    if not pid.isdigit() or pid == "0":
        return None
    try:
        where = os.readlink(str(edges.path(f"/proc/{pid}/cwd")))
    except OSError:
        return None
    found = re.match(rf"{re.escape(root)}/generations/([0-9]+)(?: \(deleted\))?$", where)
    rows = (edges.text(f"/proc/{pid}/environ") or "").split("\0")
    told = [row.partition("=")[2] for row in rows if row.startswith(f"{units.STARTED_WITH}=")]
    return Serving(int(found.group(1)) if found else None, told[0] if told else "")


def not_ready(edges: Edges) -> Tuple[str, bool]:
    """Return why the service is not ready, in words ("" where it is), and whether waiting longer is of no use."""
    try:
        answer = ready.ask(_ASK_S, str(edges.path(SOCKET_FILE)))
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer ({printable(error, 100) or type(error).__name__})", False
    if answer.status == 200:
        return "", True
    return ready.reason(answer), (answer.body or {}).get("state") == ready.REFUSED


def last_words(edges: Edges) -> str:
    """Return the last line that the service wrote, or that it was ended for lack of memory, which it cannot write."""
    _, out, _ = edges.run(["journalctl", "-u", SERVICE, "-n", "20", "-o", "cat", "--no-pager"], TIMEOUT_S)
    if _OOM in out:
        return "it was ended because it took more memory than service_limits.memory lets it take"
    lines = [line for line in out.splitlines() if line.startswith("error: ")] or out.splitlines()
    return printable(lines[-1], 400) if lines else ""
