"""What must be right before anything is changed on a host, judged on the controller from one observation."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Dict, List, Optional, Tuple

from ..checks.host import dpkg_problems
from ..checks.sources import (
    foreign_sources,
    is_own,
    offered,
    other_releases,
    own_release,
    unknown_sources,
    unread,
    vouched,
)
from ..errors import UnreadableError
from ..host.driver.offer import UPDATE
from ..host.parse.machine import parse_os_release
from ..shapes.observation import Observation, Source
from ..text import printable
from ..types import Json
from ..versions import release
from . import platforms
from .catalog import Catalog, shipped

#: A user's name that may stand in a command; the host says it.
USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\Z")


def controller_problem(os_release: str, core: str) -> str:
    """Why this ansible-core cannot manage the target, told before any module runs there; '' when it can.

    `os_release` is the text of the target's /etc/os-release. Source of the table: Ansible's support matrix.
    """
    try:
        row = shipped().platforms["platforms"].get(parse_os_release(os_release)["id"])
    except UnreadableError:
        row = None
    if row is None:
        return ""  # an unknown platform has its own message
    needs = [s["target_python_min"] for s in shipped().platforms["ansible_core"] if release(core) >= release(s["from"])]
    needed = max(needs, key=release, default="")
    if release(row["pythons"][0]) >= release(needed):
        return ""
    return (
        f"ansible-core {core} needs Python {needed} on the target, {row['name']} has {row['pythons'][0]}. "
        "Remove .venv and run again with a Python whose ansible-core can (3.8, 3.10, 3.11 or 3.12 will do): "
        "GPUHOST_PYTHON=python3.11 ./run ..."
    )


#: What is said where root cannot be had, by a part of it that tells the case; by sudo, by the shell, or by Ansible.
ROOT: Tuple[Tuple[str, str], ...] = (
    (r"Missing \w+ password|password is required", "{user} is asked for a password there. Add -K to the same command."),
    (
        r"Incorrect \w+ password|incorrect password",
        "The password of {user} that -K asked for was not accepted. Try again.",
    ),
    (
        r"not in the sudoers|may not run|not allowed",
        "{user} may not use sudo there. As root, there: adduser {user} sudo",
    ),
    (r"sudo.*not found|No such file", "{user} is not root and there is no sudo. As root, there: apt-get install sudo"),
)


def root_problem(user: str, said: str) -> str:
    """Return in one sentence why root cannot be had, and what to type; `said` is what came instead."""
    shown = printable(user, 40)
    name = shown if USER.match(shown) else "USER"
    for pattern, sentence in ROOT:
        if re.search(pattern, said):
            return "Installing needs root. " + sentence.format(user=name)
    return f"Installing needs root, which {name} cannot have there: {printable(said, 200)}"


def platform_row(catalog: Catalog, observation: Observation) -> Optional[Json]:  # Json: a row of the catalog
    """Return the catalog's row of the host's platform, with the code names of all releases of each distribution; None
    for an unknown platform.
    """
    row = catalog.platforms["platforms"].get(observation["platform"]["id"])
    return None if row is None else {**row, "codenames": catalog.platforms["codenames"]}


def problems(observation: Observation, catalog: Optional[Catalog] = None, untested: Optional[str] = None) -> List[str]:
    """Everything that forbids a run, each with the command that fixes it.

    `untested` is for a run that installs: what was typed of a host that is taken for another platform.
    """
    catalog = catalog or shipped()
    found: List[str] = []
    row = platform_row(catalog, observation)
    if row is None:
        return [str(platforms.unknown(catalog, observation["platform"], "-e gpu_stack_as="))]
    if untested is not None:
        found += filter(None, [platforms.untested(observation, untested)])
    if observation["machine"] != "x86_64":
        found.append(f"The machine is {observation['machine']}; every artifact of the catalog is for x86_64.")
    found += [f"{s['what']} {s['do']}:\n  {s['remedy']}" for s in foreign_sources(observation, row)]
    found += [
        f"{s['what']} Let apt read it:\n  {UPDATE}\nOr remove it:\n  {s['remedy']}"
        for s in unknown_sources(observation, row)
    ]
    found += [
        f"{p['file']} line {p['line']} cannot be read as an apt source ({p['error']}). Correct it."
        for p in observation["apt"]["problems"]
    ]
    found += dpkg_problems(observation)
    return found + unread_problems(observation)


#: What the probe reads and no plan rests on.
UNPLANNED = (
    "df *",
    "/etc/prime-discrete",
    "/proc/acpi/bbswitch",
    "/proc/meminfo",
    "/proc/sys/kernel/*",
    "/usr/bin/python3*",
)


def unread_problems(observation: Observation) -> List[str]:
    """What the probe could not read although the plan, or a judgement above, rests on it."""
    told = {p["file"] for p in observation["apt"]["problems"]}
    passed_over = UNPLANNED if observation["gpus"] else (*UNPLANNED, "mokutil *")
    return [
        f"{p['what']} could not be read ({p['error']}). Fix that first: a plan rests on it."
        for p in observation["problems"]
        if p["what"] not in told and not any(fnmatchcase(p["what"], pattern) for pattern in passed_over)
    ]


def is_distributions(source: Source, row: Json) -> bool:  # Json: a row of the catalog
    """Return whether nothing is to be said of a source: it is the distribution's own, or apt has not read it yet.

    A source of source packages alone is never read for packages; its suites have to do.
    """
    if source["releases"]:
        return all(is_own(release, row) for release in source["releases"]) and not (
            "deb" not in source["types"] and not own_release(source, row)
        )
    return own_release(source, row) or (not source["fetched"] and "deb" in source["types"])


def remarks(observation: Observation) -> List[str]:
    """What is worth a word and no more.

    Third-party sources that offer nothing of the stack, and on a fresh host sources that only their suite speaks for.
    """
    row = platform_row(shipped(), observation)
    if row is None:
        return []
    bad = {(file, line) for file, line, _ in offered(observation)}
    third: Dict[str, str] = {}
    for source in observation["apt"]["sources"]:
        others = other_releases(source, row, observation["apt"]["releases"])
        theirs = not others and not is_distributions(source, row)
        if source["enabled"] and theirs and (source["file"], source["line"]) not in bad:
            third.update({uri: source["file"] for uri in source["uris"]})
    found = [f"{file} adds {uri}, which offers no package of the stack: left alone" for uri, file in third.items()]
    if not observation["apt"]["releases"]:
        for source in unread(observation):
            if vouched(source, observation, row):
                where = f"{source['file']} adds {' '.join(source['uris'] + source['suites'])}"
                found.append(f"{where}, which apt has not read yet: judged by its suite alone")
    return sorted(found)
