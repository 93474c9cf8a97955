"""A host's VirtualBox brought into place, or taken down; a run that was killed is finished by the next one.

The record state/virtualbox.json is written last and removed first. state/virtualbox.pending stands between the two: it
says what is under way, so that a next run, or a removal, knows what is its own doing.
Runs on the target: Python 3.6, standard library.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...errors import ArtifactError, EnvironmentProblem, RefusedError
from ...types import Json
from .. import download, files, store
from ..commands import CommandFailed, Run, run_command
from ..driver import added
from ..driver import key as module_key
from ..driver.apt import Apt
from ..driver.modules import MOK_MANAGER, asks_for_signature, enrolment_guide
from ..driver.packages import Change, installed_version, members_of, named
from ..driver.set import ExactSet, Machine
from ..driver.setup import last_lines
from ..edges import Edges
from ..probe.driver import CERTIFICATE, own_key
from ..probe.virtualbox import ORACLES, RECORD, virtualbox
from ..room import BUILD_BYTES, short_of_space
from ..work import Work
from . import judge, packages
from .users import Users

PENDING = "state/virtualbox.pending"
UNINSTALL = f"{ORACLES}/uninstall.sh"
#: Oracle's own settings, and the documented line by which its service leaves signatures to the kernel.
CONFIG, BYPASS = Path("/etc/vbox/vbox.cfg"), "VBOX_BYPASS_MODULES_SIGNATURE_CHECK=1"
RELOCK = "./run ansible-playbook playbooks/virtualbox.yml"
#: The three modules by name, as a pattern of the shell.
OURS = "vbox*"
_READ_S = 120.0


class Setup:
    """One host and the VirtualBox that its lock names.

    `asked`: root, virtualbox (the lock's part), gui, users, extension_pack (the licence was accepted), kept_only, and
    kernel, one that is to come.
    """

    def __init__(self, asked: Json, machine: Machine, work: Work, run: Run = run_command) -> None:
        """Keep what is asked and what was read; nothing is changed yet."""
        self.root = Path(asked["root"])
        self.held: Json = asked.get("virtualbox") or {}
        self.gui: bool = asked.get("gui", True)
        self.pack: bool = asked.get("extension_pack", False)
        self.kept_only: bool = asked.get("kept_only", False)
        self.machine, self.work, self.run = machine, work, run
        self.apt = Apt(self.root, machine.distribution, work, run)
        self.users = Users(asked.get("users") or [], run)

    # What is there

    def kernel(self) -> str:
        """The kernel that will boot, which must be known."""
        return self.machine.kernel()

    def key(self) -> str:
        """Return a digest that identifies this VirtualBox on this kernel."""
        return packages.digest(self.held, self.kernel())

    def state(self) -> Json:
        """VirtualBox as the kernel that will boot is going to find it."""
        return virtualbox(Edges("/", self.run), self.machine.boots, str(self.root))

    def owns_key(self) -> bool:
        """Return whether this machine needs a key of its own: DKMS builds the modules always."""
        return asks_for_signature(self.machine.secure_boot, None)

    def subject(self) -> str:
        """The name of this machine's own key, "" where none is needed."""
        return module_key.subject(self.run) if self.owns_key() else ""

    def differences(self) -> List[str]:
        """Return why the locked VirtualBox is not in place; nothing when it is. Reads only."""
        if (self.root / PENDING).exists():
            return ["an earlier run was interrupted"]
        state = self.state()
        record = state["record"]
        if record is None or record.get("plan") != self.key():
            found = ["it was not installed by this lock for this kernel"]
        else:
            rows = self.apt.installed()
            versions = {n: r["version"] for n, r in rows.items() if installed_version(rows, n) is not None}
            found = judge.altered(record, versions)
            if self.gui and self.held["source"] == "archive" and packages.GUI not in versions:
                found.append(f"{packages.GUI} is not installed")
        needs = judge.unready(state, self.held, self.machine.secure_boot, self.subject())
        found += [need.what for need in needs] if record is not None else []
        return found + self.users.lacking() + self.lacking_pack(state)

    def lacking_pack(self, state: Json) -> List[str]:
        """Why the extension pack is not in place, where it is wanted."""
        if not self.pack or state["program"] is None:
            return ["the extension pack is not installed"] if self.pack else []
        return [] if self.packs().get("version") == self.held["version"] else ["the extension pack is not installed"]

    def packs(self) -> Dict[str, str]:
        """Oracle's extension pack as VBoxManage lists it: name and version; nothing where there is none."""
        _, out, _ = self.run(["VBoxManage", "list", "extpacks"], _READ_S)
        found: Dict[str, str] = {}
        for line in out.splitlines():
            name, _, value = line.partition(":")
            if name.startswith("Pack no.") and "Extension Pack" in value:
                found = {"name": value.strip()}
            if found and name.strip() == "Version":
                return {**found, "version": packages.release_of(value)}
        return {}

    def hand_over(self) -> Dict[str, str]:
        """Return what is left to do before machines start, as sentences: `reboot_required`, `console_required`."""
        state, edges = self.state(), Edges("/", self.run)
        reason = judge.boot_needed(state, self.held, self.machine.running)
        if not reason or not self.owns_key() or own_key(edges)["enrolled"] is True:
            return {"reboot_required": reason, "console_required": ""}
        if module_key.is_pending(self.run):
            reason = f"the key waits to be confirmed at the console ({MOK_MANAGER})"
            return {"reboot_required": reason, "console_required": ""}
        return {"reboot_required": reason, "console_required": enrolment_guide(CERTIFICATE, "VirtualBox modules")}

    # Bringing it into place

    def present(self) -> Optional[ExactSet]:
        """Bring the locked VirtualBox into place; what apt was asked for, None where nothing was to be done."""
        if not self.differences():
            return None
        self.step("checking that it can be installed")
        found = self.preflight()
        before = self.recorded()
        self.begin(found, before)
        try:
            self.step("installing exactly the locked packages")
            self.packages(found)
            if self.held["source"] == "runfile":
                self.step("installing Oracle's own file")
                self.runfile()
            self.step(f"building the modules for kernel {self.kernel()}")
            self.build()
        except EnvironmentProblem as error:
            if before.get("packages") or before.get("source") == "runfile":
                raise
            self.step("taking away what was installed of it")
            self.take_down(self.pending())
            raise EnvironmentProblem(
                f"{error.message}\nWhat was installed of it was taken away again.", error.next_step
            ) from error
        if self.owns_key():
            self.step("giving Secure Boot what it asks for")
            self.sign()
        if self.held["source"] == "runfile":
            self.keep_from_building()
        self.step("checking modules, program and signature for the kernel that will boot")
        self.ready()
        self.step("seeing to the users")
        content = {**self.pending(), **self.users.present(self.pending())}
        files.write_whole(self.root / PENDING, json.dumps(content) + "\n")
        if self.pack:
            self.step("installing the extension pack")
            self.install_pack()
        if self.machine.running == self.kernel():
            self.step("loading the modules")
            self.load()
        self.step("writing the record")
        self.record()
        return found

    def step(self, text: str) -> None:
        """Tell a step, and note it in the log, where what its commands say follows."""
        self.work.say(text)
        self.work.note(f"= {text}")

    def preflight(self) -> ExactSet:
        """Refuse what cannot end well, before anything is changed; else what is to be done."""
        self.users.refuse_unknown()
        if self.pack and self.held["extension_pack"] is None:
            raise RefusedError(
                f"The lock has no extension pack of VirtualBox {self.held['version']}: its checksum is not known.",
                "Leave virtualbox_extension_pack_license_accepted out, or take a release that the catalog has it for.",
            )
        state, record = self.state(), self.recorded()
        theirs = [way for way in state["packagings"] if not self.is_ours(way, record)]
        if theirs:
            raise RefusedError(
                f"VirtualBox is there already, and not by gpuhost: {', '.join(theirs)}. Nothing was changed. (D56)",
                f"Remove it first, with no machine running: {self.removal(theirs)}. The machines of users stay.",
            )
        found = self.exact_set()
        lacking = self.apt.lacking(found.members)
        needs = [(str(self.root), sum(m["size"] for m in lacking)), ("/usr", sum(m["unpacked"] for m in lacking))]
        short = short_of_space([*needs, ("/var", BUILD_BYTES)])
        if short:
            raise EnvironmentProblem(f"There is too little space: {'; '.join(short)}.", "Make room, then run again.")
        return found

    def is_ours(self, way: str, record: Json) -> bool:
        """Return whether a packaging that is there is what a run of ours has installed, or was installing."""
        if way.startswith("Oracle's"):
            return record.get("source") == "runfile"
        return way.split(" ")[0] in {*record.get("packages", {}), *record.get("coming", ())}

    def removal(self, ways: List[str]) -> str:
        """The command that removes packagings of others."""
        names = [way.split(" ")[0] for way in ways if not way.startswith("Oracle's")]
        return f"apt-get purge {' '.join(map(shlex.quote, names))}" if names else UNINSTALL

    def exact_set(self) -> ExactSet:
        """The .debs that make up the set, and what apt would do; from the archive, else from our cache (D05)."""
        words = packages.wanted_names(self.held, self.kernel(), self.gui)
        rows = self.apt.installed()
        kept = self.apt.whole_set(self.key())
        missing = [] if self.kept_only else self.apt.unoffered(words, rows)
        if missing:
            self.apt.update()
            missing = self.apt.unoffered(words, rows)
        back: Dict[str, Json] = {}
        if self.kept_only or missing:
            locked = {deb["name"]: deb for deb in self.held.get("packages", ())}
            absent = [name for name, _ in named(missing or words) if installed_version(rows, name) is None]
            can = all(name in locked and self.can_be_had(locked[name]) for name in absent)
            if kept is None and (not can or self.kept_only):
                there = f"VirtualBox {self.held['version']} for kernel {self.kernel()}"
                text = f"Of {there}, {', '.join(absent)} can be had nowhere."
                step = (
                    f"Copy {self.root}/cache/debs from a host that has it, or take what the archive has now: {RELOCK}"
                )
                raise RefusedError(f"{text} (D05) Nothing was changed.", step)
            if kept is not None:
                return self.from_files(kept, rows)
            back = {name: self.apt.bring_back(locked[name]) for name in absent}
        words = [str(self.apt.place(back[name])) if name in back else word for name, word in named(words)]
        install, remove = self.apt.simulate(words)
        pairs = {**self.already(rows), **{change.name: change.new for change in install}}
        shows = self.apt.show([pair for pair in sorted(pairs.items()) if pair[0] not in back])
        shows.update({(deb["name"], deb["version"]): deb for deb in back.values()})
        self.refuse(install, remove, shows, rows, self.machine.distribution)
        return ExactSet(members_of(pairs, shows), install, remove)

    def from_files(self, members: List[Json], rows: Dict[str, Json]) -> ExactSet:
        """Return the set whose files are all in our cache, with what apt would do given these files alone."""
        install, remove = self.apt.simulate([str(self.apt.place(m)) for m in members], alone=True)
        self.refuse(install, remove, {}, rows, "")
        return ExactSet(members, install, remove)

    def can_be_had(self, deb: Json) -> bool:
        """Return whether a .deb of the lock is in our cache, or at an address that the lock names."""
        return bool(deb["snapshot"]) or self.apt.cached(deb) is not None

    def already(self, rows: Dict[str, Json]) -> Dict[str, str]:
        """VirtualBox's own packages that are installed."""
        names = [name for name in rows if packages.ARCHIVE.match(name) and installed_version(rows, name)]
        return {name: rows[name]["version"] for name in names}

    def refuse(self, install: List[Change], remove: List[Change], shows: Any, rows: Dict[str, Json], own: str) -> None:
        """Refuse what apt would do, unless it is exactly the locked VirtualBox."""
        found = packages.refusals(install, remove, self.held, own)
        if found:
            raise RefusedError(
                f"Nothing was changed. {' '.join(found)}", "Look at apt-cache policy for these packages."
            )
        self.apt.refuse_held([*install, *remove], rows)
        wrong = packages.wrong_sums(shows, self.held)
        if wrong:
            raise ArtifactError(
                f"The archive's {'; '.join(wrong)}. Nothing was changed.", f"If the archive is right: {RELOCK}"
            )

    def begin(self, found: ExactSet, before: Json) -> None:
        """From here on the host is between two states: what is under way is noted, and the record goes."""
        kept: Json = {
            key: before[key]
            for key in ("packages", "source", "brought", "joined", "silenced", "group")
            if key in before
        }
        brought = {change.name for change in found.install if not change.old and change.name.startswith("virtualbox")}
        content: Json = {
            "schema": 1,
            **kept,
            "source": self.held["source"],
            "coming": [change.name for change in found.install],
            "brought": sorted({*before.get("brought", ()), *brought}),
            "group": before.get("group", self.users.group_is_there()),
        }
        files.write_whole(self.root / PENDING, json.dumps(content) + "\n")
        files.remove(self.root / RECORD)

    def pending(self) -> Json:
        """What is under way."""
        return store.read_json(self.root / PENDING) or {}

    def packages(self, found: ExactSet) -> None:
        """Install the exact set, each file from our cache."""
        self.apt.repair(self.apt.members(self.key()))
        others = [c.name for c in found.install if not c.old and not c.name.startswith("virtualbox")]
        added.note(self.root, others, self.apt.names_installed())
        keyed = [m for m in found.members if m["sha256"]]
        self.apt.write_manifest(self.key(), found.members)
        self.apt.fetch(keyed)
        if self.owns_key():
            module_key.make(self.machine.hostname, self.work)
            module_key.tell_dkms()
        lacking = self.apt.lacking(keyed)
        if lacking:
            self.apt.install(lacking, [c.name for c in found.remove], keyed)
        # Another packaging that was removed has taken the program away.
        whole = [m for m in keyed if m["name"] == packages.PACKAGES[0] and m not in lacking]
        if whole and self.state()["program"] != self.held["version"]:
            self.apt.unpack_again(whole)

    def runfile(self) -> None:
        """Install Oracle's file, which the role has fetched; `build` makes its modules."""
        if self.state()["program"] == self.held["version"]:
            return
        file = download.place(self.root / "cache" / "artifacts", self.held["file"])
        self.work.say(f"installing Oracle's VirtualBox {self.held['version']}")
        try:
            # Its own words: `force` spares it a question, and with `no_module` it builds and starts nothing.
            self.work.run(["sh", str(file), "install", "force", "no_module"], own_tmp=True)
        except CommandFailed as error:
            # It ends with a failure where no module is loaded at its end, whatever it was asked.
            if self.state()["program"] == self.held["version"]:
                return
            step = f"Its log is /var/log/vbox-install.log on the host, ours is {self.work.log}."
            raise EnvironmentProblem(f"Oracle's installer failed:\n{error}\n", step) from error

    def build(self) -> None:
        """Have DKMS build what the kernel that will boot lacks; the packages build for a kernel that need not be it."""
        kernel, state = self.kernel(), self.state()
        wrong = [n for n, m in state["modules"].items() if m is None or m["release"] != self.held["version"]]
        if not wrong:
            return
        if self.held["source"] == "runfile" and not state["dkms"]:
            self.add_to_dkms()
        try:
            self.work.run(judge.building(self.state()["dkms"], kernel))
            self.work.run(["depmod", kernel])
        except CommandFailed as error:
            raise self.unbuilt(f"{error}") from error
        lacking = [n for n, m in self.state()["modules"].items() if m is None]
        if lacking:
            raise self.unbuilt(f"DKMS said nothing of why there is no {', '.join(lacking)}.")

    def unbuilt(self, said: str) -> EnvironmentProblem:
        """The failure of a build, with the end of DKMS' own log."""
        logs = sorted(Path("/var/lib/dkms").glob("v*box*/*/build/make.log"))
        told = last_lines(logs[-1]) if logs else said
        return EnvironmentProblem(
            f"The modules of VirtualBox {self.held['version']} could not be built for kernel {self.kernel()} (D52):\n"
            f"{told}\n",
            f"Take another release (virtualbox_version); the log is {self.work.log}.",
        )

    def add_to_dkms(self) -> None:
        """Give DKMS the sources that Oracle's installer has unpacked."""
        if Path(f"/usr/src/vboxhost-{self.held['version']}/dkms.conf").is_file():
            self.work.run(["dkms", "add", f"vboxhost/{self.held['version']}"])

    def keep_from_building(self) -> None:
        """Keep Oracle's service from building modules of its own at a boot: what it cannot verify it would replace."""
        text = CONFIG.read_text(encoding="utf-8") if CONFIG.is_file() else ""
        if BYPASS not in text.splitlines():
            files.write_whole(CONFIG, f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{BYPASS}\n")

    def sign(self) -> None:
        """Sign what was built here, with the key that the driver's modules are signed with."""
        module_key.make(self.machine.hostname, self.work)
        module_key.tell_dkms()
        module_key.sign(self.kernel(), self.work, self.run, OURS)

    def ready(self) -> None:
        """Fail unless the next boot will load the modules."""
        needs = judge.unready(self.state(), self.held, self.machine.secure_boot, self.subject())
        if needs:
            raise EnvironmentProblem(judge.told(needs), "Fix that; then the same command again.")

    def install_pack(self) -> None:
        """Install Oracle's extension pack, whose licence a person has accepted; the role has fetched it."""
        if self.packs().get("version") == self.held["version"]:
            return
        file = download.place(self.root / "cache" / "artifacts", self.held["extension_pack"])
        code, text, err = self.run(["tar", "-xOzf", str(file), "./ExtPack-license.txt"], _READ_S)
        if code != 0 or not text.strip():
            raise ArtifactError(
                f"The extension pack holds no licence: {' '.join(err.split())[:200]}", "Take another release."
            )
        with files.temporary() as folder:
            files.write_whole(folder / "licence", text)
            licence = files.sha256(folder / "licence")
        try:
            self.work.run(["VBoxManage", "extpack", "install", "--replace", f"--accept-license={licence}", str(file)])
        except CommandFailed as error:
            raise EnvironmentProblem(
                f"The extension pack could not be installed:\n{error}\n", f"The log is {self.work.log}."
            ) from error

    def load(self) -> None:
        """Load the modules, unless that waits for a person or a reboot (`hand_over`)."""
        if self.state()["loaded"] is not None:
            return
        code, out, err = self.run(["modprobe", "-a", *packages.MODULES], _READ_S)
        if code != 0 and not self.hand_over()["console_required"]:
            said = " ".join((err or out).split())
            raise EnvironmentProblem(f"The modules do not load: {said}", "Look at: dmesg | grep vbox")

    def record(self) -> None:
        """Write down what is installed, last of all."""
        pending = self.pending()
        members = self.apt.members(self.key())
        content = {
            "schema": 1,
            "source": self.held["source"],
            "version": self.held["version"],
            "kernel": self.kernel(),
            "packages": {m["name"]: m["version"] for m in members if m["name"].startswith("virtualbox")},
            "debs": {m["name"]: m["sha256"] for m in members if m["sha256"]},
            "brought": pending.get("brought", []),
            "joined": pending.get("joined", []),
            "silenced": pending.get("silenced", []),
            "group": pending.get("group", True),
            "extension_pack": self.pack,
            "plan": self.key(),
        }
        files.write_whole(self.root / RECORD, json.dumps(content, indent=1, sort_keys=True) + "\n")
        files.remove(self.root / PENDING)

    # Taking it down

    def recorded(self) -> Json:
        """The record of a VirtualBox that is installed, or that a killed run was installing or taking down."""
        return store.read_json(self.root / RECORD) or self.pending()

    def removable(self) -> List[str]:
        """Return what there is to take down."""
        record = self.recorded()
        if not record:
            return []
        listed = [f"VirtualBox {record['version']} ({record['source']})"] if "version" in record else []
        listed += sorted(record.get("packages", {}))
        listed += [f"{user} in the group vboxusers" for user in record.get("joined", ())]
        return listed + [str(path) for path in (self.root / RECORD, self.root / PENDING) if path.exists()]

    def remove(self) -> None:
        """Take down what the record names; the machines of users stay."""
        record = self.recorded()
        self.refuse_running()
        files.write_whole(self.root / PENDING, json.dumps(record) + "\n")
        files.remove(self.root / RECORD)
        self.take_down(record)

    def refuse_running(self) -> None:
        """Refuse while machines run: taking the module from under them loses what they hold."""
        code, out, _ = self.run(["pgrep", "-l", "^(VirtualBoxVM|VBoxHeadless|VBoxSVC)"], _READ_S)
        running = [line for line in out.splitlines() if "VBoxSVC" not in line]
        if code == 0 and running:
            raise RefusedError(
                f"Machines are running: {', '.join(running[:3])}. Nothing was changed.", "Shut them down first."
            )

    def take_down(self, record: Json) -> None:
        """Give the users back, then purge exactly what was brought."""
        self.users.give_back(record)
        if record.get("extension_pack") and self.packs():
            self.work.run(["VBoxManage", "extpack", "uninstall", self.packs()["name"]])
        if record.get("source") == "runfile" and Path(UNINSTALL).exists():
            for line in self.state()["dkms"]:
                if line.startswith("vboxhost"):
                    name, version = re.split(r"[/,] ?", line)[:2]
                    self.work.run(["dkms", "remove", f"{name}/{version.split(',')[0].split(':')[0]}", "--all"])
                    break
            self.work.run([UNINSTALL])
        names = [*record.get("packages", {}), *record.get("brought", ())]
        self.run(
            ["modprobe", "-r", "vboxnetadp", "vboxnetflt", "vboxdrv"], _READ_S
        )  # what is in use stays until a boot
        self.apt.purge(list(dict.fromkeys(names)))
        self.users.drop_group(record)
        files.remove(self.root / RECORD)
        files.remove(self.root / PENDING)
