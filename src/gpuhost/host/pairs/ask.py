"""What a controller asks of the host about an update that is to be proved, one function for each state of the module.

Runs on the target: Python 3.6, standard library.
"""

from pathlib import Path
from typing import Any, List, Optional

from ...errors import EnvironmentProblem, RefusedError
from ...types import Json
from .. import files, store
from ..driver.packages import digest
from ..driver.set import booting, this_machine
from ..driver.setup import Setup
from ..edges import Edges
from ..probe import fixes
from ..probe import store as probe_store
from ..units import is_there
from ..work import Work
from . import begin, install, judge, loader, look, quiet, restart
from .run import Machine, settle

#: The minutes of update_window that must be left as it begins, as the host is about to be restarted, and as it is.
PREPARED_BY, ARMED_BY, RESTARTED_BY = 30, 10, 2
LATER = "Run the same command within update_window, while nobody uses the card."
AGAIN = "Fix that, then run the same command again."


class Asked:
    """One call: `root`, `name` (the program's folder in the store), `driver` and `kernel` of the new pair, `again`."""

    def __init__(self, params: Json, edges: Edges, check: bool) -> None:
        """Keep what is asked."""
        self.params, self.edges, self.check = params, edges, check
        self.root: str = params["root"]
        self.machine = Machine(edges, self.root, lambda _: None)

    def new(self) -> Json:
        """The new pair, as a record has it; `set` names the .debs that bring it, in the cache."""
        release, driver = self.params["kernel"]["release"], self.params["driver"]
        return {"kernel": release, "version": label(driver), "set": digest(driver, release)}

    def prepared(self) -> Json:
        """Name the pair that runs, make its kernel the default, and have the new one judged at the boot that tries it.

        Nothing is changed on a host that could not come back by itself.
        """
        new, before = self.new(), self.machine.record()
        under_way = before is not None and before["state"] in judge.UNDER_WAY
        done = before is not None and before["state"] == judge.PROVED and before["new"] == new
        old = before["old"] if before is not None and (under_way or done) else self.in_force()
        if old["kernel"] == new["kernel"] and old["version"] == new["version"]:
            return {"changed": False, "told": "Neither kernel nor driver changes.", "state": ""}
        refused = judge.refusal(before, old, new)
        if refused and not self.params["again"]:
            raise RefusedError(f"{refused}. Nothing was changed.", begin.AGAIN)
        one = self.able(old, new)
        why = "" if done else self.unquiet(PREPARED_BY)
        if why:
            raise EnvironmentProblem(f"Nothing is updated now: {why}. Nothing was changed.", LATER)
        if not under_way and not done:
            self.refuse_unfit(old, new)
        if self.check:
            return {
                "changed": before is None or not judge.is_same(before, old, new),
                "told": plan(old, new),
                "state": "",
            }
        put = install.present(self.edges, self.root, self.params["name"], False)
        with store.changing(Path(self.root), "preparing an update that is proved"):
            if old["kernel"] != new["kernel"]:
                one.set_up(old["kernel"])
            record = begin.prepare(self.machine, old, new, self.params["again"])
        told = f"{plan(record['old'], record['new'])} {install.hang(self.edges)}"
        return {"changed": put.changed or record != before, "told": told, "state": record["state"]}

    def in_force(self) -> Json:
        """The pair that runs: the kernel, and the driver of the lock in force."""
        number = probe_store.in_force(self.edges, self.root)
        stack = probe_store.stack(self.edges, self.root, number) if number is not None else None
        driver = ((stack or {}).get("plan") or {}).get("driver")
        machine = this_machine(self.edges.run)
        if not driver:
            raise RefusedError(
                "No stack with a driver is in force on this host.", "Run ./run ansible-playbook site.yml"
            )
        if machine.boots != machine.running:
            text = f"Kernel {machine.running} runs and {machine.boots or 'an unknown one'} would boot next."
            raise EnvironmentProblem(text, "Reboot this host, then run the same command again.")
        return {"kernel": machine.running, "version": label(driver), "driver": driver}

    def able(self, old: Json, new: Json) -> Any:
        """The boot loader, which must be able to start an entry once, where an entry tells the pairs apart."""
        found = loader.loader(self.edges)
        if old["kernel"] == new["kernel"]:
            return found
        if found is None:
            raise RefusedError("Neither GRUB nor systemd-boot was found. Nothing was changed.", loader.LEFT)
        why = found.refusal()
        if why:
            raise RefusedError(f"No kernel can be booted once here: {why}. Nothing was changed.", loader.LEFT)
        return found

    def refuse_unfit(self, old: Json, new: Json) -> None:
        """Refuse a host whose present pair is not right, or could not be brought back."""
        wrong = look.verdict(self.edges, self.root, 0.0)
        if wrong:
            raise EnvironmentProblem(f"The pair that runs is not right itself: {wrong}. Nothing was changed.", AGAIN)
        if old["version"] != new["version"]:
            lacking = self.lacking(old)
            if lacking:
                text = f"Of the driver that is installed, {', '.join(lacking[:4])} is not kept on this host."
                step = f"Run ./run ansible-playbook site.yml --tags prefetch, or copy {self.root}/cache/debs."
                raise RefusedError(f"{text} (D05) Nothing was changed.", step)

    def lacking(self, old: Json) -> List[str]:
        """What of the old driver's packages could not be put back."""
        kept = self.machine.setup({"old": old})
        members = kept.apt.members(kept.set.key())
        if not members:
            return [f"which packages make up {old['version']}"]
        return [one["name"] for one in members if one["sha256"] and kept.apt.cached(one) is None]

    def armed(self) -> Json:
        """Let the next boot be the trial, once everything that it needs is there."""
        record = self.machine.record()
        if record is None or record["new"] != self.new():
            raise EnvironmentProblem("This update was not prepared.", AGAIN)
        if record["state"] != judge.PREPARED:
            return {"changed": False, "told": "", "state": record["state"]}
        machine = booting(this_machine(self.edges.run), self.params["kernel"])
        work = Work(Path(self.root) / "log/pair.log", lambda _: None)
        why = "" if self.check else self.unquiet(ARMED_BY)
        if why:
            self.give_up(record, why)
        wrong = Setup(self.params, machine, work, self.edges.run).differences() + self.missing(record)
        if wrong:
            raise EnvironmentProblem(f"The new pair is not whole, so it is not booted: {'; '.join(wrong)}.", AGAIN)
        if not self.check:
            with store.changing(Path(self.root), "arming an update that is proved"):
                record = begin.arm(self.machine, record)
        told = f"The next boot tries {judge.named(record['new'])}; the one after it is {judge.named(record['old'])}."
        return {"changed": True, "told": told, "state": record["state"]}

    def restarting(self) -> Json:
        """Have a host that is its own controller restart into what is armed, and carry on after that."""
        record = self.machine.record()
        if record is None or record["state"] != judge.ARMED:
            return {"changed": False, "told": "", "state": record["state"] if record else ""}
        why = "" if self.check else self.unquiet(RESTARTED_BY)
        if why:
            self.give_up(record, why)
        told = "" if self.check else restart.announce(self.edges, self.root)
        return {"changed": True, "told": told, "state": record["state"]}

    def unquiet(self, minutes: int) -> str:
        """Why the host must not be restarted within the next minutes; "" where it may, or nobody has said when."""
        if not self.params["window"]:
            return ""
        return quiet.outside(self.params["window"], minutes) or "; ".join(quiet.busy(self.edges, self.root))

    def give_up(self, record: Json, why: str) -> None:
        """Go back to the old pair without having tried the new one, because the host must not be restarted now."""
        record = judge.noted(record, judge.Step(judge.UNDO, why), self.machine.boot())
        # It was not tried: the next night may.
        self.machine.save({**record, "armed": False})
        settle(self.machine)
        raise EnvironmentProblem(f"The new pair is installed and was not tried: {why}. It was taken back.", LATER)

    def missing(self, record: Json) -> List[str]:
        """What the boot of the new kernel lacks, beside the driver."""
        old, new = record["old"]["kernel"], record["new"]["kernel"]
        image, initramfs = f"/boot/vmlinuz-{new}", f"/boot/initrd.img-{new}"
        told = [] if self.size(image) else [f"{image} is not there"]
        if self.size(f"/boot/initrd.img-{old}") and not self.size(initramfs):
            told.append(f"{initramfs} is not there")
        return told

    def size(self, name: str) -> int:
        """How large a file is; 0 where it is not there."""
        path = self.edges.path(name)
        return path.stat().st_size if path.is_file() else 0

    def settled(self) -> Json:
        """Tell how far it is; read only."""
        record = self.machine.record()
        if record is None:
            return {"changed": False, "told": "", "state": ""}
        return {"changed": False, "told": judge.told(record), "state": record["state"]}

    def automatic(self) -> Json:
        """Note that a timer updates this host, which `kernel.fixes` judges by."""
        quiet.window(self.params["window"])
        return self.note({"schema": fixes.SCHEMA, "window": self.params["window"]})

    def manual(self) -> Json:
        """Note that a person updates this host."""
        return self.note(None)

    def note(self, wanted: Optional[Json]) -> Json:
        """Have this record; None: have none."""
        name = f"{self.root}/{fixes.AUTOMATIC}"
        changed = self.edges.record(name) != wanted if wanted is not None else is_there(self.edges, name)
        if changed and not self.check:
            with store.changing(Path(self.root), "noting how this host is updated"):
                if wanted is None:
                    files.remove(self.edges.path(name))
                else:
                    store.write_record(self.edges.path(name), wanted)
        return {"changed": changed, "told": "", "state": ""}

    def absent(self) -> Json:
        """Have nothing of it."""
        done = install.absent(self.edges, self.root, self.check)
        return {"changed": done.changed, "told": done.told, "diff": done.diff, "state": ""}


def label(driver: Json) -> str:
    """What tells a driver from another in a record: the package's version where there is one."""
    return str(driver.get("package_version") or driver["version"])


def plan(old: Json, new: Json) -> str:
    """What is going to be done, in a sentence."""
    return f"{judge.named(new)} is booted once and judged; {judge.named(old)} stays the default until then."
