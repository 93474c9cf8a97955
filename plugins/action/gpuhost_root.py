"""Try whether root can be had on a host, by the very way in which the tasks after it want it."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from gpuhost.planning.preflight import root_problem


class ActionModule(ActionBase):
    """Takes nothing. Returns why root cannot be had (`problem`); '' where it can."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset()

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Become root, which changes nothing; it is done in check mode too."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        user = self._low_level_execute_command("id -un", sudoable=False)["stdout"].strip()
        try:
            done = self._low_level_execute_command("id -u")
        except AnsibleConnectionFailure:
            raise  # the host is unreachable
        except AnsibleError as error:
            said = str(error)  # Ansible's own words for a password that is missing or wrong
        else:
            if done["stdout"].strip() == "0":
                return {**result, "changed": False, "problem": ""}
            said = done["stderr"] or done["stdout"] or f"exit status {done['rc']}"
        return {**result, "changed": False, "problem": root_problem(user, said)}
