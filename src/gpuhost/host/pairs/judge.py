"""What to do next about a pair of kernel and driver that an update brought: one step from the record and the host.

Each step can be done again, and the host is looked at again after each, so a power cut between any two of them changes
nothing but where it goes on. The order is what keeps a working pair: the boot loader's default leads to the old kernel
from before the first package changes until the new pair is proved. Pure. Runs on the target: Python 3.6, standard
library.
"""

from typing import NamedTuple, Optional

from ...types import Json

#: The states of a record. Prepared: the old pair is named, and its kernel is the default. Armed: the new pair is
#: installed and boots next. Trying: it runs and is being judged. The last two are final.
PREPARED, ARMED, TRYING, PROVED, UNDONE = "prepared", "armed", "trying", "proved", "undone"
UNDER_WAY = (PREPARED, ARMED, TRYING)
#: The steps. `LOOK` judges the pair that runs, `PIN` makes the old kernel the default and the next one, `SWITCH` the
#: new one, `RESTORE` puts the old driver's packages back, `LOAD` loads the driver that was kept from loading by itself.
REST, LOOK, PIN, SWITCH, RESTORE, LOAD, REBOOT = "rest", "look", "pin", "switch", "restore", "load", "reboot"
#: Those that write a state into the record.
TRY, PROVE, UNDO, RECOVERED = "try", "prove", "undo", "recovered"
#: A pair whose trial a power cut ended is booted again so often, before it counts as one that does not come up.
MOST_TRIES = 2
#: So often is a host restarted to get back to the old pair.
MOST_RESTARTS = 2
#: So often is it attempted to put the old driver's packages back.
MOST_RESTORES = 2


class Host(NamedTuple):
    """What the host says: `default` and `once` are the kernels that the boot loader's default entry and its entry for
    one boot lead to (None: it is not known); `verdict` is what is wrong with the pair that runs, "" for nothing,
    None as long as nobody has looked; `in_place` whether the old pair's driver is what is installed; `blocked` whether
    the driver is kept from loading by itself.
    """

    running: str
    boot: str
    default: Optional[str]
    once: Optional[str]
    in_place: bool
    blocked: bool
    verdict: Optional[str] = None


class Step(NamedTuple):
    """What to do next, and why."""

    name: str
    why: str = ""


def same_kernel(record: Json) -> bool:
    """Return whether only the driver changes, so that no entry of the boot loader tells the pairs apart."""
    return bool(record["old"]["kernel"] == record["new"]["kernel"])


def step(record: Json, host: Host) -> Step:
    """Return the next step."""
    if record["state"] in UNDER_WAY:
        return under_way(record, host)
    return proved(record, host) if record["state"] == PROVED else undone(record, host)


def under_way(record: Json, host: Host) -> Step:
    """A pair that is neither proved nor undone."""
    if record["boot"] == host.boot:
        return judged(record, host) if record["state"] == TRYING else Step(REST)
    old, new = record["old"]["kernel"], record["new"]["kernel"]
    if host.running not in (old, new):
        return Step(UNDO, f"another kernel was started meanwhile, {host.running}")
    if record["state"] == PREPARED and host.running == old:
        # The update was cut off before it was to be booted; where nothing is broken it may go on.
        if not same_kernel(record) and host.default != old:
            return Step(PIN)
        if host.in_place:
            # Kept from loading for the sake of the new driver, which has not come.
            return Step(LOAD) if host.blocked else Step(REST)
        return Step(UNDO, "the installation was cut off, so that the host was left with neither driver whole")
    if host.running == new and (record["state"] != TRYING or tries_left(record)):
        return Step(TRY)
    return Step(UNDO, unseen(record, host))


def tries_left(record: Json) -> bool:
    """Return whether a trial that was cut off may begin again. With one kernel for both pairs nothing would lead away
    from a driver that ends the machine.
    """
    return not same_kernel(record) and int(record["tries"]) < MOST_TRIES


def unseen(record: Json, host: Host) -> str:
    """Why a pair that was booted, and could not be judged, is undone."""
    if record["state"] == TRYING:
        return "the host was restarted while the new pair was being judged: a panic, a hang, or the power"
    if host.once is not None:
        return f"the boot loader did not start kernel {host.once}, which it had to start once"
    return f"kernel {record['new']['kernel']} was started and did not come up: a panic, a hang, or the power"


