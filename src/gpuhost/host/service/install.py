"""Putting the detection service on a host, letting it follow the generation in force, and taking it away.

The service serves the generation that it was started in, so each change of `current` ends with `followed`. A process
tells by its folder and by one variable what it was started with: what a killed run has left undone, the next one sees.
Runs on the target: Python 3.6, standard library.
"""

import hashlib
import json
import pwd
import re
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from ...errors import ArtifactError, EnvironmentProblem
from ...text import printable
from ...types import Json
from .. import files, store
from ..edges import Edges
from ..units import TIMEOUT_S, UNITS, Outcome, all_hold, differences, gone, is_there, plain_path, systemctl
from . import keys, proxy, site, units
from .places import (
    BODIES,
    CARD,
    COMMAND,
    DEFAULT_SITE,
    FOLDER,
    KEYS,
    LAUNCHER,
    LINK,
    LOG,
    MODELS,
    PROGRAM,
    RECORD,
    SERVICE,
    SETTINGS,
    SITE,
    SOCKET,
    STATE,
    USER,
    VERIFY_KEY,
)
from .running import last_words, not_ready, serving, shown

_PAUSE_S = 0.3
_STARTED_WITH = re.compile(rf"^(Environment={units.STARTED_WITH}=).*$", re.MULTILINE)
_INSTALL = "./run ansible-playbook site.yml -e service_enabled=true"
_LOOK = f"Read what it says: journalctl -u {SERVICE} -n 50"
_KEYS = """\
#!/bin/sh
# Written by gpuhost, role detection_service.
exec /usr/bin/python3 -I -B {root}/{link}/{launcher} keys "$@"
"""
_NONE = "There is no detection service on this host."


class Wanted(NamedTuple):
    """What is to be on the host. `settings` are the service's, less the number of the generation in force."""

    root: str
    front: proxy.Front
    settings: Json
    memory: str
    wait_s: float


def refuse(edges: Edges, wanted: Wanted) -> None:
    """Refuse what could not be served, before anything is changed."""
    front = wanted.front
    for path in (wanted.root, front.certificate, front.key, front.clients):
        plain_path(path, "the detection service")
    for path in (front.certificate, front.key, front.clients):
        if path and not edges.exists(path):
            raise EnvironmentProblem(f"There is no {path} on this host.", "Put the file there; it is not made here.")
    if bool(front.certificate) != bool(front.key) or (front.clients and not front.certificate):
        step = "Set service_tls_certificate and service_tls_key together; service_tls_clients needs both."
        raise EnvironmentProblem("TLS needs a certificate and its key.", step)
    site.refuse_port(edges, wanted.root, front)
    site.refuse_state(edges, wanted.root)


def checked(edges: Edges, wanted: Wanted) -> Outcome:
    """Change nothing; say whether the service could be put here."""
    refuse(edges, wanted)
    return Outcome(False, "The detection service can be served here.", [])


def present(edges: Edges, wanted: Wanted, check: bool) -> Outcome:
    """Have the service, ready; in check mode only say what would change."""
    refuse(edges, wanted)
    texts = own_files(edges, wanted)
    diff = differences(edges, texts)
    if check:
        return Outcome(bool(diff) or not is_on(edges), "The detection service would be put on.", diff)
    if not edges.path(f"{wanted.root}/{LINK}").exists():
        raise EnvironmentProblem("The generation in force has no detection service.", "Install it: " + _INSTALL)
    with store.changing(edges.path(wanted.root), "putting the detection service on"):
        changed = put_on(edges, wanted, texts)
    wait_ready(edges, wanted.wait_s)
    return Outcome(changed or bool(diff), f"The detection service is ready at {wanted.front.listen}.", diff)


def own_files(edges: Edges, wanted: Wanted) -> Dict[str, str]:
    """Return the files that say how the service runs: settings, units, the proxy's site."""
    settings = settings_text(edges, wanted.root, wanted.settings)
    limits, front = wanted.settings, wanted.front
    calls_out = bool((wanted.settings.get("hooks") or {}).get("alerts"))
    given = (digest(settings), limits["pixels"], limits["deadline_s"], wanted.memory, calls_out, systemd_version(edges))
    command = _KEYS.format(root=wanted.root, link=LINK, launcher=LAUNCHER)
    return {**units.texts(wanted.root, *given), SETTINGS: settings, SITE: proxy.text(front), COMMAND: command}


def settings_text(edges: Edges, root: str, settings: Json) -> str:
    """Return the settings with the number of the generation in force."""
    number = store.current_generation(edges.path(root))
    return json.dumps({**settings, "generation": number}, indent=1, sort_keys=True) + "\n"


