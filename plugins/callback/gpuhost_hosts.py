"""End a run that does nothing because of a mistyped name: Ansible itself says "no hosts matched" and ends with 0.

Ansible loads it by itself from the folder that ansible.cfg names, so it covers every playbook.
"""

from __future__ import annotations

from typing import Any, Iterable, List, NoReturn

from ansible import context
from ansible.inventory.manager import split_host_pattern
from ansible.plugins.callback import CallbackBase

from gpuhost.text import printable

DOCUMENTATION = """
name: gpuhost_hosts
type: aggregate
short_description: End a run for no host with an error
description:
  - A play that no host matches, and a name of --limit that matches none, end the run with exit code 5, which is
    Ansible's own for wrong options.
"""

WRONG_OPTIONS = 5
MOST = 400  # characters of a list of names


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback that Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "gpuhost_hosts"

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play, and hold each name of --limit against the inventory."""
        self._play = play
        self._inventory = play.get_variable_manager()._inventory
        for pattern in split_host_pattern(context.CLIARGS.get("subset") or ""):
            name = pattern.lstrip("!&")
            # A file of names (@FILE) is what an earlier run has left.
            if not name.startswith("@") and not self._hosts(name):
                told, hosts = printable(name, 80), listed(host.name for host in self._hosts("all"))
                self._end(f"--limit names '{told}', which no host of the inventory matches. Hosts: {hosts}.")

    def _hosts(self, pattern: str) -> List[Any]:
        """Return what a pattern matches, whatever --limit says and an earlier play was for."""
        return list(self._inventory.get_hosts(pattern, ignore_limits=True, ignore_restrictions=True))

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """End the run."""
        pattern = listed(self._play.hosts)
        groups = listed(name for name in self._inventory.groups if name not in ("all", "ungrouped"))
        limit = context.CLIARGS.get("subset")
        within = f" and --limit {printable(limit, 80)}" if limit else ""
        self._end(
            f"No host of the inventory matches {pattern}{within}, so nothing was done. Its groups: {groups}. "
            f"Put the hosts under {pattern}, as in inventory/hosts.yml, or name the right inventory: -i FILE"
        )

    def _end(self, message: str) -> NoReturn:
        """Say it, and leave: Ansible turns every other exception of a callback into a warning."""
        self._display.error(f"{message} (./run ansible-inventory --graph shows what there is.)", wrap_text=False)
        raise SystemExit(WRONG_OPTIONS)


def listed(names: Iterable[str]) -> str:
    """Return names in one line."""
    return printable(", ".join(sorted(names)) or "none", MOST)
