"""What apt and unattended-upgrades say that they would do, and why the guard keeps a package back: text in, value out.

Runs on the target: Python 3.6, standard library.
"""

import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Set

from ..parse.control import stanzas
from ..parse.relations import relations
from .rules import is_beside, is_family

_CHANGE = re.compile(r"^(Inst|Remv) (\S+)(?: \[([^\]]*)\])?(?: \((\S+))?")
_NAME = re.compile(r"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$")
#: unattended-upgrades' own words, the same in 1.1 (Ubuntu 18.04) and 2.9 (Debian 12).
_CANDIDATES = "pkgs that look like they should be upgraded:"
_CHANGES = re.compile(r"Packages that (?:will be upgraded|were successfully auto-removed):")

NEEDS = ("depends", "pre-depends")
REFUSES = ("breaks", "conflicts")


class Change(NamedTuple):
    """A package that a simulation installs, upgrades or removes (`new` is None then); `old` is None for a new one."""

    name: str
    old: Optional[str]
    new: Optional[str]


def parse_simulation(text: str) -> Dict[str, Change]:
    """The changes that `apt-get -s` announces, by package."""
    found = {}
    for line in text.splitlines():
        match = _CHANGE.match(line)
        if match:
            verb, name, old, new = match.groups()
            found[name] = Change(name, old, new if verb == "Inst" else None)
    return found


def parse_unattended_run(text: str) -> List[str]:
    """The packages that `unattended-upgrade --dry-run -d` would change, by all places where it names them."""
    names: Set[str] = set()
    listing = False
    for line in text.splitlines():
        if _CANDIDATES in line:
            listing = True
            line = line.partition(_CANDIDATES)[2].strip()
        elif _CHANGES.search(line):
            listing = False
            names.update(_CHANGES.split(line)[1].split())
            continue
        if listing and _NAME.match(line):
            names.add(line)
        elif line:
            listing = False
    return sorted(names)


def parse_records(text: str) -> Dict[str, Dict[str, str]]:
    """The relations of each package in the answer of `apt-cache show`, by package; of several records the first."""
    found: Dict[str, Dict[str, str]] = {}
    for fields in stanzas(text, {"package", *NEEDS, *REFUSES}):
        if "package" in fields:
            found.setdefault(fields["package"], fields)
    return found


def explain(
    kept: Iterable[Change],
    fixed: Dict[str, str],
    there: Dict[str, str],
    needs: Dict[str, str],
    records: Dict[str, Dict[str, str]],
) -> Dict[str, str]:
    """Why each change that only the guard prevents does not happen, by package; one without a reason is left out.

    `fixed`: the versions that the guard holds. `there`: those of all installed packages. `needs`: what the held
    packages depend on, as text. `records`: the fields of the new versions. A package waits when its new version needs
    another version of a held package, a driver package that is not installed, or another package that waits; or when a
    held package does not go with the new version.
    """
    waiting = {change.name: change for change in kept}
    reasons: Dict[str, str] = {}
    grown = True
    while grown:
        grown = False
        for name, change in sorted(waiting.items()):
            if name not in reasons:
                reason = reason_of(change, fixed, there, needs, records.get(name, {}), reasons)
                if reason:
                    reasons[name] = reason
                    grown = True
    return reasons


def reason_of(
    change: Change,
    fixed: Dict[str, str],
    there: Dict[str, str],
    needs: Dict[str, str],
    fields: Dict[str, str],
    explained: Dict[str, str],
) -> str:
    """The reason for one package, '' when there is none."""
    if change.name in fixed:
        return "it is held"
    if is_family(change.name):
        return "it is a driver package beside the held ones"
    if is_beside(change.name) and any(map(is_beside, fixed)):
        return "it is a package of VirtualBox beside the held ones"

    def stays(name: str) -> Optional[str]:
        """The version that a package stays at because of the guard; '' for one that does not come; None: free."""
        if name in fixed or name in explained:
            return fixed.get(name) or there.get(name, "")
        return "" if is_family(name) and name not in there else None

    for field in NEEDS:
        for group in relations(fields.get(field, "")):
            told = [(one, stays(one.name)) for one in group]
            if all(version is not None and not (version and one.allows(version)) for one, version in told):
                return f"{change.new} needs {' '.join(group[0])}".rstrip()
    for field in REFUSES:
        for group in relations(fields.get(field, "")):
            for one in group:
                version = stays(one.name)
                if version and one.allows(version):
                    return f"{change.new} does not go with {one.name} {version}"
    for holder, text in sorted(needs.items()):
        for group in relations(text):
            named = [one.allows(change.new or "0") for one in group if one.name == change.name]
            if named and not any(named) and len(named) == len(group):
                return f"{holder}, which is held, does not go with {change.new}"
    return ""
