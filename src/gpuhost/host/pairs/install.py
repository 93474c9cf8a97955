"""Putting the program that judges an update on a host, and taking it away: a service at each boot, and its deadline.

Runs on the target: Python 3.6, standard library.
"""

from typing import Dict, List

from .. import files, store
from ..edges import Edges
from ..service.places import CARD
from ..service.places import SERVICE as DETECTION
from ..units import UNITS, Outcome, all_hold, differences, forget, gone, is_there, plain_path, systemctl
from . import blocking, keep, restart
from .loader import SETTINGS, loader

SERVICE, TIMER, DEADLINE = "gpuhost-pair.service", "gpuhost-pair-deadline.timer", "gpuhost-pair-deadline.service"
LAUNCHER, SCRIPT = "gpuhost-pair.py", "gpuhost-pair-deadline.sh"
MANAGER = "/etc/systemd/system.conf.d/gpuhost-pair.conf"
WATCHDOG = "/dev/watchdog0"
HEAD = "Written by gpuhost, role update."
#: The program's exit statuses where an update is undone, and where that is not known. Neither is 1, with which Python
#: ends where the program itself has a fault: that is a service that failed.
UNDONE, UNKNOWN = 3, 4
_WHO = "An update that is proved by a boot"
_FORGETTING = "deleting the programs that judged updates before"
#: A trial that is not over by then has hung. Judging takes two minutes at most.
MINUTES = 15

_SERVICE = """\
# {head}
[Unit]
Description=Judge the kernel and driver that an update has booted, and go back where they are wrong
ConditionPathExists={root}/{record}
RequiresMountsFor={root} /boot
After=local-fs.target systemd-modules-load.service systemd-udev-trigger.service
# Whoever uses a card begins when it is decided with which driver.
Before=display-manager.service nvidia-persistenced.service {card} {service}

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I -B {folder}/{launcher} --root {root}
# What it has undone, or could not do, is in the journal, and the watch reads its record.
SuccessExitStatus={undone} {unknown}
ExecStartPost=-/bin/systemctl start --no-block gpuhost-watch.service
# Putting a driver back may build its module.
TimeoutStartSec=1h

[Install]
WantedBy=multi-user.target
"""
# It outlives the emergency shell, which isolates everything else: there nobody would judge.
_TIMER = """\
# {head}
[Unit]
Description=Go back where a kernel or a driver that an update has booted is not judged in time
DefaultDependencies=no
IgnoreOnIsolate=yes
Conflicts=shutdown.target
Before=shutdown.target

[Timer]
OnStartupSec={minutes}min
AccuracySec=10s

[Install]
WantedBy=sysinit.target
"""
_DEADLINE = """\
# {head}
[Unit]
Description=Restart the machine, into the kernel of before, where an update is not judged in time
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
Type=oneshot
ExecStart=/bin/sh {folder}/{script} {root}/{record}
"""
#: What the deadline runs. A shell, because it must also work where the program is what hangs.
SCRIPT_TEXT = f"""\
#!/bin/sh
# {HEAD} A trial that nobody has judged is ended by a restart: the default is still the kernel of before.
boot=$(cat /proc/sys/kernel/random/boot_id)
# One that is armed in this very boot has yet to be restarted into.
if grep -q '"state": "armed"' "$1" && grep -q "\\"boot\\": \\"$boot\\"" "$1"; then exit 0; fi
if grep -Eq '"state": "(armed|trying)"' "$1"; then
    echo "<3>gpuhost: what is on trial was not judged in time, so the machine restarts into what was before"
    exec systemctl --force reboot
fi
"""
_MANAGER = """\
# {head} A machine whose systemd is stuck is restarted by its watchdog.
[Manager]
RuntimeWatchdogSec=2min
"""


def own_files(edges: Edges, root: str, folder: str) -> Dict[str, str]:
    """The files by path; `folder` is that of the program."""
    names = {
        "head": HEAD, "root": root, "folder": folder, "record": keep.RECORD, "launcher": LAUNCHER, "script": SCRIPT,
        "minutes": MINUTES, "card": CARD, "service": DETECTION, "undone": UNDONE, "unknown": UNKNOWN,
    }  # fmt: skip
    found = {
        f"{UNITS}/{SERVICE}": _SERVICE.format(**names),
        f"{UNITS}/{TIMER}": _TIMER.format(**names),
        f"{UNITS}/{DEADLINE}": _DEADLINE.format(**names),
    }
    if edges.exists(WATCHDOG):
        found[MANAGER] = _MANAGER.format(**names)
    return found


def present(edges: Edges, root: str, name: str, check: bool) -> Outcome:
    """Have the program of the store's folder `name` at each boot; in check mode only say what would change."""
    plain_path(root, _WHO)
    wanted = own_files(edges, root, f"{root}/store/{name}")
    diff = differences(edges, wanted)
    changed = bool(diff) or not is_on(edges)
    if changed and not check:
        with store.changing(edges.path(root), "putting the judge of updates on"):
            try:
                for path, text in sorted(wanted.items()):
                    files.write_whole(edges.path(path), text)
            except OSError as error:
                raise store.unwritable(error, edges.path(root)) from error
            systemctl(edges, ["daemon-reload"], _WHO)
            systemctl(edges, ["enable", SERVICE, TIMER], _WHO)
    if not check:
        forget(edges, root, "pairs", name, _FORGETTING)
    return Outcome(changed, f"An update is judged at the boot that tries it. {hang(edges)}", diff)


def hang(edges: Edges) -> str:
    """What becomes of a kernel that hangs before systemd runs."""
    if edges.exists(WATCHDOG):
        return "A kernel that hangs is ended by the machine's watchdog, once systemd has started it."
    return "This machine has no watchdog: a kernel that hangs before systemd runs waits for a hand at the power button."


def absent(edges: Edges, root: str, check: bool) -> Outcome:
    """Have nothing of it; the boot loader's own settings choose again."""
    kept = [f"{root}/{name}" for name in (keep.RECORD, restart.MARK)]
    ours = [*own_files(edges, root, ""), MANAGER, SETTINGS, blocking.BLOCK, *kept]
    there = [path for path in dict.fromkeys(ours) if is_there(edges, path)]
    diff = gone(edges, there)
    if there and not check:
        with store.changing(edges.path(root), "taking the judge of updates away"):
            take_off(edges, root, there)
    if not check:
        forget(edges, root, "pairs", "", _FORGETTING)
    told = "No update is judged any more." if there else "Nothing judges updates on this host."
    return Outcome(bool(there), told, diff)


def take_off(edges: Edges, root: str, there: List[str]) -> None:
    """Switch it off and delete its files."""
    for unit in (TIMER, SERVICE):
        if edges.exists(f"{UNITS}/{unit}"):
            systemctl(edges, ["disable", unit], _WHO)
    found = loader(edges)
    if found is not None:
        found.take_down()
    try:
        for path in there:
            files.remove(edges.path(path))
    except OSError as error:
        raise store.unwritable(error, edges.path(root)) from error
    systemctl(edges, ["daemon-reload"], _WHO)


def is_on(edges: Edges) -> bool:
    """Return whether it runs at each boot."""
    return all(all_hold(edges, ["is-enabled"], unit) for unit in (SERVICE, TIMER))
