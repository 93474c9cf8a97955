"""A host's driver brought into place, kept for later, or taken down; a run that was killed is finished by the next one.

The record state/driver.json is written last and removed first; state/driver.pending stands as long as a run is between
the two, so that a next one knows that a half-configured dpkg is its own doing.
Runs on the target: Python 3.6, standard library.
"""

import json
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from ...errors import EnvironmentProblem
from ...types import Json
from .. import download, files, store
from ..commands import CommandFailed, Run, run_command
from ..edges import Edges
from ..parse.nvidia import parse_module_version
from ..probe import desktop
from ..probe.driver import CERTIFICATE, RECORD, damaged, own_key
from ..probe.driver import driver as read_driver
from ..probe.gpu import loaded_modules
from ..work import Work
from . import added, judge, packages
from . import key as module_key
from .modules import MOK_MANAGER, NOUVEAU_FILE, NOUVEAU_TEXT, enrolment_guide, owns_key
from .packages import installed_version
from .set import DriverSet, ExactSet, Machine

PENDING = "state/driver.pending"
UNINSTALL = "/usr/bin/nvidia-uninstall"
TO_THE_CONSOLE = (
    "From a text console (Ctrl+Alt+F3) or over ssh, with all work saved: systemctl isolate multi-user.target , then "
    "the same command again. The way back: systemctl start display-manager , or the reboot that a new driver needs."
)
INSTALLER_LOG = "/var/log/nvidia-installer.log"


