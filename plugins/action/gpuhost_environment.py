"""Run the module `gpuhost_environment` while telling what it is at: fetching and installing takes minutes.

The module runs as an asynchronous job on the target and leaves its present step in a file there; this plugin shows each
new step with the time gone, and hands the job's result on.
"""

from __future__ import annotations

import shlex
import time
from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

LIMIT_S = 4 * 3600
PAUSE_S = 2.0
REPEAT_S = 30.0  # a step that goes on is told again this often


class ActionModule(ActionBase):  # type: ignore[misc]
    """The task `gpuhost_environment`."""

    def run(self, tmp: Any = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        """Start the module, follow it, return its result. In check mode it has nothing to wait for."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, **self._execute_module(task_vars=task_vars)}
        quick = self._execute_check(task_vars)
        if quick.get("failed") or not quick.get("changed"):
            return {**result, **quick}
        self._task.async_val, before = LIMIT_S, self._task.async_val
        try:
            started = self._execute_module(task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = before  # else the executor would poll the finished job once more
        if "ansible_job_id" not in started:
            return {**result, **started}
        return {**result, **self._follow(str(started["ansible_job_id"]), task_vars)}

    def _execute_check(self, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Ask the module whether there is anything to do, without doing it."""
        wanted = self._task.check_mode
        self._task.check_mode = True
        try:
            answer: Dict[str, Any] = self._execute_module(task_vars=task_vars)
        finally:
            self._task.check_mode = wanted
        answer.pop("diff", None)
        return answer

    def _job(self, job: str, mode: str, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Ask for the job's status, or have its file removed."""
        where = self.get_shell_option("async_dir", default="~/.ansible_async")
        answer: Dict[str, Any] = self._execute_module(
            module_name="ansible.legacy.async_status",
            module_args={"jid": job, "mode": mode, "_async_dir": where},
            task_vars=task_vars,
        )
        return answer

    def _follow(self, job: str, task_vars: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        """Poll the job until it ends, and show its steps."""
        name, host = self._task.args["name"], (task_vars or {}).get("inventory_hostname", "")
        file = f"{self._task.args.get('root', '/opt/gpuhost')}/log/{name}.progress"
        begin = told = time.monotonic()
        last = ""
        while True:
            time.sleep(PAUSE_S)
            status = self._job(job, "status", task_vars)
            # A failed read of the progress is no failure of the work: the next poll reads it again.
            said = self._low_level_execute_command(f"cat {shlex.quote(file)}").get("stdout", "").strip()
            now = time.monotonic()
            if said and (said != last or now - told >= REPEAT_S):
                Display().display(f"[{host}] {now - begin:4.0f} s  {said}")
                last, told = said, now
            if status.get("finished") or status.get("failed"):
                break
        self._job(job, "cleanup", task_vars)
        for internal in ("ansible_job_id", "started", "finished", "results_file", "stdout", "stdout_lines", "stderr"):
            status.pop(internal, None)
        return status
