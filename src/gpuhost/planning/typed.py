"""Commands of this project as the user has to type them: with the inventory and the hosts that this run was given."""

from __future__ import annotations

import re
import shlex
from typing import Sequence

#: The group of the inventory that every playbook is for.
ALL = "gpu_hosts"
#: Each command, up to the next one on its line.
_COMMAND = re.compile(r"\./run (ansible-playbook|pytest verify/)((?:(?!\./run |[\n]).)*)")


def own(text: str, inventories: Sequence[str], hosts: str) -> str:
    """Return a text in which each playbook and `pytest verify/` has the user's inventories and hosts ("" for all).

    A command that names its inventory or its hosts already keeps what it has.
    """

    def completed(found: re.Match[str]) -> str:
        program, rest = found.groups()
        if program == "ansible-playbook":
            words = [] if " -i " in rest else [word for name in inventories for word in ("-i", shlex.quote(name))]
            words += ["--limit", shlex.quote(hosts)] if hosts and " --limit" not in rest else []
        else:
            # Without names verify/ would read the machine on which it is typed.
            meant = hosts or (ALL if len(inventories) == 1 else "")
            words = [f"--hosts={shlex.quote(meant)}"] if meant and "--hosts" not in rest else []
            if "--ansible-inventory" not in rest and len(inventories) == 1:
                words.append(f"--ansible-inventory={shlex.quote(inventories[0])}")
        return " ".join(["./run", program, *words]) + rest

    return _COMMAND.sub(completed, text)
