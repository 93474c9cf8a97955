"""Putting the site in front of the detection service into nginx, beside whatever the host's owner has there.

What is there is never changed: the site is one file of our own, tried on a copy of the whole configuration first, and
what was there before comes back where nginx does not take it. Runs on the target: Python 3.6, standard library.
"""

import re
import shutil
import time
from pathlib import Path
from typing import List, NamedTuple, Optional

from ...errors import EnvironmentProblem
from ...text import printable
from .. import files
from ..driver import added
from ..edges import Edges
from ..units import all_hold, systemctl
from . import proxy, sockets
from .places import DEFAULT_SITE, NGINX, PROGRAM, SITE

PACKAGE = UNIT = "nginx"
WHO = "The detection service"
_TIMEOUT_S = 60.0
_LISTENS_WITHIN_S = 15.0
_LISTEN = re.compile(r"^\s*listen\s+([^;\s]+)", re.MULTILINE)
_FILE = re.compile(r"^# configuration file (.+):$", re.MULTILINE)


class Listen(NamedTuple):
    """A `listen` of somebody's configuration: in which file, at which address and port."""

    file: str
    address: str
    port: int


def is_ours(edges: Edges, root: str) -> bool:
    """Return whether nginx came to this host with gpuhost."""
    return PACKAGE in added.read(edges.path(root))["added"]


def complaint(edges: Edges, config: str = f"{NGINX}/nginx.conf") -> Optional[str]:
    """Return what nginx says against a configuration, by default its own; None where it takes it."""
    code, out, err = edges.run(["/usr/sbin/nginx", "-t", "-q", "-c", config], _TIMEOUT_S)
    if code == 0:
        return None
    lines = [line for line in (err or out).splitlines() if "[emerg]" in line] or (err or out).splitlines()
    return printable(lines[0], 400) if lines else f"it ended with status {code}"


def listens(dump: str) -> List[Listen]:
    """Return every `listen` at a TCP port in what `nginx -T` prints."""
    found = []
    parts = _FILE.split(dump)
    for file, text in zip(parts[1::2], parts[2::2]):
        for word in _LISTEN.findall(text):
            where, _, port = word.rpartition(":")
            if word.startswith("unix:") or not port.isdigit():
                where, port = word, "80"
            if word.startswith("unix:"):
                continue
            address = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(where, where)  # noqa: S104 - what nginx means by it
            found.append(Listen(file, address.strip("[]"), int(port)))
    return found


def refuse_port(edges: Edges, root: str, front: proxy.Front) -> None:
    """Refuse an address that another program, or another site of nginx, listens at."""
    address, port = proxy.address(front.listen)
    step = f"Stop it, or listen elsewhere: -e service_listen=127.0.0.1:{port % 65535 + 1}"
    own = f":{port}" in (edges.text(SITE) or "")
    for row in sockets.taken(sockets.listening(edges), address, port):
        if not (own and set(row.programs) <= {"nginx"}):
            who = ", ".join(row.programs) or "another program"
            raise EnvironmentProblem(f"Port {port} at {row.address} is taken: {who} listens there.", step)
    if not edges.exists(PROGRAM):
        return
    code, out, _ = edges.run([PROGRAM, "-T", "-q"], _TIMEOUT_S)
    ours = [SITE, *([DEFAULT_SITE] if is_ours(edges, root) else [])]
    for one in listens(out) if code == 0 else ():
        if one.port == port and one.file not in ours and same(one.address, address):
            raise EnvironmentProblem(f"nginx has a site at port {port} already, in {one.file}.", step)


def same(one: str, other: str) -> bool:
    """Return whether two addresses meet; a name, whose addresses nobody has looked up, may be any."""
    try:
        return sockets.meets(one, other)
    except ValueError:
        return True


