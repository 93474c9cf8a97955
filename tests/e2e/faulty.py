"""An update of kernel and driver on an imitation host, from the host's own side alone, with faults drawn by a seed.

Each life begins from a snapshot of one provisioned host. What the playbook would ask of the host is asked by a script
on it (`on_host/update.py`), through the same functions as the modules use. After that the host is left to itself.

A power cut here is the end of every process at once. What was written before it is there afterwards, because the disk
is the outer machine's page cache: lost and reordered writes are not seen.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Type

from gpuhost.host.pairs import judge

from .beds import BedError
from .beds.bed import PROJECT
from .beds.commands import host
from .beds.firmware import booted_kernel, module_path
from .beds.packages import signed_module
from .beds.standins import elf
from .beds.ubuntu import UbuntuBed

Json = Dict[str, Any]
ROOT = "opt/gpuhost"
#: A fault that stays: those of disks that are full go with the restart.
STAYS = "initramfs fails"
TOO_LATE = "over before it"
#: What can be wrong, and how often it is drawn in a hundred.
FAULTS = {
    "nothing": 4,
    "power": 36,
    "power twice": 14,
    "kernel panics": 8,
    "driver refuses the card": 8,
    "module missing": 7,
    "module of another version": 7,
    "module unsigned": 5,
    STAYS: 3,
    "depmod fails": 4,
    "/boot fills up": 2,
    "/opt fills up": 2,
}
#: What shows only at the boot that tries the pair, so that a life with it alone begins where the pair is armed.
AT_BOOT = (
    "kernel panics",
    "driver refuses the card",
    "module missing",
    "module of another version",
    "module unsigned",
)
#: Which folder is a small file system of its own.
PLACES = {"/boot fills up": "boot", "/opt fills up": ROOT}
#: What must be told of an update that was undone, by the kind of fault; the power may go at any moment.
TOLD = {
    "kernel panics": r"was started and did not come up",
    "driver refuses the card": r"driver\.nodes|cuda\.",
    "module missing": r"driver\.module|driver\.loaded",
    "module of another version": r"driver\.module|driver\.loaded|driver\.match",
    "module unsigned": r"driver\.module|driver\.loaded|driver\.signature|secure",
    STAYS: r"installation was cut off",
    "depmod fails": r"installation was cut off",
    "/boot fills up": r"installation was cut off",
    "/opt fills up": r"installation was cut off",
}
POWER = r"the power|was cut off"
#: A host that has not come to an end by then never will.
DEADLINE_S = 420.0
#: How long the judge waits for a driver that is not there: a minute is long, and changes nothing here.
PATIENCE = ("WITHIN_S, ANSWERS_S = 60.0, 60.0", "WITHIN_S, ANSWERS_S = 8.00, 60.0")
#: What is run on the host.
SCRIPTS = Path(__file__).resolve().parent / "on_host"


class Case(NamedTuple):
    """What a seed means: the fault, and the moments at which the power goes, or a disk fills up.

    Up to 1 a moment is a part of what comes before the restart, from 1 to 2 one of what comes after it. The second is
    counted from the return of the power, as a part of half an update.
    """

    seed: int
    fault: str
    cuts: Tuple[float, ...]


class End(NamedTuple):
    """How a life ended: what is wrong with the pair that is left, and with what is told; "" for nothing."""

    case: Case
    state: str
    reason: str
    when: str
    restarts: int
    boots: int
    wrong: str
    untold: str
    seconds: float

    def line(self) -> str:
        """One line for a person."""
        told = f"WITHOUT A PAIR: {self.wrong}" if self.wrong else f"UNTOLD: {self.untold}" if self.untold else "works"
        rest = f"{self.restarts} restarts of its own, {self.boots} boots, {self.seconds:.0f} s"
        when = f" ({self.when})" if self.when else ""
        return f"seed {self.case.seed}: {self.case.fault}{when}: {self.state}, {told}, {rest}: {self.reason[:160]}"


def drawn(seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(seed)  # noqa: S311 - faults, not secrets
    fault = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
    cuts = {"power": 1, "power twice": 2, "nothing": 0}.get(fault, int(chance.random() < 0.25))
    if fault.endswith("fills up"):
        return Case(seed, fault, (chance.random(),))
    first = chance.random() + (chance.random() < 0.4 if fault in ("power", "power twice") else fault in AT_BOOT)
    return Case(seed, fault, (first, chance.random())[:cuts])


class Lives:
    """One provisioned bed that lives again and again; used in a `with` block."""

    def __init__(self, bed: UbuntuBed, asked: Json, versions: Tuple[str, str], kernels: Tuple[str, str]) -> None:
        """`asked` is what a playbook asks of the module gpuhost_pair; `versions` and `kernels` are the old and new."""
        self.bed, self.asked, self.versions, self.kernels = bed, asked, versions, kernels
        #: How long it takes until an update is armed, and from there until it is proved, as it was seen last.
        self.armed_s, self.trial_s = 0.0, 0.0
        self._over = threading.Event()
        self._loading = threading.Thread(target=self._modprobe, daemon=True)

    @property
    def root(self) -> Path:
        """The machine's disk."""
        return self.bed.copy.root

    def __enter__(self) -> Lives:
        """Furnish the bed, take the snapshots, and see how long a whole update takes."""
        self._furnish()
        self.bed.kill()
        self.bed.copy.keep("before")
        self.bed.firmware.waits = True
        self._loading.start()
        self._start()
        begun = time.monotonic()
        self._type()
        assert self._status_in(DEADLINE_S) == 0, self.read("root/update.log")[-3000:]
        self.armed_s = time.monotonic() - begun
        self.bed.kill()
        self.bed.copy.keep("armed")
        begun = time.monotonic()
        self._start(wait=False)
        self._ended(begun + DEADLINE_S)
        self.trial_s = time.monotonic() - begun
        assert (self.record() or {}).get("state") == judge.PROVED, self.record()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End what helps, with nothing mounted below the bed's root."""
        self._over.set()
        self._loading.join()
        self._rewind("before")

    def read(self, name: str) -> str:
        """A file of the machine; "" where it is not there."""
        path = self.root / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def record(self) -> Optional[Json]:
        """The update's record."""
        with contextlib.suppress(ValueError):
            text = self.read(f"{ROOT}/state/pair.json")
            return dict(json.loads(text)) if text else None
        return None

    def live(self, case: Case) -> End:
        """Go through one life to its end; again where it was over before the first fault was to come."""
        for _ in range(3):
            end = self._lived(case)
            if not end.when.endswith(TOO_LATE):
                break
        return end

    def _lived(self, case: Case) -> End:
        """The same, once."""
        begun = time.monotonic()
        first = case.cuts[0] if case.cuts else 0.0
        armed = case.fault in AT_BOOT or case.fault == "nothing" or first > 1
        self._rewind("armed" if armed else "before")
        self._stage(case)
        since = self.bed.machine.boots
        self._start(wait=not armed)
        clock = time.monotonic()
        if not armed:
            self._type()
        span = self.trial_s if armed else self.armed_s
        times = [span * (first - armed), *((self.armed_s + self.trial_s) / 2 * part for part in case.cuts[1:])]
        typed, when = not armed, []
        for at in times[: len(case.cuts)]:
            if self._ended(clock + at, typed):
                if not when:
                    self._seen(armed, time.monotonic() - clock)
                when.append(f"over before {at:.1f} s" if when else TOO_LATE)
                break
            when.append(f"{'trial ' if armed and not when else ''}{at:.1f} s: {self._moment()}")
            if case.fault in PLACES:
                self._fill(case)
                break
            self.bed.kill()
            self._start(wait=False)
            typed, clock = False, time.monotonic()
        if typed and self._status_in(DEADLINE_S) is not None:
            if not case.cuts:
                self.armed_s = time.monotonic() - clock
            if self._status() != 0:
                when.append(f"it failed: {self.read('root/update.log').strip().splitlines()[-1][:200]}")
            for place in PLACES.values():
                (self.root / place / "filler").unlink(missing_ok=True)  # as a temporary file goes at a restart
            with contextlib.suppress(BedError):
                self.bed.reboot()
        self._ended(time.monotonic() + DEADLINE_S)
        return self._judged(case, "; ".join(when), self.bed.machine.boots - since, begun)

    def _seen(self, armed: bool, seconds: float) -> None:
        """Note how long a part took that was over before the power was to go."""
        if armed:
            self.trial_s = seconds
        else:
            self.armed_s = seconds

    def cut(self, part: str, number: int) -> Optional[End]:
        """Let the power go at a numbered call of a part that changes something; None where it has fewer.

        The parts are "prepared" and "armed", before the restart, and "boot", the program that judges: with the switch
        of the default, and what it writes before and after that.
        """
        begun = time.monotonic()
        self._rewind("armed" if part == "boot" else "before")
        self._stage(Case(0, "nothing", ()))
        (self.root / "root/cut-at").write_text(str(number))
        if part == "boot":
            (self.root / "root/cut-boot").touch()
        since, here = self.bed.machine.boots, self.root / "root/cut-here"
        self._start(wait=part != "boot")
        if part != "boot":
            self._type(part)
        while not here.exists() and time.monotonic() < begun + DEADLINE_S:
            time.sleep(0.1)
            if self._status() is not None if part != "boot" else self._ended(time.monotonic() + 0.3):
                return None
        when = f"{part}, call {self.read('root/cut-count')[:90]}"
        self.bed.kill()
        (self.root / "root/cut-boot").unlink(missing_ok=True)
        self._start()
        self._ended(time.monotonic() + DEADLINE_S)
        end = self._judged(Case(number, "power", (1.0,)), "", self.bed.machine.boots - since, begun)
        return end._replace(when=when)

    # The steps of a life

    def _rewind(self, name: str) -> None:
        """Go back to a snapshot."""
        self.bed.kill()
        self.bed.copy.begin(name)

    def _start(self, wait: bool = True) -> None:
        """Switch the machine on; it may restart by itself before it is up."""

        def boot() -> None:
            """Boot; how it ends is seen later."""
            with contextlib.suppress(BedError):
                self.bed.boot()

        if wait:
            boot()
        else:
            threading.Thread(target=boot, daemon=True).start()
            time.sleep(0.3)

    def _type(self, part: str = "") -> None:
        """Have the update begin; in a part of it the calls are counted."""
        python = f"/usr/bin/python{self.bed.release.python}"
        program = f"{python} /root/update.py {part} >/root/update.log 2>&1; echo $? >/root/update.status"
        self.bed.run(["systemd-run", "--quiet", "--unit=update", "sh", "-c", program])

    def _status(self) -> Optional[int]:
        """The status with which the update's own part has ended; None as long as it runs."""
        text = self.read("root/update.status").strip()
        return int(text) if text else None

    def _status_in(self, seconds: float) -> Optional[int]:
        """The same, once it has ended, or after some seconds."""
        until = time.monotonic() + seconds
        while self._status() is None and time.monotonic() < until:
            time.sleep(0.1)
        return self._status()

    def _moment(self) -> str:
        """How far the host is, for a person."""
        record = self.record()
        log = [line for line in self.read("root/update.log").splitlines() if line.strip()]
        state = record["state"] if record else "nothing begun"
        return state + (f", {log[-1][:70]}" if log and state == "prepared" else "")

    def _ended(self, until: float, typed: bool = False) -> bool:
        """Wait for a moment, or until the host has come to an end with the update; return whether it has."""
        quiet = 0.0
        while time.monotonic() < until:
            time.sleep(0.15)
            if typed:
                if self._status() is not None:
                    with contextlib.suppress(BedError):
                        self.bed.reboot() if self._status() == 0 else None
                    typed = False
                continue
            if not self._up():
                quiet = 0.0
                continue
            record = self.record()
            if record is None or record["state"] in (judge.PREPARED, judge.PROVED) or record["recovered"]:
                return True
            quiet = quiet or time.monotonic()
            if time.monotonic() > quiet + 20:
                return True
        return False

    def _up(self) -> bool:
        """Whether the machine has finished its start, and is not going down."""
        # A machine that goes away may take the question with it.
        with contextlib.suppress(BedError, OSError, subprocess.TimeoutExpired):
            done = host([*self.bed._enter(), "systemctl", "is-system-running"], check=False, timeout=10)
            return done.stdout.strip() in (b"running", b"degraded")
        return False

    def _modprobe(self) -> None:
        """Be the kernel that loads what modprobe asks for."""
        while not self._over.wait(0.05):
            asked = self.root / "var/lib/bed-modprobe"
            # The machine may go away meanwhile.
            with contextlib.suppress(BedError, OSError, subprocess.SubprocessError):
                if asked.exists():
                    self.bed.firmware.load(self.root, self.bed.machine.leader)
                    asked.unlink()

    # Faults

    def _furnish(self) -> None:
        """Put what is needed on the machine."""
        self.bed.push(PROJECT / "src", "/root/src")
        kmod = self.root / "usr/lib/kmod-of-debian"
        kmod.mkdir(exist_ok=True)
        for name in ("modprobe", "depmod"):
            (kmod / name).symlink_to("/usr/bin/kmod")
        places = {name: f"root/{name}" for name in ("update.py", "cutting.py", "seen.py")}
        places["modprobe"] = "usr/sbin/modprobe"
        for name, place in places.items():
            (self.root / place).unlink(missing_ok=True)
            shutil.copy(SCRIPTS / name, self.root / place)
        (self.root / places["modprobe"]).chmod(0o755)
        for site in self.root.glob("etc/python3.*/sitecustomize.py"):
            shutil.copy(SCRIPTS / "sitecustomize.py", site)
        (self.root / "root/asked.json").write_text(json.dumps(self.asked))
        look = next(self.root.glob(f"{ROOT}/store/pairs-*/gpuhost/host/pairs/look.py"))
        text = look.read_text()
        assert PATIENCE[0] in text and len(PATIENCE[0]) == len(PATIENCE[1])
        look.write_text(text.replace(*PATIENCE))

    def _stage(self, case: Case) -> None:
        """Make the fault."""
        firmware, (_, new), (old_version, version) = self.bed.firmware, self.kernels, self.versions
        firmware.panics = {new} if case.fault == "kernel panics" else set()
        firmware.refuses = {version} if case.fault == "driver refuses the card" else set()
        if case.fault.startswith("module"):
            self._spoil(case, new, old_version)
        if case.fault in PLACES:
            self._small(self.root / PLACES[case.fault])
        if case.fault == STAYS:
            self._hook("etc/initramfs-tools/hooks/zz-fault", f'[ "$version" != {new} ] || exit 1\n')
        if case.fault == "depmod fails":
            times = random.Random(case.seed).randint(1, 3)  # noqa: S311 - as above
            (self.root / "usr/sbin/depmod").unlink()
            self._hook("usr/sbin/depmod", _FAILING.format(kernel=new, times=times))

    def _spoil(self, case: Case, new: str, version: str) -> None:
        """Have the new kernel's module wrong once it is installed; before that there is none."""
        path = module_path(self.root, new, "nvidia")
        if path is None:
            # The power goes before it is there: the fault is what the installation brings.
            return
        if case.fault == "module missing":
            path.unlink()
        elif case.fault == "module unsigned":
            path.write_bytes(elf.split_signature(path.read_bytes())[0])
        else:
            path.write_bytes(signed_module("nvidia", version, new))

    def _small(self, folder: Path) -> None:
        """Let a folder be a file system of its own, with some room."""
        used = int(host(["du", "-sm", str(folder)]).stdout.split()[0])
        aside = self.bed.copy.work / "aside"
        host(["cp", "-a", str(folder), str(aside)])
        host(["mount", "-t", "tmpfs", "-o", f"size={used + 150}m,mode=755", "tmpfs", str(folder)])
        host(["cp", "-a", f"{aside}/.", str(folder)])
        host(["rm", "-r", str(aside)])

    def _fill(self, case: Case) -> None:
        """Take all of its room."""
        folder = self.root / PLACES[case.fault]
        with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))

    def _hook(self, name: str, text: str) -> None:
        """An executable of the fault's."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)

    # The end

    def _judged(self, case: Case, when: str, boots: int, begun: float) -> End:
        """Look at what is left."""
        try:
            seen = dict(json.loads(self.bed._read(["python3", "/root/seen.py"])))
        except (BedError, OSError) as error:
            seen = {"pair": "", "dead": repr(error)}
        record = json.loads(seen["pair"]) if seen["pair"] else {}
        state = str(record.get("state", "nothing begun"))
        # A kernel whose initramfs cannot be made stays unconfigured for as long as that is so.
        wrong = self.wrong(seen, state, set(self.asked["kernel"]["packages"]) if case.fault == STAYS else set())
        untold = self.untold(case, seen, record) if state == judge.UNDONE else ""
        if wrong and record.get("failed"):
            wrong += f"; failed: {record['failed'][:300]}"
        restarts, reason = int(record.get("restarts", 0)), str(record.get("reason", ""))
        if restarts > 2:
            wrong = wrong or f"{restarts} restarts"
        if case.fault in AT_BOOT and state == judge.PROVED:
            wrong = wrong or "a pair that is wrong was proved"
        if case.fault == "nothing" and state != judge.PROVED:
            wrong = wrong or "a pair that is right was not proved"
        return End(case, state, reason, when, restarts, boots, wrong, untold, time.monotonic() - begun)

    def wrong(self, seen: Json, state: str, may: Set[str]) -> str:
        """What is wrong with the pair that is left; of some packages it may be that dpkg has not configured them."""
        if "dead" in seen:
            return f"the machine does not answer: {seen['dead']}"
        is_new = state == judge.PROVED
        kernel, version = self.kernels[is_new], self.versions[is_new]
        saved = self.read("boot/grub/grubenv")
        told = []
        if seen["running"] != kernel:
            told.append(f"kernel {seen['running']} runs")
        if version not in seen["loaded"] or not seen["cards"].startswith("0000:"):
            told.append(f"loaded is {seen['loaded'].split('  ')[1:2]}, cards {seen['cards'].split()}")
        if seen["module"] != version:
            told.append(f"the module for {seen['running']} is {seen['module']}")
        bad = [row for row in seen["packages"] if row[2] not in ("ii", "hi", "un", "rc")]
        others = [row for row in bad if row[0] not in may]
        if (seen["audit"] and (others or not bad)) or seen["verify"]:
            told.append(f"dpkg: {' '.join((seen['audit'] + seen['verify']).split())[:300]}")
        lib = [row for row in seen["packages"] if "nvidia" in row[0] and row[2] in ("ii", "hi")]
        mixed = [row[0] for row in lib if row[1][:1] == "5" and not row[1].startswith(version)]
        if others or "nvidia-driver-525" not in [row[0] for row in lib]:
            told.append(f"packages: {others[:5]}")
        if [name for name in mixed if not name.startswith("linux-")]:
            told.append(f"packages of another version: {mixed[:5]}")
        driver = json.loads(seen["driver"]) if seen["driver"] else {}
        if (driver.get("kernel"), driver.get("version")) != (kernel, version):
            told.append(f"driver.json: {driver.get('kernel')} {driver.get('version')}")
        if seen["block"]:
            told.append("the driver is kept from loading")
        if re.search(r"^next_entry=.", saved, re.M):
            told.append("an entry for one boot is left")
        elif booted_kernel(self.root) != kernel and state != "nothing begun":
            told.append(f"{booted_kernel(self.root)} would boot next")
        if state in judge.UNDER_WAY and state != judge.PREPARED:
            told.append(f"it stays {state}")
        return "; ".join(told)

    def untold(self, case: Case, seen: Json, record: Json) -> str:
        """What is lacking of the explanation."""
        reason = record["reason"]
        known = [TOLD[case.fault]] if case.fault in TOLD else []
        known += [POWER] if case.cuts else []
        if not reason or not any(re.search(one, reason) for one in known):
            return f"the reason is {reason!r}"
        if not record["recovered"]:
            return "it is not recovered"
        places = {"journal": seen["journal"], "motd": seen["motd"], "watch": json.dumps(seen["watch"])}
        part = reason[:40].split("'")[0].split('"')[0]
        missing = [name for name, text in places.items() if part not in " ".join(text.split())]
        return f"not told by {', '.join(missing)}" if missing else ""


_FAILING = """[ "$1" = {kernel} ] || exec /usr/lib/kmod-of-debian/depmod "$@"
n=$(cat /root/depmod-failed 2>/dev/null || echo 0)
[ "$n" -lt {times} ] || exec /usr/lib/kmod-of-debian/depmod "$@"
echo $((n + 1)) >/root/depmod-failed
echo "depmod: ERROR: No space left on device" >&2
exit 1
"""


def table(ends: List[End]) -> str:
    """A row for each fault: how often, how it ended, and how many were left without a pair or an explanation."""
    rows = [f"{'fault':28} lives proved undone stands  no pair  untold  seconds"]
    for fault in [*FAULTS, "all"]:
        mine = [one for one in ends if fault in (one.case.fault, "all")]
        if mine:
            states = [one.state for one in mine]
            kept, undone = states.count(judge.PROVED), states.count(judge.UNDONE)
            lost, silent = sum(bool(one.wrong) for one in mine), sum(bool(one.untold) for one in mine)
            mean = sum(one.seconds for one in mine) / len(mine)
            row = f"{len(mine):5} {kept:6} {undone:6} {len(mine) - kept - undone:6} {lost:8} {silent:7} {mean:8.0f}"
            rows.append(f"{fault:28} {row}")
    return "\n".join(rows)
