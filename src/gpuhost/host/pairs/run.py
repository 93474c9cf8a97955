"""The program that runs at each boot while an update is to be proved: look, keep it, or go back.

It needs no network and no controller. Runs on the target: Python 3.6, standard library.
"""

import argparse
import sys
from pathlib import Path
from typing import Callable, List, Optional

from ...errors import EnvironmentProblem, GpuhostError
from ...types import Json
from .. import store
from ..commands import run_command
from ..driver.packages import is_family
from ..driver.set import this_machine
from ..driver.setup import PENDING, Setup
from ..edges import Edges
from ..guard import hold
from ..probe.machine import read_kernel
from ..work import Work
from . import blocking, judge, keep, loader, look
from .install import UNDONE, UNKNOWN

_TIMEOUT_S = 120.0
#: More steps than any way through has.
_MOST = 40
_LOG = "log/pair.log"


class Machine:
    """The host's own side of each step. Each may be done again."""

    def __init__(self, edges: Edges, root: str, say: Callable[[str], None]) -> None:
        """Nothing is read yet; `say` is called with each step."""
        self.edges, self.root, self.say = edges, root, say
        self.verdict: Optional[str] = None

    def record(self) -> Optional[Json]:
        """The record as it is now."""
        return keep.read(self.edges, self.root)

    def save(self, record: Json) -> None:
        """Write the record."""
        keep.write(self.edges, self.root, record)

    def boot(self) -> str:
        """What tells this boot from others."""
        return keep.boot(self.edges)

    def host(self, record: Json) -> judge.Host:
        """What the host says now; whether the old driver is in place only where that matters."""
        found = loader.loader(self.edges)
        chosen = found.chosen() if found else loader.Choice(None, None)
        return judge.Host(
            running=str(read_kernel(self.edges)["running"]),
            boot=self.boot(),
            default=chosen.default,
            once=chosen.once,
            in_place=not counts(record) or not self.setup(record).differences(),
            blocked=blocking.is_blocked(self.edges),
            verdict=self.verdict,
        )

    def setup(self, record: Json) -> Setup:
        """The old driver, from what is kept on this host, for the old kernel."""
        old = record["old"]
        if not isinstance(old.get("driver"), dict):
            raise EnvironmentProblem(f"{self.root}/{keep.RECORD} does not name the old driver.", "Run site.yml.")
        asked = {"root": self.root, "driver": old["driver"], "kept_only": True}
        machine = this_machine(self.edges.run)._replace(boots=old["kernel"])
        return Setup(asked, machine, Work(Path(self.root) / _LOG, self.say, 600.0), self.edges.run)

    def look(self, record: Json) -> None:
        """Judge the pair that runs."""
        if blocking.is_blocked(self.edges):
            said = blocking.load(self.edges)
            self.say(f"modprobe nvidia: {said}" if said else "the driver is loaded")
        self.verdict = look.verdict(self.edges, self.root)

    def choose(self, kernel: str, once: Optional[str] = None) -> None:
        """Make a kernel the default, and `once`, or no other, the next."""
        found = loader.loader(self.edges)
        if found is None:
            raise EnvironmentProblem(
                "No boot loader was found whose choice of a kernel can be set.", "Start the old one."
            )
        found.choose(kernel, once)

    def pin(self, record: Json) -> None:
        """Let the old kernel be what boots."""
        self.choose(record["old"]["kernel"])

    def arm(self, record: Json) -> None:
        """Let the new kernel be what boots next, and the old one after it."""
        self.choose(record["old"]["kernel"], record["new"]["kernel"])

    def block(self) -> None:
        """Keep the driver from loading by itself."""
        blocking.block(self.edges)

    def switch(self, record: Json) -> None:
        """Let the new kernel be what boots."""
        self.choose(record["new"]["kernel"])

    def restore(self, record: Json) -> None:
        """Put the old driver's packages back, from the files that are kept here, and hold them."""
        old = self.setup(record)
        with store.changing(Path(self.root), "going back to the old driver", self.say):
            if (old.root / PENDING).exists():
                # What was being unpacked as the power went is of the new set: apt would look for it in the archive.
                kept = {member["name"] for member in old.apt.members(old.set.key())}
                came = old.apt.members(str(record["new"].get("set")))
                # The new kernel stays, and must be complete for that.
                old.apt.complete([m for m in came if m["name"] not in kept and not is_family(m["name"])])
                old.apt.repair(came)
            old.present()
        hold.hold(self.edges, self.root, 600.0, False)

    def load(self, record: Json) -> None:
        """Let the driver load by itself again, and load it now."""
        blocking.unblock(self.edges)
        said = blocking.load(self.edges)
        if said:
            self.say(f"modprobe nvidia: {said}")

    def reboot(self) -> None:
        """Restart the machine."""
        code, out, err = self.edges.run(["systemctl", "reboot"], _TIMEOUT_S)
        if code != 0:
            self.edges.run(["systemctl", "--force", "reboot"], _TIMEOUT_S)
            self.say(f"systemctl reboot failed: {' '.join((err or out).split())[-300:]}")


def tell(text: str) -> None:
    """Say a step, for the journal."""
    sys.stdout.write(f"<6>gpuhost: {text}\n")
    sys.stdout.flush()


def settle(machine: Machine) -> Optional[Json]:
    """Take one step after the other until nothing is left to do in this boot; return the record."""
    record = machine.record()
    for _ in range(_MOST):
        if record is None:
            return None
        one = judge.step(record, machine.host(record))
        if one.name == judge.REST:
            return record
        machine.say(f"{one.name}{': ' + one.why if one.why else ''}")
        record = carried_out(machine, record, one)
        if one.name == judge.REBOOT:
            return record
    raise EnvironmentProblem("The steps of the update do not come to an end.", f"Look at {keep.RECORD} on the host.")


def carried_out(machine: Machine, record: Json, one: judge.Step) -> Json:
    """Take one step; return the record after it."""
    after = judge.noted(record, one, machine.boot())
    if after != record:
        machine.save(after)
    act = {
        judge.LOOK: machine.look,
        judge.PIN: machine.pin,
        judge.SWITCH: machine.switch,
        judge.LOAD: machine.load,
    }.get(one.name)
    if act is not None:
        act(after)
    if one.name in (judge.UNDO, judge.RESTORE, judge.LOAD):
        machine.verdict = None
    if one.name == judge.RESTORE:
        try:
            machine.restore(after)
        except (GpuhostError, OSError) as error:
            after = {**after, "failed": " ".join(str(error).split())[:1000]}
            machine.save(after)
            machine.say(f"the old driver could not be put back: {after['failed']}")
    if one.name == judge.REBOOT:
        machine.reboot()
    return after


def counts(record: Json) -> bool:
    """Return whether it makes a difference which driver is installed: reading that takes a while, and can fail."""
    return record["state"] in (judge.PREPARED, judge.UNDONE) and not record["recovered"]


def main(argv: List[str], edges: Optional[Edges] = None) -> int:
    """Settle what an update has left; return 0, UNDONE or UNKNOWN."""
    parser = argparse.ArgumentParser(prog="gpuhost-pair")
    parser.add_argument("--root", default="/opt/gpuhost")
    arguments = parser.parse_args(argv)
    edges = edges or Edges("/", run_command)
    try:
        record = settle(Machine(edges, arguments.root, tell))
    except (GpuhostError, OSError) as error:
        sys.stdout.write(f"<3>gpuhost: {' '.join(str(error).split())}\n")
        return UNKNOWN
    told = judge.told(record) if record else ""
    if told:
        sys.stdout.write(f"<3>gpuhost: {told}\n")
    return UNDONE if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