class Setup:
    """One host and the driver that its lock names; `set.DriverSet` says what is asked."""

    def __init__(self, asked: Json, machine: Machine, work: Work, run: Run = run_command) -> None:
        """Keep what is asked and what was read; nothing is changed yet."""
        self.set = DriverSet(asked, machine, work, run)
        self.machine, self.work, self.run = machine, work, run
        self.root, self.driver, self.apt = self.set.root, self.set.driver, self.set.apt

    # What is there

    def state(self) -> Json:
        """The driver as the kernel that will boot is going to find it."""
        return read_driver(Edges("/", self.run), self.machine.boots, str(self.root))

    def differences(self) -> List[str]:
        """Return why the locked driver is not in place; nothing when it is. Reads only."""
        if (self.root / PENDING).exists():
            return ["an earlier run was interrupted"]
        state, secure_boot = self.state(), self.machine.secure_boot
        there = self.there(state["record"] or {})
        return judge.lacking(self.driver, self.set.key(), there, state, secure_boot, self.subject())

    def there(self, record: Json) -> judge.Packages:
        """Return the packages that are wholly installed, as a record of the driver is judged by them."""
        rows = self.apt.installed()
        whole = {name for name in rows if installed_version(rows, name) is not None}
        there = {n: v for n, v in self.apt.guarded(record.get("kernel")).items() if n in whole}
        edges = Edges("/", self.run)
        found = damaged(edges, record, there)
        if edges.problems:
            raise EnvironmentProblem(f"dpkg --verify failed: {edges.problems[0]['error']}", "Look at: dpkg --audit")
        return judge.Packages(there, whole, found)

    def subject(self) -> str:
        """The name of this machine's own key, "" where none is needed."""
        return module_key.subject(self.run) if self.owns_key() else ""

    def owns_key(self) -> bool:
        """Return whether this machine needs a key of its own for the driver."""
        return owns_key(self.driver, self.machine.secure_boot)

    def hand_over(self) -> Dict[str, str]:
        """Return what is left to do before the locked driver is in use, as sentences, "" for nothing.

        `reboot_required` is why a reboot is needed. `console_required` is what a person has to do where the firmware
        does not know this machine's key; once its enrolment is asked for, that waits for the reboot.
        """
        edges = Edges("/", self.run)
        version = edges.text("/proc/driver/nvidia/version")
        loaded = parse_module_version(version) if version is not None else None
        has_nouveau, running = "nouveau" in loaded_modules(edges), self.machine.running
        reason = judge.boot_needed(loaded, has_nouveau, self.driver, running, self.set.kernel())
        if not self.owns_key() or own_key(edges)["enrolled"] is True:
            return {"reboot_required": reason, "console_required": ""}
        if module_key.is_pending(self.run):
            reason = f"the key waits to be confirmed at the console ({MOK_MANAGER})"
            return {"reboot_required": reason, "console_required": ""}
        return {"reboot_required": reason, "console_required": enrolment_guide(CERTIFICATE)}

    # Bringing it into place

    def present(self) -> Optional[ExactSet]:
        """Bring the locked driver into place; what apt was asked for, None where nothing was to be done.

        Each step may be the first one after a run that was killed.
        """
        if not self.differences():
            return None
        self.step("checking that it can be installed")
        found = self.preflight()
        self.step("keeping nouveau from loading")
        if nouveau_text() != NOUVEAU_TEXT:  # a newer file would have the initramfs made again
            files.write_whole(Path(NOUVEAU_FILE), NOUVEAU_TEXT)
        self.step("installing exactly the locked packages")
        self.packages(found)
        if self.driver["source"] == "runfile":
            self.step("installing NVIDIA's own driver file")
            self.runfile()
        if self.owns_key():
            self.step("giving Secure Boot what it asks for")
            self.sign()
        self.step("checking module, signature and initramfs for the kernel that will boot")
        self.ready()
        self.step("writing the record")
        self.record()
        return found

    def preflight(self) -> ExactSet:
        """Refuse what cannot end well, before anything is changed; else what is to be done."""
        state = self.state()
        is_file = self.driver["source"] == "runfile"
        if self.needs_runfile(state) if is_file else Path(UNINSTALL).exists():
            self.without_desktop("install" if is_file else "remove")
        return self.set.preflight()

    def without_desktop(self, what: str) -> None:
        """Refuse to run NVIDIA's own installer beside a desktop, or where it cannot be determined whether one runs."""
        edges = Edges("/", self.run)
        there = desktop.running(edges)
        if there:
            text = (
                f"A desktop is running: {', '.join(there[:3])}. NVIDIA's own file does not {what} a driver beside one."
            )
            raise EnvironmentProblem(f"{text} Nothing was changed.", TO_THE_CONSOLE)
        if edges.problems:
            told = "; ".join(f"{problem['what']}: {problem['error']}" for problem in edges.problems[:3])
            raise EnvironmentProblem(
                f"Whether a desktop is running could not be read ({told}). Nothing was changed.",
                "Fix that, then run the same command again.",
            )

    def step(self, text: str) -> None:
        """Tell a step, and note it in the log, where what its commands say follows."""
        self.work.say(text)
        self.work.note(f"= {text}")

    def begin(self) -> None:
        """From here on the host is between two states: the record goes, the marker comes."""
        files.write_whole(self.root / PENDING, json.dumps({"schema": 1, "plan": self.set.key()}) + "\n")
        files.remove(self.root / RECORD)

    def packages(self, found: ExactSet) -> None:
        """Install the exact set (the driver's, or what a `.run` needs to build)."""
        interrupted = (self.root / PENDING).exists()
        if interrupted:
            self.apt.repair(self.apt.members(self.set.key()))
            found = self.set.exact_set()
        self.begin()
        added.note(self.root, [change.name for change in found.install if not change.old], self.apt.names_installed())
        if self.driver["source"] == "archive" and Path(UNINSTALL).exists():
            self.uninstall_runfile()
        keyed = [m for m in found.members if m["sha256"]]
        self.apt.write_manifest(self.set.key(), found.members)
        self.apt.fetch(keyed)
        if self.owns_key():
            module_key.make(self.machine.hostname, self.work)
        lacking = self.apt.lacking(keyed)
        if lacking or found.remove or interrupted:
            try:
                self.apt.install(lacking, [c.name for c in found.remove], keyed)
            except EnvironmentProblem as error:
                # apt fails as well where something beside the set cannot be configured, such as the newer kernel whose
                # update was cut off by that. The way back does not end there.
                if not self.set.kept_only or self.apt.lacking(keyed):
                    raise
                self.work.note(f"left as it is, because all of this driver is installed: {error}")
        # To dpkg a package is installed as well when its files are gone. What was unpacked just now has them.
        hollow = [m for m in keyed if m not in lacking and self.apt.is_damaged(m["name"])]
        if hollow:
            self.apt.unpack_again(hollow)

    def absent_debs(self) -> Tuple[ExactSet, List[Json]]:
        """Return the set of a driver that is to come, and those of its .debs that are not in the cache."""
        found = self.set.exact_set()
        return found, [m for m in found.members if m["sha256"] and self.apt.cached(m) is None]

    def prefetch(self) -> List[Json]:
        """Bring the set of a driver that is to come into the cache, and change nothing else; the .debs that came."""
        found, absent = self.absent_debs()
        self.apt.write_manifest(self.set.key(), found.members)
        self.apt.fetch(absent)
        return absent

    def uninstall_runfile(self) -> None:
        """Take down a driver that came as a `.run`."""
        self.work.say("removing the driver that came as a .run")
        try:
            self.work.run([UNINSTALL, "--silent"])
        except CommandFailed as error:
            step = f"Its log is /var/log/nvidia-uninstall.log; ours is {self.work.log}."
            raise EnvironmentProblem(f"{UNINSTALL} failed:\n{error}\n", step) from error

    def runfile(self) -> None:
        """Install the driver of a `.run`, which the role has fetched, its module for the kernel that will boot."""
        if not self.needs_runfile(self.state()):
            return
        name = {"name": self.driver["url"].rpartition("/")[2], "sha256": self.driver["sha256"]}
        file = str(download.place(self.root / "cache" / "artifacts", name))
        if Path(UNINSTALL).exists():
            self.uninstall_runfile()
        self.work.say(f"installing NVIDIA's driver {self.driver['version']} and building its module")
        known = self.run(["sh", file, "--advanced-options"], 120.0)[1]
        options = packages.runfile_options(self.driver, self.set.kernel(), known)
        try:
            self.work.run(["sh", file, *options], own_tmp=True)
        except CommandFailed as error:
            said = last_lines(Path(INSTALLER_LOG)) or str(error)
            step = f"The whole log is {INSTALLER_LOG} on the host, ours is {self.work.log}."
            raise EnvironmentProblem(f"NVIDIA's installer failed:\n{said}\n", step) from error

    def needs_runfile(self, state: Json) -> bool:
        """Return whether the `.run`'s driver is not in place, apart from what Secure Boot and nouveau ask."""
        version, flavour = self.driver["version"], self.driver["kernel_modules"]
        return state["library"] != version or not judge.is_module(state["module"], version, flavour)

    def sign(self) -> None:
        """Sign what was built here."""
        module_key.make(self.machine.hostname, self.work)
        module_key.tell_dkms()
        module_key.sign(self.set.kernel(), self.work, self.run)

    def ready(self) -> None:
        """Bring the initramfs up to date, then fail unless the next boot will load the driver."""
        kernel = self.set.kernel()
        image, conf = Path(f"/boot/initrd.img-{kernel}"), Path(NOUVEAU_FILE)
        state = self.state()
        older = image.exists() and conf.exists() and image.stat().st_mtime < conf.stat().st_mtime
        if older or state["nouveau"]["in_initramfs"]:
            self.work.say("rebuilding the initramfs without nouveau")
            try:
                self.work.run(["update-initramfs", "-u", "-k", kernel])
            except CommandFailed as error:
                text = f"The initramfs of kernel {kernel} could not be rebuilt (D10):\n{error}\n"
                raise EnvironmentProblem(text, f"Fix it, then: update-initramfs -u -k {kernel}") from error
            state = self.state()
        needs = judge.unready(state, self.driver, self.machine.secure_boot, self.subject())
        if needs:
            raise EnvironmentProblem(judge.told(needs), "Do not reboot before that; then the same command again.")

    def record(self) -> None:
        """Write down what is installed, last of all."""
        members = self.apt.members(self.set.key())
        lacking = [m["name"] for m in self.apt.lacking(members)]
        if lacking:
            raise EnvironmentProblem(f"{', '.join(lacking)} is not installed after all.", "Run the same command again.")
        content = {
            "schema": 1,
            "source": self.driver["source"],
            "version": self.driver["version"],
            "branch": self.driver["branch"],
            "kernel": self.set.kernel(),
            "modules_from": self.driver["modules_from"],
            "packages": {m["name"]: m["version"] for m in members},
            "debs": {m["name"]: m["sha256"] for m in members if m["sha256"]},
            "plan": self.set.key(),
        }
        altered = judge.altered(content, self.there(content))
        if altered:
            text = f"The driver was installed, and is not as it should be: {'; '.join(altered)}."
            raise EnvironmentProblem(text, "Fix that, then run the same command again.")
        files.write_whole(self.root / RECORD, json.dumps(content, indent=1, sort_keys=True) + "\n")
        files.remove(self.root / PENDING)

    def enrol(self, password: str) -> None:
        """Ask the firmware to offer this machine's key at the next boot."""
        module_key.request_enrolment(password, self.work)

    # Taking it down

    def removable(self) -> List[str]:
        """Return what there is to take down: a driver with its packages, and our own files."""
        record = self.recorded()
        listed = [named(record)] if "version" in record else []
        listed += sorted(record.get("packages", {}))
        ours = [self.root / RECORD, self.root / PENDING, Path(NOUVEAU_FILE)]
        return listed + [str(path) for path in ours if path.exists()]

    def recorded(self) -> Json:
        """The record of a driver that is installed, or that a killed removal was taking down."""
        return store.read_json(self.root / RECORD) or store.read_json(self.root / PENDING) or {}

    def remove(self) -> None:
        """Take down what the record names, and our own files; nothing else."""
        record = self.recorded()
        if record.get("source") == "runfile" and Path(UNINSTALL).exists():
            self.without_desktop("remove")
        files.write_whole(self.root / PENDING, json.dumps(record or {"schema": 1}) + "\n")
        files.remove(self.root / RECORD)
        if record.get("source") == "runfile" and Path(UNINSTALL).exists():
            self.uninstall_runfile()
        self.apt.purge(list(record.get("packages", {})))
        files.remove(Path(NOUVEAU_FILE))
        kernel = record.get("kernel") or self.machine.boots
        if kernel and Path(f"/boot/initrd.img-{kernel}").exists():
            self.work.run(["update-initramfs", "-u", "-k", kernel])
        files.remove(self.root / PENDING)


def nouveau_text() -> str:
    """The file that keeps nouveau from loading, as it is; "" where there is none."""
    path = Path(NOUVEAU_FILE)
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def named(driver: Json) -> str:
    """A driver in a line of a list."""
    return f"the driver {driver['version']} ({driver['source']})"


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, "" where there is none."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
    except OSError:
        return ""
