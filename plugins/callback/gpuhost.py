"""Show a run as Ansible's own `default` does, with nothing in it that a host could use to deceive whoever reads it.

Ansible 2.13 to 2.21 prints a module's warnings, deprecations, exceptions, items and diffs as they come, and cleans the
rest only for YAML: a host's escape codes reach the terminal, and its lines begin where Ansible's do.
"""

from __future__ import annotations

import contextlib
import functools
import re
from typing import Any, Callable, Dict

from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils import color

from gpuhost.credentials import without_secrets
from gpuhost.text import printable, printable_lines

DOCUMENTATION = """
name: gpuhost
type: stdout
short_description: The default output, with every host's words made printable
description:
  - The output of C(ansible.builtin.default).
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
    """Load what filters and action plugins use: 0.5 s once, which each task of theirs would take again.

    A package that is missing is the role `gpu_stack`'s to name, for the hosts that need it.
    """
    with contextlib.suppress(ImportError):
        from gpuhost.planning import rebuild, rollback, specs  # noqa: F401 - loaded for the processes that are forked
        from gpuhost.planning.catalog import DATA, shipped, validator
        from gpuhost.planning.resolve import resolver
        from gpuhost.report import terminal  # noqa: F401 - the same
        from gpuhost.shipping import action  # noqa: F401 - the same

        shipped(), resolver()
        for schema in ("lock", "module_answers", "observation"):
            validator(DATA / f"{schema}.schema.json")


class CallbackModule(Default):  # type: ignore[misc]
    """The callback that Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "gpuhost"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Put the last filter before the terminal, for warnings and errors that go there without a callback."""
        super().__init__(*args, **kwargs)
        display = self._display.display

        @functools.wraps(display)
        def filtered(msg: str, color: Any = None, stderr: bool = False, *given: Any, **more: Any) -> Any:
            text = visible(msg)
            # Warnings and errors are broken into lines, and none of those may look like Ansible's own.
            if stderr or text.lstrip("\n").startswith("["):
                begin = len(text) - len(text.lstrip("\n"))
                end = len(text.rstrip("\n"))
                text = text[:begin] + text[begin:end].replace("\n", INDENT) + text[end:]
            return display(text, color, stderr, *given, **more)

        self._display.display = filtered

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Load the filters' part of the package: Ansible forks a process for every task, and that one inherits it."""
        load()
        super().v2_playbook_on_start(playbook)

    def _get_item_label(self, result: Any) -> Any:
        """Return what an item is called, on one line."""
        label = super()._get_item_label(result)
        return printable(label) if isinstance(label, str) else label


for _name in EVENTS:
    setattr(CallbackModule, _name, cleaned(getattr(Default, _name)))