def refuse_state(edges: Edges, root: str) -> None:
    """Refuse an nginx of the host's owner that is stopped, or whose configuration does not hold."""
    if not edges.exists(PROGRAM):
        return
    told = complaint(edges)
    if told is not None:
        raise EnvironmentProblem(f"nginx does not take its own configuration: {told}", "Fix it: nginx -t")
    if not is_ours(edges, root) and not all_hold(edges, ["is-active"], UNIT):
        step = "Start it, if its sites may be served: systemctl enable --now nginx"
        raise EnvironmentProblem("nginx is installed here and does not run.", step)


def try_copy(edges: Edges, text: str) -> Optional[str]:
    """Return what nginx says against its configuration with the site in it, tried on a copy; None where it takes it."""
    with files.temporary() as folder:
        copy = folder / "nginx"
        shutil.copytree(str(edges.path(NGINX)), str(copy), ignore_dangling_symlinks=True)
        for path in copy.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                moved = data.replace(f"{NGINX}/".encode(), f"{copy}/".encode())
                if moved != data:
                    files.write_whole(path, moved, files.PRIVATE)
        files.write_whole(copy / Path(SITE).relative_to(NGINX), text)
        told = complaint(edges, str(copy / "nginx.conf"))
        return None if told is None else told.replace(str(copy), NGINX)


def put(edges: Edges, text: str, front: proxy.Front) -> None:
    """Have the site, served; where nginx does not take it everything is as before."""
    told = try_copy(edges, text)
    if told is not None:
        raise EnvironmentProblem(
            f"nginx does not take the detection service's site: {told}", "Nothing of nginx was changed."
        )
    before, path = edges.text(SITE), edges.path(SITE)
    files.write_whole(path, text)
    try:
        serve(edges, front)
    except EnvironmentProblem:
        if before is None:
            files.remove(path)
        else:
            files.write_whole(path, before)
        if all_hold(edges, ["is-active"], UNIT) and complaint(edges) is None:
            systemctl(edges, ["reload", UNIT], WHO)
        raise


def serve(edges: Edges, front: proxy.Front) -> None:
    """Let nginx serve what its files say, and see that it listens."""
    told = complaint(edges)
    if told is not None:
        raise EnvironmentProblem(f"nginx does not take its configuration: {told}", "Fix it: nginx -t")
    if all_hold(edges, ["is-active"], UNIT):
        systemctl(edges, ["reload", UNIT], WHO)
        if is_listening(edges, front):
            return
        # It cannot go from one address to all of them while it holds the one.
        systemctl(edges, ["restart", UNIT], WHO)
    else:
        systemctl(edges, ["enable", "--now", UNIT], WHO)
    if not is_listening(edges, front):
        step = "Read what it says: tail /var/log/nginx/error.log"
        raise EnvironmentProblem(f"nginx does not listen at {front.listen}.", step)


def is_listening(edges: Edges, front: proxy.Front) -> bool:
    """Return whether nginx listens at exactly this address; a reload takes a moment."""
    wanted, until = proxy.address(front.listen), time.monotonic() + _LISTENS_WITHIN_S
    while wanted not in [(row.address, row.port) for row in sockets.listening(edges)]:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def take(edges: Edges, root: str) -> None:
    """Have no site of ours; an nginx that serves others' sites by now is no longer ours either."""
    if edges.exists(SITE):
        files.remove(edges.path(SITE))
        if all_hold(edges, ["is-active"], UNIT) and complaint(edges) is None:
            systemctl(edges, ["reload", UNIT], WHO)
    if is_ours(edges, root) and others(edges):
        added.disown(edges.path(root), [PACKAGE])


def others(edges: Edges) -> List[str]:
    """Return the sites that are neither ours nor the package's."""
    folders = [f"{NGINX}/conf.d", f"{NGINX}/sites-enabled"]
    found = [f"{folder}/{name}" for folder in folders for name in edges.names(folder) or []]
    return [path for path in found if path not in (SITE, DEFAULT_SITE)]
