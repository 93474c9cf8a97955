"""Which .debs make up a host's locked driver, and whether apt may go there: decided before anything is changed.

Runs on the target: Python 3.6, standard library.
"""

import shlex
import socket
from pathlib import Path
from typing import Any, Container, Dict, List, NamedTuple, Optional

from ...errors import ArtifactError, EnvironmentProblem, RefusedError
from ...types import Json
from ..commands import Run, run_command
from ..edges import Edges
from ..guard import rules
from ..probe.machine import read_kernel, read_platform, read_secure_boot
from ..room import BUILD_BYTES, boot_bytes, short_of_space
from ..work import Work
from . import packages
from .apt import Apt
from .modules import owns_key
from .offer import RELOCK, component_missing, no_longer_offered
from .packages import Change, installed_version, members_of, named

BOOT = "/boot"


class Machine(NamedTuple):
    """What a driver has to fit on a host: `boots` is the kernel that will boot, None where that is not known."""

    hostname: str
    boots: Optional[str]
    distribution: str
    secure_boot: str
    running: str

    def kernel(self) -> str:
        """The kernel that will boot, which must be known."""
        if not self.boots:
            text = "No kernel with an image in /boot was found, so it is not known which one will boot."
            raise EnvironmentProblem(
                text, "Install one, such as linux-image-generic or linux-image-amd64, and run again."
            )
        return self.boots


def this_machine(run: Run = run_command) -> Machine:
    """Read the host that this runs on."""
    edges = Edges("/", run)
    distribution, kernel = read_platform(edges)["distribution"], read_kernel(edges)
    return Machine(socket.gethostname(), kernel["boots"], distribution, read_secure_boot(edges), kernel["running"])


def booting(machine: Machine, kernel: Optional[Json]) -> Machine:
    """Return the machine as it boots once `kernel`, which is to come with the driver, is installed."""
    return machine if kernel is None else machine._replace(boots=str(kernel["release"]))


class ExactSet(NamedTuple):
    """The members of a set, and what apt would install and remove so that they are all installed."""

    members: List[Json]
    install: List[Change]
    remove: List[Change]


