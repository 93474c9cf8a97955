"""Count the tasks of a run and time each of them, as figures for the documentation and for whoever finds a run slow.

Off unless asked for: ANSIBLE_CALLBACKS_ENABLED=gpuhost_profile ./run ansible-playbook site.yml
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Tuple

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: gpuhost_profile
type: aggregate
short_description: Count the tasks of a run and time each
description:
  - Ends the run's output with the number of tasks that were run or skipped, the time in them, and the longest ones.
requirements:
  - enable in configuration, or by ANSIBLE_CALLBACKS_ENABLED
"""

LONGEST = 15


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """The callback that Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "gpuhost_profile"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing has run yet."""
        super().__init__(*args, **kwargs)
        self._begun = time.monotonic()
        self._present: Optional[Tuple[str, float]] = None
        self._times: List[Tuple[float, str]] = []
        self._results: Dict[str, int] = {"ok": 0, "skipped": 0, "failed": 0, "unreachable": 0}

    def _end_task(self) -> None:
        """Note how long the task that ends now took, over all hosts."""
        if self._present is not None:
            name, since = self._present
            self._times.append((time.monotonic() - since, name))
            self._present = None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """One task ends, the next begins."""
        self._end_task()
        self._present = (task.get_name(), time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        """A host has done a task."""
        self._results["ok"] += 1

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A host has left a task out."""
        self._results["skipped"] += 1

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A host has failed at a task."""
        self._results["failed"] += 1

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._results["unreachable"] += 1

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Say it all."""
        self._end_task()
        whole, inside = time.monotonic() - self._begun, sum(took for took, _ in self._times)
        counts = ", ".join(f"{number} {kind}" for kind, number in self._results.items() if number)
        self._display.display(
            f"profile: {len(self._times)} tasks ({counts}), {inside:.1f} s in tasks, {whole:.1f} s in all"
        )
        for took, name in sorted(self._times, reverse=True)[:LONGEST]:
            self._display.display(f"profile: {took:6.2f} s  {name}")