def judged(record: Json, host: Host) -> Step:
    """A pair that runs for trial, in this boot."""
    if host.verdict is None:
        return Step(LOOK)
    if host.verdict:
        return Step(UNDO, host.verdict)
    # The default before the record: where the power goes in between, the new pair is judged once more.
    if not same_kernel(record) and host.default != record["new"]["kernel"]:
        return Step(SWITCH)
    return Step(PROVE)


def proved(record: Json, host: Host) -> Step:
    """A pair that is proved. What a person chose at the boot menu since is the person's."""
    if host.blocked:
        return Step(LOAD)
    return Step(REST)


def undone(record: Json, host: Host) -> Step:
    """A pair that is undone: what is still lacking until the old one runs."""
    old = record["old"]["kernel"]
    if record["recovered"] and not host.blocked:
        return Step(REST)
    if not same_kernel(record) and (host.default != old or host.once is not None):
        return Step(PIN)
    if host.running not in (old, record["new"]["kernel"]):
        return Step(REST)  # a person has chosen it
    if host.running != old:
        return restart(record, f"kernel {host.running} runs")
    if not host.in_place:
        return Step(RESTORE) if record["restores"] < MOST_RESTORES else Step(REST)
    if host.blocked:
        return Step(LOAD)
    if host.verdict is None:
        return Step(LOOK)
    # What was loaded before the packages came back may have to go by a restart.
    return restart(record, host.verdict) if host.verdict else Step(RECOVERED)


def restart(record: Json, why: str) -> Step:
    """Restart the host, unless that was to no avail."""
    return Step(REBOOT, why) if record["restarts"] < MOST_RESTARTS else Step(REST)


def told(record: Json) -> str:
    """Return what to tell of an update that was undone, in one sentence; "" of any other."""
    if record["state"] != UNDONE:
        return ""
    reason = str(record["reason"])
    end = "" if record["recovered"] else f"; the old pair is not back{failed(record)}"
    return f"The update to {named(record['new'])} was undone, and {named(record['old'])} is kept: {reason}{end}."


def failed(record: Json) -> str:
    """Why the old pair is not back, as the end of a sentence."""
    return f" ({record['failed']})" if record["failed"] else ""


def named(pair: Json) -> str:
    """A pair in a sentence."""
    return f"kernel {pair['kernel']} with driver {pair['version']}"


def refusal(record: Optional[Json], old: Json, new: Json) -> str:
    """Why this update must not begin by itself; "" where it may. One that was only cut off has not failed."""
    if record is None or not is_same(record, old, new) or record["state"] != UNDONE or not record["armed"]:
        return ""
    return f"{named(new)} was tried on this host and undone: {record['reason']}"


def is_same(record: Optional[Json], old: Json, new: Json) -> bool:
    """Return whether a record is of the step from this pair to that one."""
    if record is None:
        return False
    return all(
        record[which][key] == pair[key] for which, pair in (("old", old), ("new", new)) for key in ("kernel", "version")
    )


def fresh(old: Json, new: Json, boot: str) -> Json:
    """Return the record of an update that begins."""
    return {
        "schema": 1,
        "state": PREPARED,
        "boot": boot,
        "old": old,
        "new": new,
        "reason": "",
        "armed": False,
        "tries": 0,
        "restarts": 0,
        "restores": 0,
        "recovered": False,
        "failed": "",
    }


def armed(record: Json, boot: str) -> Json:
    """Return the record of an update whose next boot is the trial."""
    return {**record, "state": ARMED, "boot": boot, "armed": True}


def noted(record: Json, one: Step, boot: str) -> Json:
    """Return the record after a step has begun, or, of those that only write, is done."""
    if one.name == TRY:
        return {**record, "state": TRYING, "boot": boot, "armed": True, "tries": record["tries"] + 1}
    if one.name == PROVE:
        return {**record, "state": PROVED, "boot": boot}
    if one.name == UNDO:
        return {**record, "state": UNDONE, "boot": boot, "reason": one.why}
    if one.name == RECOVERED:
        return {**record, "recovered": True, "failed": ""}
    if one.name == REBOOT:
        return {**record, "restarts": record["restarts"] + 1, "failed": one.why}
    if one.name == RESTORE:
        return {**record, "restores": record["restores"] + 1}
    return record
