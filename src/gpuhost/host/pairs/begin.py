"""What a controller has done on the host before the boot that decides: name the pairs, and arm the one boot.

Runs on the target: Python 3.6, standard library.
"""

from ...errors import EnvironmentProblem, RefusedError
from ...types import Json
from . import judge
from .run import Machine

AGAIN = "To try it once more: -e update_again=true (docs/runbooks/undone.md)"


def prepare(machine: Machine, old: Json, new: Json, again: bool = False) -> Json:
    """Name the pairs and make the old kernel the default, before the first package changes; return the record.

    An update that was cut off goes on. The old pair is the one in force, so it is the same however often this is typed.
    """
    record = machine.record()
    refused = judge.refusal(record, old, new)
    if refused and not again:
        raise RefusedError(f"{refused}. Nothing was changed.", AGAIN)
    if record is not None and record["state"] == judge.TRYING:
        raise EnvironmentProblem(
            "A pair of kernel and driver is being judged on this host.",
            "Wait two minutes, then the same command again.",
        )
    if record is not None and judge.is_same(record, old, new) and record["state"] in (judge.ARMED, judge.PROVED):
        return record
    record = judge.fresh(old, new, machine.boot())
    machine.save(record)
    if not judge.same_kernel(record):
        machine.pin(record)
    if old["version"] != new["version"]:
        machine.block()
    return record


def arm(machine: Machine, record: Json) -> Json:
    """Let the next boot be the trial; return the record.

    The boot loader before the record: where the power goes in between, the pair that comes up is judged all the same.
    """
    if record["state"] != judge.PREPARED:
        return record
    if not judge.same_kernel(record):
        machine.arm(record)
    record = judge.armed(record, machine.boot())
    machine.save(record)
    return record
