"""Show of a run what changes and how long that took, what fails and what is reported; and at its end the outcome.

The form is that of Ansible's own `default`, with nothing in it that a host could use to deceive whoever reads it.
-v, or ANSIBLE_DISPLAY_OK_HOSTS=1, shows all the tasks.

Ansible 2.13 to 2.21 prints a module's warnings, deprecations, exceptions, items and diffs as they come, and cleans the
rest only for YAML: a host's escape codes reach the terminal, and its lines begin where Ansible's do.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, NoReturn, Tuple

from ansible import constants, context
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default
from ansible.plugins.loader import filter_loader, test_loader
from ansible.utils import color

from gpuhost.credentials import without_secrets
from gpuhost.errors import EXIT_INTERRUPTED
from gpuhost.planning import typed
from gpuhost.text import printable, printable_lines

DOCUMENTATION = """
name: gpuhost
type: stdout
short_description: What changes and what fails, with every host's words made printable
description:
  - The output of C(ansible.builtin.default), without what only found everything in order.
  - What a verification has come to stands at the end.
  - What hosts say holds no control characters and no secrets, and begins no line.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
"""

INDENT = "\n    "
#: Results under these names are one line each where Ansible prints them.
ONE_LINE = ("item", "_ansible_item_label", "before_header", "after_header", "warnings", "deprecations")
#: Of Ansible's messages these hold a host's words, as lines that Ansible does not indent.
EVENTS = (
    "v2_on_file_diff",
    "v2_runner_item_on_failed",
    "v2_runner_item_on_ok",
    "v2_runner_item_on_skipped",
    "v2_runner_on_async_failed",
    "v2_runner_on_async_ok",
    "v2_runner_on_async_poll",
    "v2_runner_on_failed",
    "v2_runner_on_ok",
    "v2_runner_on_skipped",
    "v2_runner_on_unreachable",
    "v2_runner_retry",
)
#: Seconds after which the time that a task took is shown.
WORTH_TELLING = 5
LEFT_TO_DO = (
    "Interrupted. Nothing more is begun. What a host has begun to install or to build, or waits to while another run "
    "is at work there, it brings to its end; the same command again waits for that, and goes on from there."
)
_COLOUR = re.compile("(\x1b\\[[0-9;]*m)")


def clean(value: Any, under: str = "") -> Any:
    """Return a result as it may be shown; `under` is the name that it has in the result around it."""
    if isinstance(value, str):
        if under in ONE_LINE:
            return printable(without_secrets(value))
        shown = printable_lines(without_secrets(value))
        # Ansible prints these two as they are, each line from the first column on.
        return INDENT[1:] + shown.replace("\n", INDENT) if under in ("prepared", "exception") else shown
    if isinstance(value, dict):
        return {clean(key): clean(inner, under if under in ONE_LINE else str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner, under) for inner in value]
    return value


def cleaned(event: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the default callback that is given a clean result."""

    @functools.wraps(event)
    def wrapped(self: Any, result: Any, *given: Any, **more: Any) -> Any:
        kept: Dict[str, Any] = result._result
        shown = clean(kept)
        kept.clear()
        kept.update(shown)
        return event(self, result, *given, **more)

    return wrapped


def visible(text: str) -> str:
    """Return a message of Ansible's own, with its colours, where it uses them, and no other escape code."""
    if not color.ANSIBLE_COLOR:
        return printable_lines(text)
    return "".join(part if _COLOUR.fullmatch(part) else printable_lines(part) for part in _COLOUR.split(text))


def load() -> None:
    """Load filters and tests, and what they and action plugins use: once, where each task would take it again.

    A package that is missing is the role `gpu_stack`'s to name, for the hosts that need it.
    """
    for loader in (filter_loader, test_loader):
        list(loader.all())
    with contextlib.suppress(ImportError):
        from gpuhost.planning import rebuild, rollback, specs  # noqa: F401 - loaded for the processes that are forked
        from gpuhost.planning.catalog import DATA, shipped, validator
        from gpuhost.planning.resolve import resolver
        from gpuhost.report import terminal  # noqa: F401 - the same
        from gpuhost.shipping import action  # noqa: F401 - the same

        shipped(), resolver()
        for schema in ("lock", "module_answers", "observation"):
            validator(DATA / f"{schema}.schema.json")


def typed_options() -> Tuple[List[str], str]:
    """Return the inventories and the hosts that were named on the command line; those of the settings need no word."""
    given = list(context.CLIARGS.get("inventory") or ())
    # Ansible has made absolute paths of the files; a list of hosts ("web1,") is as it was typed.
    names = [] if given == constants.DEFAULT_HOST_LIST else [beside(name) for name in given]
    return names, str(context.CLIARGS.get("subset") or "")


