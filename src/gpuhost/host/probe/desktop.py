"""Whether a desktop runs: sessions of X or Wayland, the display manager, and programs that have a screen.

NVIDIA's own installer stops half-way beside one. What cannot be read is a problem, and never "none".
Runs on the target: Python 3.6, standard library.
"""

import os
import re
from typing import Dict, List

from ...text import printable
from ..commands import NOT_FOUND
from ..edges import Edges

_TIMEOUT_S = 20.0
_SESSIONS = "/run/systemd/sessions"
_GRAPHICAL = ("x11", "wayland", "mir")
# What a display server opens, and nothing that only computes.
_SCREEN = re.compile(r"/dev/(dri/card[0-9]+|nvidia-modeset)")
_SERVERS = ("X", "Xorg", "Xwayland")
# They hold screens for others, or keep the driver awake; the kernel cuts a name after 15 characters.
_KEEPERS = ("systemd-logind", "elogind-daemon", "plymouthd", "nvidia-persiste")
_SHOWN = 60


def running(edges: Edges) -> List[str]:
    """Return what there is of a desktop, each as a phrase; the problems of `edges` say what could not be read."""
    booted = edges.exists("/run/systemd/system")
    return (_sessions(edges) + _display_manager(edges) if booted else []) + _servers(edges)


def parse_sessions(text: str) -> List[Dict[str, str]]:
    """The sessions from `loginctl show-session`: blocks of Key=value with a blank line between them."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in re.split(r"\n\s*\n", text)]
    return [block for block in blocks if block.get("Id")]


def _sessions(edges: Edges) -> List[str]:
    """The graphical sessions of logind; without an answer there are none only where it keeps no session either."""
    code, out, err = edges.run(["loginctl", "list-sessions", "--no-legend"], _TIMEOUT_S)
    if code != 0:
        if edges.names(_SESSIONS):
            edges.problem("loginctl", " ".join(err.split()) or f"It ended with status {code}.")
        return []
    names = [line.split()[0] for line in out.splitlines() if re.match(r"\s*[A-Za-z0-9_]", line)]
    if not names:
        return []
    asked = [word for key in ("Id", "Type", "Class", "State", "Name") for word in ("-p", key)]
    said = edges.output(["loginctl", "show-session", *asked, *names], _TIMEOUT_S, "loginctl")
    sessions = parse_sessions(said or "")
    if said is not None and not sessions:
        edges.problem("loginctl", "It does not tell what its sessions are.")
    return [
        f"a session of {session['Type']} ({printable(session.get('Name') or 'nobody', _SHOWN)})"
        for session in sessions
        if session.get("Type") in _GRAPHICAL and session.get("State") != "closing"
    ]


def _display_manager(edges: Edges) -> List[str]:
    """The display manager, where it runs."""
    code, out, err = edges.run(["systemctl", "is-active", "display-manager.service"], _TIMEOUT_S)
    state = out.strip()
    if state in ("active", "activating", "reloading"):
        return ["display-manager.service"]
    if state not in ("inactive", "failed", "unknown", "deactivating") and code != NOT_FOUND:
        edges.problem("systemctl", " ".join(err.split()) or f"It ended with status {code}.")
    return []


def _servers(edges: Edges) -> List[str]:
    """The processes that have a screen, and every X server."""
    pids = [name for name in edges.names("/proc") or [] if name.isdigit()]
    if not pids:
        edges.problem("/proc", "It shows no process.")
    found, hidden = [], 0
    for pid in sorted(pids, key=int):
        if pid == "1":
            continue  # init starts servers and is none
        try:
            with edges.path(f"/proc/{pid}/comm").open(encoding="utf-8", errors="replace") as file:
                name = file.read(_SHOWN).strip()
        except OSError:
            continue  # it has ended
        if name in _KEEPERS:
            continue
        if name in _SERVERS:
            found.append(f"{name} (process {pid})")
            continue
        try:
            held = sorted(_held(str(edges.path(f"/proc/{pid}/fd"))))
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue
        if held:
            found.append(f"{printable(name, _SHOWN)} (process {pid}, {held[0]})")
    if hidden:
        edges.problem("/proc/*/fd", f"The open files of {hidden} processes may not be read.")
    return found


def _held(folder: str) -> List[str]:
    """The screens among a process's open files."""
    held = []
    for name in os.listdir(folder):  # noqa: PTH208 - Path.iterdir is no faster, and there may be many
        try:
            target = os.readlink(os.path.join(folder, name))  # noqa: PTH118 - as the line above says
        except FileNotFoundError:
            continue  # it was closed meanwhile
        if _SCREEN.fullmatch(target):
            held.append(target)
    return held
