"""The phases of a driver's installation on a host, each of which may be the first after a run that was killed.

The record state/driver.json is written last and removed first; state/driver.pending stands as long as a run is between
the two, so that a next one knows that a half-configured dpkg is its own doing.
Runs on the target: Python 3.6, standard library.
"""

import json
from pathlib import Path
from typing import Any, Dict, List

from ...errors import EnvironmentProblem
from .. import files, store
from ..commands import CommandFailed as WorkFailed
from ..edges import Edges
from ..parse.nvidia import parse_module_version
from ..probe.driver import CERTIFICATE, RECORD
from ..probe.driver import driver as read_driver
from . import added, packages
from . import key as module_key
from .modules import MOK_MANAGER, NOUVEAU_FILE, NOUVEAU_TEXT, boot_needed, enrolment_guide, owns_key, told, unready
from .packages import installed_version
from .set import DriverSet

Json = Dict[str, Any]

PENDING = "state/driver.pending"
UNINSTALL = "/usr/bin/nvidia-uninstall"
INSTALLER_LOG = "/var/log/nvidia-installer.log"


class Setup(DriverSet):
    """The phases for one host; DriverSet says what they are given."""

    # What is there

    def state(self) -> Json:
        """The driver as the kernel that will boot is going to find it."""
        return read_driver(Edges("/", self.run), self.boots, str(self.root))

    def differences(self) -> List[str]:
        """Why the locked driver is not in place; empty when nothing has to be done. Reads only."""
        if (self.root / PENDING).exists():
            return ["an earlier run was interrupted"]
        state = self.state()
        record = state["record"]
        if record is None or record.get("plan") != self.key():
            return ["it was not installed by this lock for this kernel"]
        rows = self.apt.installed()
        gone = [n for n, v in record["packages"].items() if installed_version(rows, n) != v]
        found = [f"{name} is not installed at {record['packages'][name]}" for name in sorted(gone)]
        return found + [need.what for need in self.needs(state)]

    def needs(self, state: Json) -> List[Any]:
        """What the next boot would lack."""
        subject = module_key.subject(self.run) if owns_key(self.driver, self.secure_boot) else ""
        return unready(state, self.driver, self.secure_boot, subject)

    # What changes the host

    def begin(self) -> None:
        """From here on the host is between two states: the record goes, the marker comes."""
        files.write_whole(self.root / PENDING, json.dumps({"schema": 1, "plan": self.key()}) + "\n")
        files.remove(self.root / RECORD)

    def nouveau(self) -> bool:
        """Keep nouveau from loading, by a file of our own; was anything done?"""
        path = Path(NOUVEAU_FILE)
        if path.is_file() and path.read_text(encoding="utf-8") == NOUVEAU_TEXT:
            return False
        files.write_whole(path, NOUVEAU_TEXT)
        return True

    def packages(self) -> bool:
        """Install the exact set (the driver's, or what a `.run` needs to build); was anything done?"""
        interrupted = (self.root / PENDING).exists()
        if interrupted:
            self.apt.mend(self.apt.members(self.key()))
        members, install, remove = self.exact_set()
        self.begin()
        added.note(self.root, [change.name for change in install if not change.old], self.apt.names_installed())
        done = False
        if self.driver["source"] == "archive" and Path(UNINSTALL).exists():
            done = self.uninstall_runfile()
        keyed = [m for m in members if m["sha256"]]
        self.apt.write_manifest(self.key(), members)
        self.apt.fetch(keyed)
        if owns_key(self.driver, self.secure_boot):
            done = module_key.make(self.hostname, self.work) or done
        lacking = self.apt.lacking(keyed)
        if lacking or remove or interrupted:
            self.apt.install(lacking, [c.name for c in remove], interrupted)
            done = True
        return done

    def prefetch(self) -> bool:
        """Bring the set of a driver that is to come into the cache, and change nothing else; was anything done?"""
        members, _, _ = self.exact_set()
        keyed = [m for m in members if m["sha256"]]
        absent = [m for m in keyed if self.apt.cached(m) is None]
        self.apt.write_manifest(self.key(), members)
        self.apt.fetch(keyed)
        return bool(absent)

    def uninstall_runfile(self) -> bool:
        """Take down a driver that came as a `.run`; it was there."""
        self.work.say("removing the driver that came as a .run")
        try:
            self.work.run([UNINSTALL, "--silent"])
        except WorkFailed as error:
            step = f"Its log is /var/log/nvidia-uninstall.log; ours is {self.work.log}."
            raise EnvironmentProblem(f"{UNINSTALL} failed:\n{error}\n", step) from error
        return True

    def runfile(self, file: str) -> bool:
        """Install the driver of a `.run`, its module for the kernel that will boot; was anything done?"""
        state = self.state()
        if not self.needs_runfile(state):
            return False
        self.begin()
        if Path(UNINSTALL).exists():
            self.uninstall_runfile()
        self.work.say(f"installing NVIDIA's driver {self.driver['version']} and building its module")
        known = self.run(["sh", file, "--advanced-options"], 120.0)[1]
        try:
            self.work.run(["sh", file, *packages.runfile_options(self.driver, self.kernel(), known)], own_tmp=True)
        except WorkFailed as error:
            said = last_lines(Path(INSTALLER_LOG)) or str(error)
            step = f"The whole log is {INSTALLER_LOG} on the host, ours is {self.work.log}."
            raise EnvironmentProblem(f"NVIDIA's installer failed:\n{said}\n", step) from error
        return True

    def needs_runfile(self, state: Json) -> bool:
        """Is the `.run`'s driver not in place, apart from what Secure Boot and nouveau ask?"""
        module = state["module"]
        is_open = self.driver["kernel_modules"] == "open"
        return (
            state["library"] != self.driver["version"]
            or module is None
            or (module["version"], module["open"]) != (self.driver["version"], is_open)
        )

    def sign(self) -> bool:
        """Sign what was built here, where Secure Boot asks for it; was anything done?"""
        if not owns_key(self.driver, self.secure_boot):
            return False
        made = module_key.make(self.hostname, self.work)
        told_dkms = module_key.tell_dkms()
        signed = module_key.sign(self.kernel(), self.work, self.run)
        return made or told_dkms or signed

    def ready(self) -> bool:
        """Bring module list and initramfs up to date, then fail unless the next boot will load the driver."""
        kernel, done = self.kernel(), False
        image, conf = Path(f"/boot/initrd.img-{kernel}"), Path(NOUVEAU_FILE)
        state = self.state()
        older = image.exists() and conf.exists() and image.stat().st_mtime < conf.stat().st_mtime
        if older or state["nouveau"]["in_initramfs"]:
            self.work.say("rebuilding the initramfs without nouveau")
            try:
                self.work.run(["update-initramfs", "-u", "-k", kernel])
            except WorkFailed as error:
                text = f"The initramfs of kernel {kernel} could not be rebuilt (D10):\n{error}\n"
                raise EnvironmentProblem(text, f"Mend it, then: update-initramfs -u -k {kernel}") from error
            state, done = self.state(), True
        needs = self.needs(state)
        if needs:
            raise EnvironmentProblem(told(needs), "Do not reboot before that; then the same command again.")
        return done

    def record(self) -> None:
        """Write down what is installed, last of all."""
        members = self.apt.members(self.key())
        lacking = [m["name"] for m in self.apt.lacking(members)]
        if lacking:
            raise EnvironmentProblem(f"{', '.join(lacking)} is not installed after all.", "Run the same command again.")
        content = {
            "schema": 1,
            "source": self.driver["source"],
            "version": self.driver["version"],
            "branch": self.driver["branch"],
            "kernel": self.kernel(),
            "modules_from": self.driver["modules_from"],
            "packages": {m["name"]: m["version"] for m in members},
            "debs": {m["name"]: m["sha256"] for m in members if m["sha256"]},
            "plan": self.key(),
        }
        files.write_whole(self.root / RECORD, json.dumps(content, indent=1, sort_keys=True) + "\n")
        files.remove(self.root / PENDING)

    # After it

    def boot(self) -> Json:
        """Does the host have to be rebooted, and what is left to do for its own key?

        `reason` is why a reboot is needed. `enrolment` is what a person has to do, "" where the firmware knows the key
        or none is needed; `pending` says that the key's enrolment is asked for and waits for the next boot.
        """
        edges = Edges("/", self.run)
        version = edges.text("/proc/driver/nvidia/version")
        state = self.state()
        loaded = parse_module_version(version) if version is not None else None
        wanted = owns_key(self.driver, self.secure_boot) and state["key"]["enrolled"] is not True
        pending = wanted and module_key.is_pending(self.run)
        reason = boot_needed(loaded, state["nouveau"]["loaded"], self.driver)
        if pending:
            reason = f"the key waits to be confirmed at the console ({MOK_MANAGER})"
        return {
            "reason": reason,
            "pending": pending,
            "enrolment": enrolment_guide(CERTIFICATE) if wanted else "",
        }

    def removable(self) -> bool:
        """Is there anything of this driver to take down?"""
        return any(path.exists() for path in (self.root / RECORD, self.root / PENDING, Path(NOUVEAU_FILE)))

    def remove(self) -> bool:
        """Take down what the record names, and our own files; nothing else. Was anything done?"""
        if not self.removable():
            return False
        record = store.read_json(self.root / RECORD) or store.read_json(self.root / PENDING)
        conf = Path(NOUVEAU_FILE)
        files.write_whole(self.root / PENDING, json.dumps(record or {"schema": 1}) + "\n")
        files.remove(self.root / RECORD)
        if record and record.get("source") == "runfile" and Path(UNINSTALL).exists():
            self.uninstall_runfile()
        self.apt.purge(list((record or {}).get("packages", {})))
        files.remove(conf)
        kernel = (record or {}).get("kernel") or self.boots
        if kernel and Path(f"/boot/initrd.img-{kernel}").exists():
            self.work.run(["update-initramfs", "-u", "-k", kernel])
        files.remove(self.root / PENDING)
        return True


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, "" where there is none."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
    except OSError:
        return ""
