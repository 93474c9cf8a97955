"""The relations between packages, as Depends, Provides and their kin write them (Debian Policy, section 7.1).

Pure. Runs on the target, so Python 3.6 and the standard library only.
"""

import re
from typing import List, NamedTuple

from .versions import compare_versions

_RELATION = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?::[a-z0-9]+)?\s*(?:\((<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?\Z")


class Relation(NamedTuple):
    """A name, and the operator with the version that it is checked against ("" and "" where any version will do)."""

    name: str
    operator: str
    bound: str

    def allows(self, version: str) -> bool:
        """Return whether a version fulfils the relation."""
        if not self.operator:
            return True
        order = compare_versions(version, self.bound)
        return {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}[self.operator]


def relations(text: str) -> List[List[Relation]]:
    """Return the groups of alternatives of a field; what cannot be read is left out, and so is a group without any."""
    groups = []
    for group in text.split(","):
        found = [_RELATION.match(one.strip()) for one in group.split("|")]
        groups.append([Relation(m.group(1), m.group(2) or "", m.group(3) or "") for m in found if m])
    return [group for group in groups if group]
