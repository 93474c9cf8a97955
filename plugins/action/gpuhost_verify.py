"""Run `pytest verify/` on the controller for the present host, and show what it prints while it runs."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from gpuhost.errors import GpuhostError
from gpuhost.host import commands
from gpuhost.planning import lock
from gpuhost.report import history, report, swap
from gpuhost.text import printable_lines

PROJECT = Path(__file__).resolve().parents[2]
#: What the argument `benchmark` adds to the command line.
BENCHMARK: Dict[str, List[str]] = {
    "auto": [],
    "again": ["--benchmark"],
    "full": ["--benchmark-full"],
    "none": ["--no-benchmark"],
}
OPTIONS = {
    "require_gpu": "--require-gpu",
    "images": "--images",
    "photos": "--benchmark-photos",
    "reports": "--gpuhost-reports",
}
#: The variables by which a user says where the locks are, in the order of gpuhost.planning.lock.place.
PLACES = ("gpu_stack_locks", "gpu_stack_lock_file")
KEPT_LINES = 1000
NO_REPORT = "verify/ has written no report, so no benchmark of the new card can be shown."
REPORT = re.compile(r"^report: (.+)$")


def pytest_command(host: str, inventory: List[str], arguments: Dict[str, Any]) -> Tuple[List[str], Dict[str, str]]:
    """The command line for one host of the inventory, and what has to be set in its environment variables."""
    command = [sys.executable, "-I", "-u", "-m", "pytest", "verify/", "-q", "--no-header", f"--hosts=ansible://{host}"]
    # testinfra calls ansible-inventory by its name: it must be the one beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    extra = {"PATH": path}
    if len(inventory) == 1:
        command.append(f"--ansible-inventory={inventory[0]}")
    elif inventory:
        # testinfra takes one inventory; Ansible itself reads several from this variable.
        extra["ANSIBLE_INVENTORY"] = ",".join(inventory)
    command += BENCHMARK[arguments.get("benchmark", "auto")]
    for name, option in OPTIONS.items():
        value = arguments.get(name)
        if value is True:
            command.append(option)
        elif value not in (None, False):
            command.append(f"{option}={value}")
    return command, extra


def report_of(lines: List[str]) -> Optional[Path]:
    """The page that the output names, the last one."""
    found = [match.group(1) for match in map(REPORT.match, lines) if match]
    return Path(found[-1]) if found else None


class ActionModule(ActionBase):
    """Takes `benchmark` (a key of BENCHMARK; auto), `require_gpu` (false), `images`, `photos` and `reports`, as
    verify/'s options of these names.
    """

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"benchmark", *OPTIONS})

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Verify the host of this task; `rc`, `verdict`, the `report` files and what the last change of generation has
        brought (`compared`) come back, and it fails as pytest does.
        """
        result: Dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        if self._task.check_mode:
            # Said by itself, because ansible.cfg hides the results of skipped tasks.
            told = f"{host}: check mode, so the host is not verified."
            self._display.display(told)
            return {**result, "changed": False, "skipped": True, "msg": told}
        arguments = {name: value for name, value in self._task.args.items() if value != ""}
        if not isinstance(arguments.get("require_gpu", False), bool):
            raise AnsibleActionFail(f"require_gpu must be true or false, not {arguments['require_gpu']!r}.")
        if arguments.get("benchmark", "auto") not in list(BENCHMARK):
            raise AnsibleActionFail(f"benchmark must be one of {', '.join(BENCHMARK)}, not {arguments['benchmark']!r}.")
        command, extra = pytest_command(host, list(variables.get("ansible_inventory_sources") or []), arguments)
        try:
            # With several inventories pytest is not told which of them the host, and so its lock, comes from.
            wishes = [self._templar.template(variables.get(name) or "") for name in PLACES]
            place = lock.place(host, variables.get("inventory_dir"), *wishes)
            lock.refuse_former(*place)
        except GpuhostError as error:
            return {**result, "failed": True, "msg": str(error), "exit_code": error.exit_code}
        command.append(f"--gpuhost-lock={place.file}")
        code, lines = stream(command, extra, self._display.display)
        page = report_of(lines)
        result.update(
            changed=False, rc=code, failed=code != 0, verdict=None, report=None, ending=[], compared=[NO_REPORT]
        )
        if page is not None:
            result["report"] = {
                kind: str(page.with_name(name))
                for kind, name in (("html", page.name), ("json", "report.json"), ("junit", "junit.xml"))
            }
            result["compared"] = swap.lines(history.read(page.parent).reports)
            try:
                found = history.load(page.with_name("report.json"))
            except (OSError, ValueError) as error:
                raise AnsibleActionFail(
                    f"{page.with_name('report.json')} cannot be read. {history.why(error)}"
                ) from None
            # Shown by the callback when all has been said.
            result.update(verdict=found["verdict"], ending=report.ending(found, page))
        if code != 0:
            result["msg"] = (
                f"{host}: {result['verdict'] or 'verify/ could not be run'}. The lines above say how to fix it."
            )
        else:
            result["msg"] = f"{host}: {result['verdict']}"
        return result


def stream(command: List[str], extra: Dict[str, str], show: Callable[[str], None]) -> Tuple[int, List[str]]:
    """Run a command in the project's folder, show each line of its output as it comes; its exit status and
    the last lines.
    """
    lines: Deque[str] = collections.deque(maxlen=KEPT_LINES)
    # In the session of Ansible, so that Ctrl-C reaches it, and with the user's own language.
    with commands.start(command, cwd=str(PROJECT), env={**os.environ, **extra}, stderr=subprocess.STDOUT) as process:
        for line in map(printable_lines, commands.lines(process.stdout)):
            lines.append(line)
            show(line)
    return process.returncode, list(lines)