def digest(text: str) -> str:
    """Return what tells these settings from others."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def systemd_version(edges: Edges) -> int:
    """Return the version of systemd; 0 where it does not say it, so that only what all versions know is used."""
    _, out, _ = edges.run(["systemctl", "--version"], TIMEOUT_S)
    found = re.match(r"systemd ([0-9]+)", out)
    return int(found.group(1)) if found else 0


def put_on(edges: Edges, wanted: Wanted, texts: Dict[str, str]) -> bool:
    """Make it so; return whether anything was to do beside the files that `texts` names."""
    root = wanted.root
    try:
        changed = have_user(edges)
        group = keys.service_group()
        files.make_for_group(edges.path(FOLDER), group)
        files.make_for_group(edges.path(MODELS), group)
        check_models(edges, wanted.settings["models"])
        changed = have_keys(edges, group) or changed
        stale = [path for path in texts if edges.text(path) != texts[path]]
        for path in stale:
            if path != SITE:
                files.write_whole(edges.path(path), texts[path], *rights_of(path, group))
    except OSError as error:
        raise store.unwritable(error, Path(root)) from error
    if any(path.startswith(UNITS) for path in stale) or needs_reload(edges):
        systemctl(edges, ["daemon-reload"], site.WHO)
    changed = without_default_site(edges, root) or changed
    if SITE in stale or not all_hold(edges, ["is-active"], site.UNIT):
        site.put(edges, texts[SITE], wanted.front)
        changed = True
    store.write_record(
        edges.path(f"{root}/{RECORD}"),
        {
            "schema": 1,
            "listen": wanted.front.listen,
            "tls": bool(wanted.front.certificate),
            "clients": bool(wanted.front.clients),
        },
    )
    return start(edges, root, digest(texts[SETTINGS])) or changed


def rights_of(path: str, group: int) -> Tuple[int, Optional[int]]:
    """Return the mode and the group of one of our files."""
    return (0o640, group) if path == SETTINGS else (0o755, None) if path == COMMAND else (files.FILE, None)


def have_user(edges: Edges) -> bool:
    """Have the service's user; return whether it was made."""
    if user_there():
        return False
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    code, _, err = edges.run([*argv, "--shell", "/usr/sbin/nologin", USER], TIMEOUT_S)
    if code != 0:
        raise EnvironmentProblem(f"The user {USER} cannot be made: {printable(err, 300)}", "Look at /etc/passwd.")
    return True


def user_there() -> bool:
    """Return whether the host has the service's user."""
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def have_keys(edges: Edges, group: int) -> bool:
    """Have a file of keys, and a key of verify/'s that only root can read; return whether one was made."""
    path, own = edges.path(KEYS), edges.path(VERIFY_KEY)
    rows = keys.read(path)
    there = [row for row in rows if row["name"] == keys.OF_VERIFY]
    if there and [row["sha256"] for row in there] == [keys.digest((edges.text(VERIFY_KEY) or "").strip())]:
        return False
    if there:
        keys.revoke(path, keys.OF_VERIFY, group)
    files.write_whole(own, keys.add(path, keys.OF_VERIFY, ["detect"], group) + "\n", files.PRIVATE)
    return True


def check_models(edges: Edges, models: List[Json]) -> None:
    """Refuse own networks whose files are not those that were named by their sha256."""
    for model in models:
        for name, wanted in sorted((model.get("sha256") or {}).items()):
            path = edges.path(name)
            if not path.is_file():
                raise ArtifactError(f"There is no {name} for the network {model['name']}.", "Copy it there.")
            found = files.sha256(path)
            if found != wanted:
                what = f"{name} of the network {model['name']} has the sha256 {found}, not {wanted}."
                raise ArtifactError(what, "Correct the file, or its sha256 in service_models.")


def needs_reload(edges: Edges) -> bool:
    """Return whether systemd has not read the units as they are, because a run was killed."""
    return any(shown(edges, unit, "NeedDaemonReload") == "yes" for unit in (SERVICE, SOCKET))


def without_default_site(edges: Edges, root: str) -> bool:
    """Take the package's own site away where nginx came with gpuhost, once: it opens port 80 to everybody."""
    seen = edges.record(f"{root}/{RECORD}")
    if seen is not None or not site.is_ours(edges, root) or not is_there(edges, DEFAULT_SITE):
        return False
    files.remove(edges.path(DEFAULT_SITE))
    return True


def start(edges: Edges, root: str, settings: str) -> bool:
    """Let the service of the generation in force run with these settings; return whether anything was to do."""
    changed = False
    if not all_hold(edges, ["is-enabled"], SOCKET) or not all_hold(edges, ["is-enabled"], SERVICE):
        systemctl(edges, ["enable", SOCKET, SERVICE], site.WHO)
        changed = True
    if not all_hold(edges, ["is-active"], SOCKET):
        edges.run(["systemctl", "reset-failed", SOCKET, SERVICE], TIMEOUT_S)
        # A service that runs without the socket keeps systemd from opening one.
        systemctl(edges, ["stop", SERVICE], site.WHO)
        systemctl(edges, ["start", SOCKET], site.WHO)
        changed = True
    # One that has refused its device or its networks tries again by itself, but minutes later.
    if serving(edges, root) != (store.current_generation(edges.path(root)), settings) or has_refused(edges):
        edges.run(["systemctl", "reset-failed", SERVICE], TIMEOUT_S)
        systemctl(edges, ["restart", SERVICE], site.WHO)
        changed = True
    return changed


def has_refused(edges: Edges) -> bool:
    """Return whether the service runs and has refused its device or its networks, which may be in order by now."""
    told, is_final = not_ready(edges)
    return bool(told) and is_final


