"""Putting the watch on a host, and taking it away: a service, its timer, a hook of apt, a line at each login.

Runs on the target: Python 3.6, standard library.
"""

import os
from pathlib import Path
from typing import Dict, List

from .. import files, store
from ..edges import Edges
from ..probe.fixes import RECORD as OFFER
from ..units import TIMEOUT_S, UNITS, Outcome, all_hold, differences, forget, gone, is_there, plain_path, systemctl
from .read import MOTD, RECORD
from .run import LOOKED, METRICS, TEXTFILE

SERVICE, TIMER = "gpuhost-watch.service", "gpuhost-watch.timer"
LAUNCHER = "gpuhost-watch.py"
APT, LOGIN = "/etc/apt/apt.conf.d/90gpuhost-watch", "/etc/update-motd.d/95-gpuhost"
HEAD = "Written by gpuhost, role watch."
_WHO = "The watch"
_FORGETTING = "deleting the programs of earlier watches"

_SERVICE = """\
# {head}
[Unit]
Description=Look whether the GPU stack of this host is still whole
# A script may call apt many times in ten seconds; the last of them must be looked at too.
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {folder}/{launcher} --root {root}
# It waits as long as apt changes packages.
TimeoutStartSec=1h
Nice=10
RuntimeDirectory=gpuhost
RuntimeDirectoryPreserve=yes
ProtectSystem=strict
ProtectHome=yes
PrivateNetwork=yes
NoNewPrivileges=yes
ReadWritePaths={root}/state
"""
_TIMER = """\
# {head}
[Unit]
Description=Look at boot and each hour whether the GPU stack of this host is still whole

[Timer]
OnBootSec=1min
OnCalendar=hourly
AccuracySec=1min

[Install]
WantedBy=timers.target
"""
# It only asks systemd, waits for nothing, and cannot fail: apt must not notice it.
_APT = (
    "// {head} After each run of dpkg the service is asked to look.\n"
    'DPkg::Post-Invoke {{ "if [ -d /run/systemd/system ]; then '
    'timeout 10 systemctl start --no-block {service} >/dev/null 2>&1 || true; fi"; }};\n'
)
# A watch that is broken itself must not look like a host that is well.
_LOGIN = """\
#!/bin/sh
# {head} What the watch found wrong, and whether it still looks.
[ -r {motd} ] && cat {motd}
# Counted from the start of the machine: no setting of the clock changes that.
now=$(cut -d. -f1 /proc/uptime)
last=$(cat {looked} 2>/dev/null)
if [ "$now" -gt 900 ] && [ $((now - ${{last:--10801}})) -gt 10800 ]; then
    echo "gpuhost: the watch has said nothing for three hours. Look at: systemctl status {service}"
fi
exit 0
"""


def own_files(root: str, folder: str) -> Dict[str, str]:
    """The files of the watch by path; `folder` is that of its program."""
    return {
        f"{UNITS}/{SERVICE}": _SERVICE.format(head=HEAD, folder=folder, launcher=LAUNCHER, root=root),
        f"{UNITS}/{TIMER}": _TIMER.format(head=HEAD),
        APT: _APT.format(head=HEAD, service=SERVICE),
        LOGIN: _LOGIN.format(head=HEAD, motd=MOTD, looked=LOOKED, service=SERVICE),
    }


def present(edges: Edges, root: str, name: str, textfile: str, check: bool) -> Outcome:
    """Have the watch whose program is the store's folder `name`; in check mode only say what would change."""
    for word in (root, textfile):
        plain_path(word, "the watch")
    wanted = own_files(root, f"{root}/store/{name}")
    diff = differences(edges, wanted) + link_difference(edges, root, textfile)
    changed = bool(diff) or not is_on(edges)
    if changed and not check:
        with store.changing(edges.path(root), "putting the watch on"):
            put_on(edges, root, wanted, textfile)
    if not check:
        forget(edges, root, "watch", name, _FORGETTING)
    return Outcome(changed, "The watch looks at boot, each hour and after each run of dpkg.", diff)


def put_on(edges: Edges, root: str, wanted: Dict[str, str], textfile: str) -> None:
    """Write its files and switch it on."""
    try:
        files.make_folder(edges.path(f"{root}/state"))
        for path, text in sorted(wanted.items()):
            files.write_whole(edges.path(path), text, 0o755 if path == LOGIN else 0o644)
        if textfile:
            files.link(f"{root}/{METRICS}", edges.path(f"{textfile}/{TEXTFILE}"))
    except OSError as error:
        raise store.unwritable(error, Path(root)) from error
    systemctl(edges, ["daemon-reload"], _WHO)
    systemctl(edges, ["enable", "--now", TIMER], _WHO)
    # Not waited for: it may find something wrong, and that is its own to say.
    systemctl(edges, ["start", "--no-block", SERVICE], _WHO)


def link_difference(edges: Edges, root: str, textfile: str) -> List[Dict[str, str]]:
    """What the link in the collector's folder is and will be, where that differs.

    The watch itself writes in our own folder only. The collector's often belongs to a service's user, and root writes
    nothing there but this link, once.
    """
    path, after = f"{textfile}/{TEXTFILE}", f"-> {root}/{METRICS}\n"
    try:
        before = f"-> {os.readlink(str(edges.path(path)))}\n"
    except OSError:
        before = "a file\n" if is_there(edges, path) else ""
    if not textfile or before == after:
        return []
    return [{"before": before, "after": after, "before_header": path, "after_header": path}]


def absent(edges: Edges, root: str, textfile: str, check: bool) -> Outcome:
    """Have no watch."""
    ours = [*own_files(root, ""), MOTD, LOOKED, f"{root}/{RECORD}", f"{root}/{METRICS}", f"{root}/{OFFER}"]
    ours += [f"{textfile}/{TEXTFILE}"] if textfile else []
    there = [path for path in ours if is_there(edges, path)]
    diff = gone(edges, there)
    if there and not check:
        with store.changing(edges.path(root), "taking the watch away"):
            take_off(edges, root, there)
    if not check:
        forget(edges, root, "watch", "", _FORGETTING)
    told = "The watch is gone." if there else "There is no watch on this host."
    return Outcome(bool(there), told, diff)


def take_off(edges: Edges, root: str, there: List[str]) -> None:
    """Switch it off and delete its files."""
    if edges.exists(f"{UNITS}/{TIMER}"):
        systemctl(edges, ["disable", "--now", TIMER], _WHO)
    if edges.exists(f"{UNITS}/{SERVICE}"):
        systemctl(edges, ["stop", SERVICE], _WHO)
        # One that has failed would be kept as failed even when its file is gone. Never started, it is not known.
        edges.run(["systemctl", "reset-failed", SERVICE], TIMEOUT_S)
    try:
        for path in there:
            files.remove(edges.path(path))
    except OSError as error:
        raise store.unwritable(error, Path(root)) from error
    systemctl(edges, ["daemon-reload"], _WHO)


def is_on(edges: Edges) -> bool:
    """Return whether the timer is enabled and running."""
    return all_hold(edges, ["is-enabled", "is-active"], TIMER)
