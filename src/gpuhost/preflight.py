"""What must be right before anything is changed on a host, judged on the controller from one observation."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .catalog import Catalog, Json, shipped
from .versions import release


def controller_problem(os_release: str, core: str) -> str:
    """Why this ansible-core cannot manage the target, told before any module runs there; '' when it can.

    `os_release` is the text of the target's /etc/os-release. Source of the table: Ansible's support matrix.
    """
    fields = dict(line.partition("=")[::2] for line in os_release.splitlines() if "=" in line)
    identity = f"{fields.get('ID', '').strip().strip(chr(34))}-{fields.get('VERSION_ID', '').strip().strip(chr(34))}"
    row = shipped().platforms["platforms"].get(identity)
    if row is None:
        return ""  # an unknown platform has its own message
    for support in shipped().platforms["ansible_core"]:
        if release(core) >= release(support["from"]) and release(row["system_python"]) < release(
            support["target_python_min"]
        ):
            return (
                f"ansible-core {core} needs Python {support['target_python_min']} on the target, {row['name']} has "
                f"{row['system_python']}. Remove .venv and run again with a Python whose ansible-core can: "
                "GPUHOST_PYTHON=python3.11 ./run ... (3.8, 3.10, 3.11 or 3.12 will do)."
            )
    return ""


def problems(observation: Json, catalog: Optional[Catalog] = None) -> List[str]:
    """Everything that forbids a run, each with the command that mends it."""
    catalog = catalog or shipped()
    found = []
    row = catalog.platforms["platforms"].get(observation["platform"]["id"])
    if row is None:
        known = ", ".join(catalog.platforms["platforms"])
        return [f"The platform {observation['platform']['id']} is not supported; supported are {known}."]
    if observation["machine"] != "x86_64":
        found.append(f"The machine is {observation['machine']}; every artifact of the catalog is for x86_64.")
    found += [f"{s['what']} Remove it: {s['remedy']}" for s in foreign_sources(observation, row)]
    found += [
        f"{p['file']} line {p['line']} cannot be read as an apt source ({p['error']}). Correct it."
        for p in observation["apt"]["problems"]
    ]
    found += dpkg_problems(observation)
    return found


LOCKED = "has locked the database"


def dpkg_busy(observation: Json) -> bool:
    """Is another process changing packages just now? (dpkg's audit says so in its first line.)"""
    return any(LOCKED in line for line in observation["dpkg_audit"])


def dpkg_problems(observation: Json) -> List[str]:
    """What dpkg has left half done, or that it is busy."""
    if dpkg_busy(observation):
        return [
            "Another process is changing packages. Wait for it (ps -C apt-get,dpkg,unattended-upgr), then run again."
        ]
    whole = ("installed", "config-files", "not-installed")
    half = [name for name, package in observation["packages"].items() if package["state"] not in whole]
    said = ", ".join(half) or "; ".join(observation["dpkg_audit"][:1])
    return [f"dpkg is not in order ({said}). Mend it: dpkg --configure -a && apt-get -f install"] if said else []


def own_release(source: Json, row: Json) -> bool:
    """Is the source, by its suites, one of the platform's own release?"""
    return all(suite.split("/")[0] in row["suites"] for suite in source["suites"])


def names_a_release(suite: str, distribution: str) -> bool:
    """Does the suite name a release of this distribution?"""
    return suite.split("/")[0].partition("-")[0] in shipped().platforms["codenames"][distribution]


def foreign_sources(observation: Json, row: Json) -> List[Dict[str, str]]:
    """The sources that must not be there, each with what it is and the command that removes it.

    They are those of another release, and those beside the distribution's own that offer a package of the stack.
    """
    found = []
    for source in observation["apt"]["sources"]:
        if not source["enabled"] or own_release(source, row):
            continue
        others = [
            s
            for s in source["suites"]
            if s.split("/")[0] not in row["suites"] and names_a_release(s, row["distribution"])
        ]
        if others:
            found.append(
                {
                    "what": f"{source['file']} adds {', '.join(source['uris'])} {' '.join(others)}, "
                    f"which is not {row['codename']}.",
                    "remedy": removal(source),
                }
            )
    for site, packages in sorted(offered(observation).items()):
        sources = [s for s in observation["apt"]["sources"] if s["enabled"] and any(site in u for u in s["uris"])]
        remedy = removal(sources[0]) if sources else f"grep -rl {site} /etc/apt/sources.list /etc/apt/sources.list.d"
        where = sources[0]["file"] if sources else "a source"
        found.append(
            {
                "what": f"{where}: {site} is not the distribution's own and offers {', '.join(packages[:3])}.",
                "remedy": remedy,
            }
        )
    return found


def offered(observation: Json) -> Dict[str, List[str]]:
    """The packages of the stack that foreign sites offer, by site."""
    found: Dict[str, List[str]] = {}
    for package in observation["apt"]["foreign_packages"]:
        names = found.setdefault(str(package["site"]), [])
        if package["package"] not in names:
            names.append(package["package"])
    return found


def removal(source: Json) -> str:
    """The command that takes a source away: its file, or its lines in the main list."""
    file = str(source["file"])
    if not file.endswith("/sources.list"):
        return f"rm {file} && apt-get update"
    return f"sed -i '\\#{source['uris'][0]}.*{source['suites'][0]}#d' {file} && apt-get update"


def remarks(observation: Json) -> List[str]:
    """What is worth a word and no more: other third-party sources, which offer nothing of the stack."""
    row = shipped().platforms["platforms"].get(observation["platform"]["id"])
    if row is None:
        return []
    bad = offered(observation)
    third: Dict[str, Any] = {}
    for source in observation["apt"]["sources"]:
        if (
            source["enabled"]
            and not own_release(source, row)
            and not any(names_a_release(s, row["distribution"]) for s in source["suites"])
        ):
            for uri in source["uris"]:
                if not any(site in uri for site in bad):
                    third[uri] = source["file"]
    return [
        f"{file} adds {uri}, which offers no package of the stack: left alone" for uri, file in sorted(third.items())
    ]