def is_on(edges: Edges) -> bool:
    """Return whether the service runs, and does so again after a boot."""
    return all(all_hold(edges, ["is-enabled", "is-active"], unit) for unit in (SOCKET, SERVICE))


def wait_ready(edges: Edges, wait_s: float) -> None:
    """Wait until the service answers that it is ready; say why it is not where it gives up."""
    until = time.monotonic() + wait_s
    while True:
        told, is_final = not_ready(edges)
        if not told:
            return
        if is_final:
            raise EnvironmentProblem(f"The detection service is not ready: {told}", _LOOK)
        if shown(edges, SERVICE, "ActiveState") == "failed":
            raise EnvironmentProblem(f"The detection service has failed: {last_words(edges) or told}", _LOOK)
        if time.monotonic() > until:
            raise EnvironmentProblem(f"The detection service is not ready after {wait_s:g} s: {told}", _LOOK)
        time.sleep(_PAUSE_S)


def followed(edges: Edges, root: str, device: str, wait_s: float, check: bool) -> Outcome:
    """Let a service that is on this host serve the generation in force on its device; stop it where that has none."""
    path = f"{UNITS}/{SERVICE}"
    if not edges.exists(path):
        return Outcome(False, _NONE, [])
    if not edges.path(f"{root}/{LINK}").exists():
        return stopped(edges, root, check)
    settings = store.read_json(edges.path(SETTINGS))
    if settings is None:
        raise EnvironmentProblem(f"{SETTINGS} cannot be read.", f"Write it again: {_INSTALL}")
    # Another device of the same kind was asked for: half precision, an engine.
    same = str(settings.get("device")).startswith("cuda") == device.startswith("cuda")
    text = settings_text(edges, root, settings if same else {**settings, "device": device})
    unit = _STARTED_WITH.sub(rf"\g<1>{digest(text)}", edges.text(path) or "")
    diff = differences(edges, {SETTINGS: text, path: unit})
    if check:
        return Outcome(bool(diff), "The detection service would follow.", diff)
    with store.changing(edges.path(root), "restarting the detection service"):
        if diff:
            try:
                files.write_whole(edges.path(SETTINGS), text, 0o640, keys.service_group())
                files.write_whole(edges.path(path), unit)
            except OSError as error:
                raise store.unwritable(error, Path(root)) from error
        if diff or needs_reload(edges):
            systemctl(edges, ["daemon-reload"], site.WHO)
        changed = start(edges, root, digest(text))
    wait_ready(edges, wait_s)
    return Outcome(changed or bool(diff), "The detection service serves the generation in force.", diff)


def stopped(edges: Edges, root: str, check: bool) -> Outcome:
    """Stop the service and its socket, so that callers notice at once; the files stay for the way forward."""
    running = [unit for unit in (SOCKET, SERVICE) if all_hold(edges, ["is-active"], unit)]
    if running and not check:
        with store.changing(edges.path(root), "stopping the detection service"):
            systemctl(edges, ["stop", SOCKET, SERVICE], site.WHO)
    return Outcome(bool(running), "The generation in force has no detection service: it is stopped.", [])


def absent(edges: Edges, root: str, check: bool) -> Outcome:
    """Have nothing of the service on the host."""
    own = [f"{UNITS}/{name}" for name in (SERVICE, SOCKET, CARD)] + [SITE, COMMAND]
    folders = [FOLDER, STATE, MODELS, BODIES, "/run/gpuhost-detect", f"{root}/{RECORD}"]
    logs = [f"/var/log/nginx/{name}" for name in edges.names("/var/log/nginx") or [] if name.startswith(Path(LOG).name)]
    there = [path for path in [*own, *folders, *logs] if is_there(edges, path)]
    left = bool(there) or user_there()
    diff = gone(edges, [path for path in there if path in own])
    if left and not check:
        with store.changing(edges.path(root), "taking the detection service away"):
            take_off(edges, root, there)
    return Outcome(left, "The detection service is gone." if left else _NONE, diff)


def take_off(edges: Edges, root: str, there: List[str]) -> None:
    """Stop it, take the site out of nginx, delete files and user."""
    known = [unit for unit in (SOCKET, SERVICE) if f"{UNITS}/{unit}" in there]
    if known:
        systemctl(edges, ["disable", "--now", *known], site.WHO)
        edges.run(["systemctl", "reset-failed", *known], TIMEOUT_S)
    try:
        if edges.exists(PROGRAM):
            site.take(edges, root)
        for path in there:
            files.remove(edges.path(path))
        above = edges.path(str(Path(FOLDER).parent))
        if above.is_dir() and not any(above.iterdir()):
            files.remove(above)
    except OSError as error:
        raise store.unwritable(error, Path(root)) from error
    systemctl(edges, ["daemon-reload"], site.WHO)
    if user_there():
        code, _, err = edges.run(["userdel", USER], TIMEOUT_S)
        if code != 0:
            raise EnvironmentProblem(f"The user {USER} cannot be deleted: {printable(err, 300)}", "Run it again.")
