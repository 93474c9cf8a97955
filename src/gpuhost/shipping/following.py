"""What action plugins share whose module works for minutes: run it as an asynchronous job and tell each step.

Controller side. The module leaves its present step in a file on the target, one for each job; `Followed` shows every
new one with the time gone, and hands the job's result on. What a host says is shown as one printable line; how much of
it Ansible's connection takes into memory is not bounded here, `head` only keeps an honest host's file short.
"""

from __future__ import annotations

import secrets
import shlex
import time
from typing import Any, Callable, Dict, Optional

from ..credentials import without_secrets
from ..host.commands import LONGEST_STEP
from ..text import printable

LIMIT_S = 4 * 3600
PAUSE_S = 2.0
GRACE_S = 300.0
REPEAT_S = 30.0  # a step that goes on is reported again this often
INTERNAL = ("ansible_job_id", "started", "finished", "results_file", "stdout", "stdout_lines", "stderr")

Variables = Optional[Dict[str, Any]]
Result = Dict[str, Any]


class Followed:
    """Beside Ansible's ActionBase, whose attributes these are."""

    _task: Any
    _execute_module: Callable[..., Result]
    _low_level_execute_command: Callable[..., Result]
    get_shell_option: Callable[..., Any]

    def check(self, task_vars: Variables, arguments: Variables = None) -> Result:
        """Ask the module whether there is anything to do, without doing it."""
        wanted = self._task.check_mode
        self._task.check_mode = True
        try:
            answer = self._execute_module(module_args=arguments, task_vars=task_vars)
        finally:
            self._task.check_mode = wanted
        answer.pop("diff", None)
        return answer

    def patiently(self, task_vars: Variables, display: Callable[[str], None], arguments: Variables = None) -> Result:
        """Run the module at once, and again while another run holds the host's lock; who holds it is reported."""
        host = (task_vars or {}).get("inventory_hostname", "")
        told: Optional[float] = None
        while True:
            answer = self._execute_module(module_args=arguments, task_vars=task_vars)
            if not answer.get("busy"):
                return answer
            if told is None or time.monotonic() - told >= REPEAT_S:
                told = time.monotonic()
                display(f"[{host}] waiting. {printable(answer['busy'], 300)}")
            time.sleep(PAUSE_S)

    def bring(self, task_vars: Variables, display: Callable[[str], None], name: str = "") -> Result:
        """Run a module that makes something of a name (its argument `name`, where none is given), with its steps told;
        at once where it is there.

        In check mode there is nothing to wait for.
        """
        if self._task.check_mode:
            return self._execute_module(task_vars=task_vars)
        quick = self.check(task_vars)
        if quick.get("failed") or not quick.get("changed"):
            return quick
        host = (task_vars or {}).get("inventory_hostname", "")
        return self.work(task_vars, name or self._task.args["name"], lambda text: display(f"[{host}] {text}"))

    def work(self, task_vars: Variables, name: str, tell: Callable[[str], None], arguments: Variables = None) -> Result:
        """Run the module as a job, `tell` each step that it leaves in a file that begins with `name`; its result."""
        arguments = dict(self._task.args if arguments is None else arguments)
        file = f"{arguments.get('root', '/opt/gpuhost')}/log/{name}-{secrets.token_hex(4)}.progress"
        arguments["progress"] = file
        self._task.async_val, before = LIMIT_S, self._task.async_val
        try:
            started = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=True)
        finally:
            self._task.async_val = before  # else the executor would poll the finished job once more
        if "ansible_job_id" not in started:
            return started
        return self._follow(str(started["ansible_job_id"]), task_vars, file, tell)

    def _job(self, job: str, mode: str, task_vars: Variables) -> Result:
        """Ask for the job's status, or have its file removed."""
        where = self.get_shell_option("async_dir", default="~/.ansible_async")
        return self._execute_module(
            module_name="ansible.legacy.async_status",
            module_args={"jid": job, "mode": mode, "_async_dir": where},
            task_vars=task_vars,
        )

    def _follow(self, job: str, task_vars: Variables, file: str, tell: Callable[[str], None]) -> Result:
        """Poll the job until it ends, and tell its steps."""
        begin = told = time.monotonic()
        last = ""
        while True:
            time.sleep(PAUSE_S)
            status = self._job(job, "status", task_vars)
            # A failed read of the progress is not a failure of the work: the next poll reads it again.
            read = self._low_level_execute_command(f"head -c 4096 {shlex.quote(file)} 2>/dev/null || true")
            said = printable(without_secrets(read.get("stdout", "")), LONGEST_STEP)
            now = time.monotonic()
            if said and (said != last or now - told >= REPEAT_S):
                tell(f"{now - begin:4.0f} s  {said}")
                last, told = said, now
            if status.get("finished") or status.get("failed"):
                break
            # Ansible ends the job on the host by then; a host that goes on saying "not finished" is not believed.
            if now - begin > LIMIT_S + GRACE_S:
                return {"failed": True, "msg": f"The host has not ended a job that may take {LIMIT_S // 3600} hours."}
        self._job(job, "cleanup", task_vars)
        for internal in INTERNAL:
            status.pop(internal, None)
        return status
