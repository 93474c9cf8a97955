"""One call of an Ansible module that has packages with kernel modules on a host: lock, log, progress and answer.

Runs on the target: Python 3.6, standard library.
"""

import contextlib
from pathlib import Path
from typing import Any, Callable

from ...errors import GpuhostError
from .. import files, progress, store
from ..work import Work
from .set import Machine, booting, this_machine


def carry_out(
    module: Any, name: str, setup: Callable[[Any, Machine, Work], Any], asked: Callable[[Any, Any], Any]
) -> None:
    """Do what the module's `state` says, or say what would be done, and end the module; a failure is one paragraph.

    `asked(module, setup)` has a method for each state, which returns the answer. `name` is that of the log.
    """
    root = Path(module.params["root"])
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(files.temporary()) if module.check_mode else root / "log"
            say = stack.enter_context(progress.told(module.params["progress"]))
            work = Work(folder / f"{name}.log", say, module.params["wait_s"])
            host = setup(module.params, booting(this_machine(), module.params["kernel"]), work)
            if module.check_mode:
                host.apt.aside = stack.enter_context(files.temporary())
            answer = getattr(asked(module, host), module.params["state"])()
        module.exit_json(**answer)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    except OSError as error:
        failure = store.unwritable(error, root)
        module.fail_json(msg=str(failure), exit_code=failure.exit_code)
