"""What the machine did while it was measured, looked at a few times a second from another thread: load, stolen
time, clocks, temperatures, memory.

Only files of /proc and /sys are read, and one nvidia-smi is kept running where there is one. A source
that is not there is named as absent, with the reason; nothing is put in its place.
"""

import os
import pathlib
import threading
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .busy import STOLEN_SHARE
from .sampling_nvidia import NvidiaWatch, gpu_flags
from .sampling_series import Series

INTERVAL_S = 0.2
MOST_CPUS = 8
"""So many processors' clocks are read: with some drivers each reading interrupts that processor."""

Read = Callable[[], Dict[str, float]]


def number_in(path: pathlib.Path) -> Optional[float]:
    """The number in a small file; None when there is none, as with a sensor that sleeps."""
    try:
        return float(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def label_in(path: pathlib.Path, otherwise: str) -> str:
    """The name that a small file gives, or `otherwise`."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or otherwise
    except OSError:
        return otherwise


def cpu_ticks(text: str) -> Optional[Tuple[int, int]]:
    """Stolen ticks and all ticks of all processors, from the text of /proc/stat; None where it does not say."""
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["cpu"] and len(fields) > 8:
            # Guest time, after the eighth figure, is counted in user time already.
            ticks = [int(field) for field in fields[1:9]]
            return ticks[7], sum(ticks)
    return None


def _stolen(root: pathlib.Path) -> Read:
    """Reads the part of the processors' time that was stolen since the reading before."""
    before: List[Tuple[int, int]] = []

    def read() -> Dict[str, float]:
        now = cpu_ticks((root / "proc/stat").read_text(encoding="ascii"))
        if now is None:
            return {}
        old = before.pop() if before else now
        before.append(now)
        return {"stolen_share": (now[0] - old[0]) / (now[1] - old[1])} if now[1] > old[1] else {}

    return read


def _load(root: pathlib.Path) -> Read:
    """Reads the runnable processes over the last minute."""

    def read() -> Dict[str, float]:
        value = number_in(root / "proc/loadavg")
        return {} if value is None else {"load_1min": value}

    return read


def _memory(root: pathlib.Path) -> Read:
    """Reads this process's resident memory in MiB."""

    def read() -> Dict[str, float]:
        pages = int((root / "proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"memory_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2.0**20}

    return read


def _files(found: Dict[str, pathlib.Path], scale: float) -> Read:
    """Reads each file's number times `scale` under its name."""

    def read() -> Dict[str, float]:
        values = {name: number_in(path) for name, path in found.items()}
        return {name: value * scale for name, value in values.items() if value is not None}

    return read


def clock_files(root: pathlib.Path, cpus: List[int]) -> Dict[str, pathlib.Path]:
    """The files with the present clock (kHz) of some of the processors `cpus`."""
    folder = root / "sys/devices/system/cpu"
    files = {f"cpu{cpu}_mhz": folder / f"cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in cpus[:MOST_CPUS]}
    return {name: path for name, path in files.items() if number_in(path) is not None}


def temperature_files(root: pathlib.Path) -> Dict[str, pathlib.Path]:
    """The files with temperatures (thousandths of a degree Celsius): thermal zones and hwmon sensors, by name."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        found[f"{zone.name} {label_in(zone / 'type', 'unnamed')}"] = zone / "temp"
    for path in sorted((root / "sys/class/hwmon").glob("hwmon*/temp*_input")):
        sensor = path.name[: -len("_input")]
        label = label_in(path.with_name(sensor + "_label"), sensor)
        found[f"{path.parent.name} {label_in(path.with_name('name'), 'unnamed')} {label}"] = path
    return {name: path for name, path in found.items() if number_in(path) is not None}


def sources(root: pathlib.Path = pathlib.Path("/")) -> Tuple[List[Read], Dict[str, str]]:
    """The readers of what is there below `root`, and what is absent with the reason."""
    clocks, temperatures = clock_files(root, sorted(os.sched_getaffinity(0))), temperature_files(root)
    readers, absent = [], {}
    for there, reader, name, why in (
        ((root / "proc/loadavg").is_file(), _load(root), "load", "there is no /proc/loadavg"),
        ((root / "proc/stat").is_file(), _stolen(root), "stolen time", "there is no /proc/stat"),
        ((root / "proc/self/statm").is_file(), _memory(root), "memory", "there is no /proc/self/statm"),
        (bool(clocks), _files(clocks, 1e-3), "processor clock", "no cpufreq, as in most virtual machines"),
        (bool(temperatures), _files(temperatures, 1e-3), "temperature", "no thermal zone or hwmon sensor tells"),
    ):
        if there:
            readers.append(reader)
        else:
            absent[name] = why
    return readers, absent


class Sampler:
    """Looks at the machine from a thread for as long as its block lasts."""

    def __init__(self, root: pathlib.Path = pathlib.Path("/"), interval_s: float = INTERVAL_S) -> None:
        """Find what can be read below `root`; `interval_s` is the time between two looks."""
        self._readers, self._absent = sources(root)
        self._interval_s = interval_s
        self._series: Dict[str, Series] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)
        self._nvidia = NvidiaWatch(interval_s)
        self._failed: Set[str] = set()
        self._stolen_sum, self._stolen_count = 0.0, 0

    def __enter__(self) -> "Sampler":
        self._nvidia.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._nvidia.stop()

    def _watch(self) -> None:
        """The thread: look at once, then at every interval, and once more at the end."""
        while True:
            last = self._over.is_set()
            self.look()
            if last:
                return
            self._over.wait(self._interval_s)

    def look(self) -> None:
        """Read every source once."""
        for reader in self._readers:
            try:
                values = reader()
            except (OSError, ValueError, IndexError) as problem:
                self._failed.add(" ".join(str(problem).split())[:200])
                continue
            for name, value in values.items():
                self._series.setdefault(name, Series()).add(value)
            if "stolen_share" in values:
                self._stolen_sum += values["stolen_share"]
                self._stolen_count += 1

    def summary(self) -> Dict[str, Any]:
        """What was seen: min, median and max by name, the cards, the flags (throttled, power_capped, stolen; None where
        nothing could tell), and what is absent.
        """
        cards, no_cards = self._nvidia.summary()
        absent = dict(self._absent)
        if no_cards is not None:
            absent["NVIDIA card"] = no_cards
        stolen = self._stolen_sum / self._stolen_count if self._stolen_count else None
        flags: Dict[str, Optional[bool]] = {"stolen": None if stolen is None else stolen > STOLEN_SHARE}
        flags.update(gpu_flags(cards))
        return {
            "interval_s": self._interval_s,
            "looks": max([series.count for series in self._series.values()] or [0]),
            "machine": {name: series.summary() for name, series in sorted(self._series.items())},
            "stolen_share": stolen,
            "cards": cards,
            "flags": flags,
            "absent": absent,
            "failed": sorted(self._failed)[:10],
        }