def beside(name: str) -> str:
    """Return a path as it is typed where the run was started, if it lies there."""
    short = os.path.relpath(name)
    return name if "," in name or short.startswith(os.pardir) else short


def is_told(said: Dict[str, Any]) -> bool:
    """Return whether a result that changed nothing is there to be read, or has an item that is."""
    items = [row for row in said.get("results") or () if isinstance(row, dict)]
    return "_ansible_verbose_always" in said or "warnings" in said or any(map(is_told, items))


class Cleaned(Default):  # type: ignore[misc]
    """The default callback, which is given clean results of hosts."""


for _name in EVENTS:
    setattr(Cleaned, _name, cleaned(getattr(Default, _name)))


class CallbackModule(Cleaned):
    """The callback that Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "gpuhost"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Put the last filter before the terminal, for warnings and errors that go there without a callback."""
        super().__init__(*args, **kwargs)
        self._begun: Dict[str, float] = {}
        self._endings: Dict[str, List[str]] = {}
        self._typed = typed_options()
        display = self._display.display

        @functools.wraps(display)
        def filtered(msg: str, color: Any = None, stderr: bool = False, *given: Any, **more: Any) -> Any:
            text = visible(typed.own(msg, *self._typed))
            # Warnings and errors are broken into lines, and none of those may look like Ansible's own.
            if stderr or text.lstrip("\n").startswith("["):
                begin = len(text) - len(text.lstrip("\n"))
                end = len(text.rstrip("\n"))
                text = text[:begin] + text[begin:end].replace("\n", INDENT) + text[end:]
            try:
                return display(text, color, stderr, *given, **more)
            except BrokenPipeError:
                # Whoever read the output (as in `| head`) has left. What has begun is ended, unseen: without this
                # the thread in which Ansible takes results would end, and the run would wait for it for ever.
                os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if stderr else sys.stdout).fileno())

        self._display.display = filtered

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Load the filters' part of the package: Ansible forks a process for every task, and that one inherits it."""
        load()
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a run in the background
            signal.signal(signal.SIGINT, functools.partial(self._interrupted, os.getpid()))
        if self._display.verbosity > 0:
            self.set_option("display_ok_hosts", True)
        super().v2_playbook_on_start(playbook)

    def _interrupted(self, main: int, *_: Any) -> NoReturn:
        """End the run at Ctrl-C, and say what is left to do; Ansible's own exit code for it is 99."""
        if os.getpid() != main:  # a process that was forked for a task
            raise KeyboardInterrupt
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what has begun is ended once
        self._display.error(LEFT_TO_DO, wrap_text=False)
        raise SystemExit(EXIT_INTERRUPTED)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note when a task began; what may last tells its steps itself."""
        self._begun.setdefault(task._uuid, time.monotonic())

    def v2_runner_on_ok(self, result: Any) -> None:
        """Show what was changed and what a task is there to say."""
        if isinstance(result._task, TaskInclude) and not self.get_option("display_ok_hosts"):
            return
        with self._telling(result):
            super().v2_runner_on_ok(result)
        took = time.monotonic() - self._begun.get(result._task._uuid, time.monotonic())
        if result._result.get("changed") and took >= WORTH_TELLING:
            self._display.display(f"    after {took:.0f} s")
        self._keep_ending(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Show the items of a loop in the same way."""
        with self._telling(result):
            super().v2_runner_item_on_ok(result)

    @contextlib.contextmanager
    def _telling(self, result: Any) -> Iterator[None]:
        """Let a result that changed nothing be shown where it is there to be read."""
        everything = self.get_option("display_ok_hosts")
        self.set_option("display_ok_hosts", everything or is_told(result._result))
        yield
        self.set_option("display_ok_hosts", everything)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show a failure whole; of a refusal its sentence, and with -v the expression that has decided it."""
        if result._task.action.rpartition(".")[2] == "assert" and not self.get_option("display_ok_hosts"):
            for name in ("assertion", "changed", "evaluated_to"):
                result._result.pop(name, None)
        super().v2_runner_on_failed(result, ignore_errors)
        self._keep_ending(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Leave out which files of tasks are read, unless all is to be seen."""
        if self.get_option("display_ok_hosts"):
            super().v2_playbook_on_include(included_file)

    def _keep_ending(self, result: Any) -> None:
        """Keep what a verification has come to, for the end."""
        if result._task.action == "gpuhost_verify":
            self._endings[result._host.get_name()] = result._result.get("ending") or []

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End with what the run has come to on each host that was verified."""
        super().v2_playbook_on_stats(stats)
        for lines in self._endings.values():
            self._display.display("\n".join(map(printable, lines)))

    def _get_item_label(self, result: Any) -> Any:
        """Return what an item is called, on one line."""
        label = super()._get_item_label(result)
        return printable(label) if isinstance(label, str) else label
