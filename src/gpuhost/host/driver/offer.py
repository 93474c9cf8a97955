"""Why the archive does not give the locked driver, and what the administrator can do: the role never edits sources.

Runs on the target: Python 3.6, standard library.
"""

import shlex
from typing import Any, List, Mapping, Optional, Sequence

from ...errors import RefusedError
from ...types import Json
from ..edges import Edges
from ..parse.kernels import headers_package
from ..probe.apt import read_apt, read_indexes
from .apt import Apt
from .packages import installed_version

RELOCK = "./run ansible-playbook playbooks/plan.yml -e gpu_stack_relock=true"
#: A file of its own, so that no file of the distribution's is edited.
ADDED = "/etc/apt/sources.list.d/components.list"
UPDATE = "apt-get update"
# Debian's driver needs packages of contrib and, from Debian 12 on, firmware as well.
COMPONENTS = {"non-free": "contrib non-free non-free-firmware"}


def component_missing(apt: Apt, driver: Json) -> Optional[RefusedError]:
    """Return the refusal when no source names a component that the driver needs; None when all are named."""
    component = driver.get("component")
    there = {index.split()[1].rpartition("/")[2] for index in apt.own_indexes()}
    missing = [] if component is None else [part for part in parts(component) if part not in there]
    if not missing:
        return None
    edges = Edges("/", apt.run)
    sources = read_apt(edges, apt.distribution, read_indexes(edges))["sources"]
    lines = component_lines(sources, " ".join(parts(str(component))), apt.own_sites())
    return RefusedError(unnamed(driver["package"], missing), component_step(missing[0], lines))


def unnamed(driver: str, missing: List[str]) -> str:
    """Return in words that no source names the components that a driver needs."""
    named = "component" if len(missing) == 1 else "components"
    text = f"{driver} needs what is in the {named} {', '.join(missing)} of the archive, and no apt source of this host"
    return f"{text} names that. Nothing was changed."


def parts(component: str) -> List[str]:
    """Return the components that a driver in this one needs."""
    return COMPONENTS.get(component, component).split()


def component_step(component: str, lines: List[str]) -> str:
    """What the administrator types to add source lines: each command on a line of its own, to be copied as it is."""
    if not lines:
        return f"On the host, as root, name the component {component} in the apt source of its archive, then:\n{UPDATE}"
    named = " ".join(shlex.quote(line) for line in lines)
    return "\n".join(("On the host, as root:", f"printf '%s\\n' {named} > {ADDED}", UPDATE))


def component_lines(sources: Sequence[Mapping[str, Any]], components: str, sites: List[str]) -> List[str]:
    """The source lines that add components to the archives that a host uses already."""
    lines = []
    for source in sources:
        if not source["enabled"] or "deb" not in source["types"]:
            continue
        signed = "[signed-by={}] ".format(source["signed_by"]) if (source["signed_by"] or "").startswith("/") else ""
        for uri in source["uris"]:
            if any(site and site in uri for site in sites):
                lines += [f"deb {signed}{uri} {suite} {components}" for suite in source["suites"]]
    return lines


def there(apt: Apt, name: str) -> bool:
    """Return whether a package is installed."""
    return installed_version(apt.installed(), name) is not None


def no_longer_offered(apt: Apt, names: List[str], kernel: str) -> RefusedError:
    """The refusal (D05) when the archive has other versions, or none, and our cache has not the whole set.

    Headers that nobody has mean that the kernel that will boot is no longer the archive's, or never was (D08).
    """
    found = []
    known = apt.offered([word.partition("=")[0] for word in names])
    for word in names:
        name, _, version = word.partition("=")
        offers = known[name]
        if name == headers_package(kernel) and not offers and not there(apt, name):
            text = f"Kernel {kernel} will boot, and its headers are neither installed nor offered, so no module can be"
            step = f"Install {name}, or remove that kernel so that one with headers boots, then run again."
            return RefusedError(f"{text} built for it. (D08) Nothing was changed.", step)
        if not offers or (version and version not in offers):
            found.append(f"{name} {version}".strip() + f" (it has {', '.join(offers) or 'no such package'})")
    text = (
        f"The archive no longer offers {'; '.join(found)}, the .debs are not all in {apt.root}/cache/debs, and the "
        "lock names no other place to have them from. (D05)"
    )
    step = f"Copy cache/debs from a host that has the set, or plan for what the archive has now: {RELOCK}"
    return RefusedError(text + " Nothing was changed.", step)
