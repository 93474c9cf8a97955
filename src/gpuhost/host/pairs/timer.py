"""The controller's timer for updates that a boot proves: a service and a timer of systemd, written or taken away.

A controller runs it for one inventory. As root they are units of the system, else of the user. Python 3.6, standard
library.
"""

import getpass
import os
import re
from pathlib import Path
from typing import Dict, List, NamedTuple

from ...errors import EnvironmentProblem, RefusedError
from ...text import few, printable
from .. import files
from ..edges import Edges
from ..units import UNITS, Outcome, all_hold, differences, gone, is_there, plain_path, systemctl
from .quiet import window
from .restart import MARK

SERVICE, TIMER, RESUME = "gpuhost-update.service", "gpuhost-update.timer", "gpuhost-update-resume.service"
#: The shortest window, in minutes: one update takes up to half of it, and the timer begins within the first quarter.
SHORTEST = 60
_HEAD = "# Written by gpuhost, playbooks/automatic.yml, from the inventory "
_WHO = "The timer of updates"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*$")
_LINGER = "/var/lib/systemd/linger"

_SERVICE = """\
{head}{inventory}
[Unit]
Description=Update GPU hosts one after the other, each proved by a boot
{online}
[Service]
Type=oneshot
WorkingDirectory={project}
ExecStart={command}
"""
_COMMAND = "{project}/run ansible-playbook {inventories} playbooks/update.yml --limit {hosts} {variables}"
# For a controller that is one of its hosts. Not oneshot, for which the boot would wait.
_RESUME = """\
{head}{inventory}
[Unit]
Description=Carry on with the update for which this machine restarted itself
ConditionPathExists={mark}
RequiresMountsFor={mark} {project}
{online}After=gpuhost-pair.service

[Service]
Type=simple
ExecStartPre=/bin/rm -f {mark}
WorkingDirectory={project}
ExecStart={command}

[Install]
WantedBy=multi-user.target
"""
_ONLINE = "Wants=network-online.target\nAfter=network-online.target\n"
#: One host at a time; the window is the one that each host holds the update to by its own clock.
_VARIABLES = "-e update_once=true -e update_serial=1 -e nvidia_driver_reboot=true -e update_window={}"
# A start that was missed is not made up for: the window is over by then.
_TIMER = """\
{head}{inventory}
[Unit]
Description=Update GPU hosts each night, from {begin} on

[Timer]
OnCalendar=*-*-* {begin}:00
RandomizedDelaySec=15min
AccuracySec=1min

[Install]
WantedBy=timers.target
"""


class Wanted(NamedTuple):
    """What is to be updated: `windows` has the update_window of each host, in the inventory's order; `inventory` is
    what -i was given, `project` the folder of ./run. `own` is the host that is this controller ("": none of them), and
    `root` the folder of its store.
    """

    project: str
    inventory: List[str]
    windows: Dict[str, str]
    own: str = ""
    root: str = ""


class Place(NamedTuple):
    """Where the units go. `folder` is one in which they are only written, for somebody else to put into force."""

    edges: Edges
    is_root: bool
    home: str
    folder: str = ""

    @property
    def units(self) -> str:
        """The folder of the units."""
        return self.folder or (UNITS if self.is_root else f"{self.home}/.config/systemd/user")

    @property
    def systemctl(self) -> List[str]:
        """What systemctl is called with before its verb."""
        return [] if self.is_root else ["--user"]


def present(place: Place, wanted: Wanted, check: bool) -> Outcome:
    """Have the timer for these hosts; without any, have none."""
    if not wanted.windows:
        return absent(place, wanted.inventory, check)
    units = own_files(place, wanted)
    refuse_another(place, wanted.inventory)
    stale = [path for path in present_units(place) if path not in units]
    diff = differences(place.edges, units) + gone(place.edges, stale)
    on = [name for name in (TIMER, RESUME) if f"{place.units}/{name}" in units]
    changed = bool(diff) or not (place.folder or is_on(place, on))
    if changed and not check:
        take_off(place, stale)
        try:
            for path, text in sorted(units.items()):
                files.make_folder(place.edges.path(path).parent)
                files.write_whole(place.edges.path(path), text)
        except OSError as error:
            raise unwritable(place, error) from error
        if not place.folder:
            systemctl(place.edges, [*place.systemctl, "daemon-reload"], _WHO)
            systemctl(place.edges, [*place.systemctl, "enable", *on], _WHO)
            systemctl(place.edges, [*place.systemctl, "restart", TIMER], _WHO)
    begin = next(iter(wanted.windows.values())).partition("-")[0]
    told = f"From {begin} on, by this controller's clock, one host after the other: {few(list(wanted.windows))}."
    own = f"{wanted.own} is this controller: it restarts itself and then carries on." if wanted.own else ""
    return Outcome(changed, " ".join(filter(None, [told, own, unattended(place)])), diff)