class DriverSet:
    """The .debs of the driver that a host's lock names.

    `asked`: root, driver (the plan's), kept_only, whether nothing may come from the archive, and kernel, one that is to
    come with the driver: its release, and the versions by name of its packages.
    """

    def __init__(self, asked: Json, machine: Machine, work: Work, run: Run = run_command) -> None:
        """Keep what is asked; nothing is read yet."""
        self.root = Path(asked["root"])
        self.driver: Json = asked["driver"]
        self.kept_only: bool = asked.get("kept_only", False)
        self.new_kernel: Dict[str, str] = (asked.get("kernel") or {}).get("packages", {})
        self.machine = machine
        self.apt = Apt(self.root, machine.distribution, work, run)

    def kernel(self) -> str:
        """The kernel that will boot, which must be known."""
        return self.machine.kernel()

    def key(self) -> str:
        """What tells this lock on this kernel from another."""
        return packages.digest(self.driver, self.kernel())

    def back_to(self, wanted: str, boots: str) -> str:
        """How the locked kernel boots again: by removing the newer one, where the locked one is still there.

        A kernel that runs is not removed: its package asks first, and advises against it.
        """
        if self.machine.running == boots:
            return RELOCK
        by_hand = f"Install linux-image-{wanted} and remove the newer kernel, or: {RELOCK}"
        if not Path(BOOT, f"vmlinuz-{wanted}").exists():
            return by_hand
        listed = self.apt.installed()
        theirs = [name for name in listed if rules.is_of_kernel(name, boots) and boots in name]
        newer = sorted(name for name in theirs if installed_version(listed, name) is not None)
        if not newer:
            return by_hand
        return f"On the host, as root:\napt-get purge {' '.join(map(shlex.quote, newer))}\nOr here:\n{RELOCK}"

    def preflight(self) -> ExactSet:
        """Refuse what cannot end well; else what is to be done."""
        kernel = self.kernel()
        modules = self.driver.get("modules")
        if self.driver["modules_from"] == "signed":
            if modules is None:
                raise RefusedError("The lock names no package of signed modules.", RELOCK)
            if modules["kernel"] != kernel:
                text = (
                    f"The lock's signed modules are for kernel {modules['kernel']}, this host will boot {kernel}. (D08)"
                )
                raise RefusedError(text, self.back_to(modules["kernel"], kernel))
        found = self.exact_set()
        self.check_space(found.members)
        return found

    def exact_set(self) -> ExactSet:
        """The .debs that make up the set, and what apt would do; from the archive, else from our cache, else from where
        the distribution keeps them permanently, else D05."""
        names = self.names()
        rows = self.apt.installed()
        others = [n + "-" for n in sorted(rows) if self.is_in_the_way(n, rows)]
        if self.kept_only:
            return self.from_files(self.kept_set(rows), others, rows)
        missing = self.apt.unoffered(names, rows)
        if missing:
            self.apt.update()
            missing = self.apt.unoffered(names, rows)
        back: Dict[str, Json] = {}
        if missing:
            kept = self.apt.whole_set(self.key())
            if kept is not None:
                return self.from_files(kept, others, rows)
            debs = self.kept_for_good(missing, names)
            if self.apt.aside is not None and not all(self.apt.cached(deb) for deb in debs):
                return self.foretold()
            back = {deb["name"]: self.apt.bring_back(deb) for deb in debs}
        words = [str(self.apt.place(back[n])) if n in back else word for n, word in named(names)]
        try:
            install, remove = self.apt.simulate(words + others)
        except RefusedError as refused:
            # What the driver needs may be in a component that no source names: then nothing is mixed.
            raise component_missing(self.apt, self.driver) or refused from None
        mine = [] if self.driver["source"] != "archive" else sorted(self.already(rows, remove).items())
        shows = self.apt.show([(c.name, c.new) for c in install if c.name not in back] + mine)
        shows.update({(deb["name"], deb["version"]): deb for deb in back.values()})
        self.judge(install, remove, shows, rows, self.machine.distribution, back)
        pairs = {**dict(mine), **{c.name: c.new for c in install}}
        return ExactSet(members_of(pairs, shows), install, remove)

    def kept_for_good(self, missing: List[str], names: List[str]) -> List[Json]:
        """The .debs of the lock that the archive has no more; refused where one of them can be had from nowhere."""
        locked = {deb["name"]: deb for deb in self.driver.get("packages", ())}
        lost = [name for name, word in named(missing) if not self.can_be_had(locked.get(name))]
        refused = component_missing(self.apt, self.driver)
        if refused is None and lost:
            refused = no_longer_offered(self.apt, names, self.kernel())
        if refused is not None:
            raise refused
        return [locked[name] for name, _ in named(missing)]

    def can_be_had(self, deb: Optional[Json]) -> bool:
        """Return whether a .deb of the lock is in our cache, or at an address that the lock names."""
        return deb is not None and (bool(deb["snapshot"]) or self.apt.cached(deb) is not None)

    def foretold(self) -> ExactSet:
        """What a dry run can tell of a set whose files are to be fetched: the packages that the lock names."""
        debs = self.apt.lacking(self.driver["packages"])
        members = [{**deb, "arch": "", "unpacked": 0} for deb in debs]
        return ExactSet(members, [Change(deb["name"], deb["version"], "", ()) for deb in debs], [])

    def from_files(self, members: List[Json], others: List[str], rows: Dict[str, Json]) -> ExactSet:
        """A set whose files are all in our cache, and what apt would do with these files alone."""
        files = [str(self.apt.place(m)) for m in members if m["sha256"]]
        if not files and not others:
            return ExactSet(members, [], [])
        install, remove = self.apt.simulate(files + others, alone=True)
        # An update's set has its kernel too, and what leads to it may have moved on since.
        self.judge(install, remove, {}, rows, "", (), {member["name"] for member in members})
        return ExactSet(members, install, remove)

    def kept_set(self, rows: Dict[str, Json]) -> List[Json]:
        """The set as it was installed before, from our cache alone; refused where a file of it is gone.

        What has no file there came with the system and must still be installed, as must what a `.run` was built with.
        """
        members = self.apt.members(self.key())
        lacking = [m for m in members if not self.apt.cached(m) and installed_version(rows, m["name"]) != m["version"]]
        wanted = [] if members else [word.partition("=")[::2] for word in self.names()]
        gone = [f"{m['name']} {m['version']}" for m in lacking]
        for name, version in wanted:
            there = installed_version(rows, name)
            if there is None or version not in ("", there):
                gone.append(f"{name} {version}".strip())
        if gone:
            text = f"Of driver {self.driver['version']} for kernel {self.kernel()}, {', '.join(gone)} is not kept here."
            step = f"Copy {self.root}/cache/debs from a host that has it, or rebuild: docs/runbooks/rebuild.md"
            raise RefusedError(f"{text} (D05) Nothing was changed.", step)
        return members

    def names(self) -> List[str]:
        """What apt is asked for."""
        tools = ["mokutil"] if owns_key(self.driver, self.machine.secure_boot) else []
        tools += [f"{name}={version}" for name, version in sorted(self.new_kernel.items())]
        if self.driver["source"] == "archive":
            names = packages.locked_names(self.driver, self.kernel(), self.machine.distribution)
        else:
            names = packages.build_names(self.kernel())
        # The kernel's packages are named at their version, once.
        return [word for word in names if word not in self.new_kernel] + tools

    def is_in_the_way(self, name: str, rows: Dict[str, Json]) -> bool:
        """Return whether an installed package is of another branch than the lock's, or leads to another kernel."""
        there = rows[name]["state"] not in ("not-installed", "config-files")
        if not there or not packages.SOURCES.match(rows[name]["source"]):
            return False
        other = packages.other_branch(name, self.driver, self.machine.distribution)
        return other or packages.leads_elsewhere(name, self.driver)

    def already(self, rows: Dict[str, Json], remove: List[Change]) -> Dict[str, str]:
        """The driver's packages that are installed and stay, by name with their version."""
        gone = {change.name for change in remove}
        mine = [n for n in rows if packages.is_family(n) and packages.SOURCES.match(rows[n]["source"])]
        names = [n for n in mine if n not in gone and installed_version(rows, n)]
        return {name: rows[name]["version"] for name in names}

    def judge(
        self,
        install: List[Change],
        remove: List[Change],
        shows: Any,
        rows: Dict[str, Json],
        own: str,
        kept: Container[str] = (),
        kernel: Optional[Container[str]] = None,
    ) -> None:
        """Refuse what apt would do, unless it is exactly the locked driver.

        `kept` are packages from our cache, `kernel` those that may come of a kernel, if others than were asked for.
        """
        may = self.new_kernel if kernel is None else kernel
        found = packages.refusals(install, remove, shows, self.driver, own, kept, may)
        if found:
            raise RefusedError(
                "Nothing was changed. " + " ".join(found), "Look at apt-cache policy for these packages."
            )
        self.apt.refuse_held([*install, *remove], rows)
        if self.driver["source"] != "archive":
            return
        main = {
            "name": self.driver["package"],
            "version": self.driver["package_version"],
            "sha256": self.driver["sha256"],
        }
        for deb in [main, *self.driver.get("packages", ())]:
            shown = shows.get((deb["name"], deb["version"]))
            if shown is not None and shown["sha256"] and shown["sha256"] != deb["sha256"]:
                text = (
                    f"The archive's {shown['file']} has the checksum {shown['sha256']}, the lock has {deb['sha256']}."
                )
                step = f"Do not install it; if the archive is right: {RELOCK}"
                raise ArtifactError(text + " Nothing was changed.", step)

    def check_space(self, members: List[Json]) -> None:
        """Refuse a host without room for the files, what they unpack to, a module's building and a new initramfs."""
        lacking = self.apt.lacking(members)
        needs = [(str(self.root), sum(m["size"] for m in lacking)), ("/usr", sum(m["unpacked"] for m in lacking))]
        if self.driver["source"] == "runfile":
            # A `.run` unpacks into our folder for temporary files.
            needs += [(str(self.root), 2 * self.driver["size"]), ("/usr", 2 * self.driver["size"])]
        if self.driver["modules_from"] == "dkms":
            needs.append(("/var", BUILD_BYTES))
        needs.append(("/boot", boot_bytes(self.kernel())))
        short = short_of_space(needs)
        if short:
            raise EnvironmentProblem(f"There is too little space: {'; '.join(short)}.", "Make room, then run again.")