def own_files(place: Place, wanted: Wanted) -> Dict[str, str]:
    """The units by path."""
    begin = begins(wanted.windows)
    plain_path(wanted.project, _WHO)
    for word in wanted.inventory:
        if not all(_NAME.match(name) for name in word.split(",") if name):
            plain_path(word, _WHO)
    odd = [name for name in wanted.windows if not _NAME.match(name)]
    if odd:
        text = f"The host's name '{printable(odd[0], 100)}' cannot be written into a unit."
        raise RefusedError(text, "Use letters, digits and . _ -")
    refuse_unable(place, wanted)
    inventory = " ".join(wanted.inventory)
    names = {
        "head": _HEAD,
        "inventory": inventory,
        "project": wanted.project,
        "online": _ONLINE if place.is_root else "",
        "inventories": " ".join(f"-i {word}" for word in wanted.inventory),
        "hosts": ",".join(wanted.windows),
        "variables": _VARIABLES.format(next(iter(wanted.windows.values()))),
        "begin": begin,
        "mark": f"{wanted.root}/{MARK}",
    }
    texts = {SERVICE: (_SERVICE, names["hosts"]), TIMER: (_TIMER, "")}
    if wanted.own:
        texts[RESUME] = (_RESUME, wanted.own)
    found = {}
    for name, (text, hosts) in texts.items():
        command = _COMMAND.format(**{**names, "hosts": hosts})
        found[f"{place.units}/{name}"] = text.format(command=command, **names)
    return found


def refuse_unable(place: Place, wanted: Wanted) -> None:
    """Refuse a controller that could not restart itself, or would leave others of its hosts without their update."""
    if not wanted.own:
        return
    plain_path(wanted.root, _WHO)
    if not place.is_root:
        text = f"{wanted.own} is this controller, which only root's timer can restart and then carry on with."
        raise RefusedError(text, "Run playbooks/automatic.yml as root, or set update_automatic: false for this host.")
    if list(wanted.windows)[-1] != wanted.own:
        text = f"{wanted.own} is this controller: its restart ends the run before the hosts that come after it."
        raise RefusedError(text, "Put it last in the inventory.")


def begins(windows: Dict[str, str]) -> str:
    """When the window of these hosts begins, as 02:00; refused where there is none, or not the same for all."""
    for host, text in windows.items():
        if not text.strip():
            text = f"update_automatic is true for {printable(host, 100)}, and there is no update_window."
            raise RefusedError(text, "Write when it may be restarted, such as update_window: 02:00-05:00.")
    first, *more = windows.items()
    for other in more:
        if window(other[1]) != window(first[1]):
            text = (
                f"update_window is {first[1]} for {first[0]} and {other[1]} for {other[0]}: one run updates them all."
            )
            raise RefusedError(text, "Give all hosts with update_automatic the same update_window.")
    hours = window(first[1])
    length = hours.left(hours.begin)
    if length < SHORTEST:
        raise RefusedError(f"update_window {first[1]} is {length} minutes long.", f"Give it {SHORTEST} at least.")
    return f"{hours.begin // 60:02}:{hours.begin % 60:02}"


def refuse_another(place: Place, inventory: List[str]) -> None:
    """Refuse where units of another inventory's, or of somebody else's, would be replaced."""
    for path in others(place, inventory):
        step = "Take it away first (with its own -i and --tags remove, where gpuhost wrote it), or use one inventory."
        raise RefusedError(f"{path} is there, and not for the inventory {' '.join(inventory)}.", step)


def others(place: Place, inventory: List[str]) -> List[str]:
    """Return the units of our names that are not of this inventory."""
    first = _HEAD + " ".join(inventory)
    texts = {path: place.edges.text(path) or "" for path in present_units(place)}
    return [path for path, text in texts.items() if text.partition("\n")[0] != first]


def present_units(place: Place) -> List[str]:
    """Return the paths of the units of our names that are there."""
    paths = [f"{place.units}/{name}" for name in (TIMER, SERVICE, RESUME)]
    return [path for path in paths if is_there(place.edges, path)]


def unattended(place: Place) -> str:
    """What a person has yet to do so that it runs; "" for nothing."""
    if place.folder:
        return f"The units are in {place.folder}; nothing is switched on."
    user = getpass.getuser() if not place.is_root else ""
    if not user or place.edges.exists(f"{_LINGER}/{user}"):
        return ""
    return f"It runs only while {user} is logged in, until an administrator types: loginctl enable-linger {user}"


def absent(place: Place, inventory: List[str], check: bool) -> Outcome:
    """Have no timer; that of another inventory is left alone."""
    if others(place, inventory):
        return Outcome(False, f"{place.units}/{TIMER} is not of this inventory, and is left alone.", [])
    there = present_units(place)
    diff = gone(place.edges, there)
    if there and not check:
        take_off(place, there)
        if not place.folder:
            systemctl(place.edges, [*place.systemctl, "daemon-reload"], _WHO)
    return Outcome(bool(there), "No updates are made by a timer.", diff)


def take_off(place: Place, paths: List[str]) -> None:
    """Switch units off and delete them."""
    for name, words in ((TIMER, ["disable", "--now", TIMER]), (RESUME, ["disable", RESUME])):
        if not place.folder and f"{place.units}/{name}" in paths:
            # A run that is under way is let finish: only the timer is stopped.
            systemctl(place.edges, [*place.systemctl, *words], _WHO)
    try:
        for path in paths:
            files.remove(place.edges.path(path))
    except OSError as error:
        raise unwritable(place, error) from error


def unwritable(place: Place, error: OSError) -> EnvironmentProblem:
    """Say in one sentence that the folder cannot be written."""
    return EnvironmentProblem(f"{place.units} cannot be written: {error.strerror}.", "Make room, or use another user.")


def is_on(place: Place, units: List[str]) -> bool:
    """Return whether these units are enabled, and the timer is running."""
    enabled = all(all_hold(place.edges, ["is-enabled"], unit, place.systemctl) for unit in units)
    return enabled and all_hold(place.edges, ["is-active"], TIMER, place.systemctl)


def here(edges: Edges, folder: str = "") -> Place:
    """The place for whoever runs this."""
    return Place(edges, os.geteuid() == 0, str(Path("~").expanduser()), folder)
