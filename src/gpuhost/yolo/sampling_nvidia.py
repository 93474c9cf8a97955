"""NVIDIA cards while they are measured: one nvidia-smi that prints a line for each card at every interval.

One process for the whole measurement, because starting nvidia-smi costs more processor time than a
forward pass on a fast card.
"""

import shutil
import subprocess
import threading
from typing import Any, Dict, List, Optional, Tuple

from ..host import commands
from .sampling_series import Series

FIGURES = (
    ("utilization.gpu", "busy_percent"),
    ("clocks.sm", "sm_mhz"),
    ("clocks.mem", "memory_mhz"),
    ("temperature.gpu", "celsius"),
    ("power.draw", "watt"),
    ("power.limit", "limit_watt"),
    ("memory.used", "memory_mib"),
)
"""What is asked of nvidia-smi, and the name it has here."""
REASON_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The same bits: the first name is the newer one (driver 535 and later)."""
REASONS = (
    (0x1, "idle"),
    (0x2, "application clocks"),
    (0x4, "software power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
)
"""NVML's clock event reasons."""
THROTTLED, POWER_CAPPED = 0x8 | 0x20 | 0x40 | 0x80, 0x4
_ASK_LIMIT_S = 20


def query(reason_field: str) -> str:
    """The argument of nvidia-smi that asks for one line of all figures."""
    return "--query-gpu=" + ",".join(["index", "name", reason_field] + [field for field, _ in FIGURES])


def parse_line(line: str) -> Optional[Tuple[str, str, Optional[int], Dict[str, float]]]:
    """Index, name, reason bits and figures in one line; None for another kind of line. What a card does not tell
    ([N/A], [Not Supported]) is left out.
    """
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3 + len(FIGURES) or not fields[0].isdigit():
        return None
    figures = {}
    for (_, name), text in zip(FIGURES, fields[3:]):
        try:
            figures[name] = float(text)
        except ValueError:
            continue
    try:
        bits: Optional[int] = int(fields[2], 16)
    except ValueError:
        bits = None
    return fields[0], fields[1], bits, figures


def named_reasons(bits: int) -> List[str]:
    """The reasons in words; bits that are not known here by their value."""
    known = sum(bit for bit, _ in REASONS)
    unknown = [hex(bits & ~known)] if bits & ~known else []
    return [name for bit, name in REASONS if bits & bit] + unknown


def gpu_flags(cards: List[Dict[str, Any]]) -> Dict[str, Optional[bool]]:
    """Whether a card was throttled or at its power limit; None where no card told."""
    bits = [card["reason_bits"] for card in cards if card["reason_bits"] is not None]
    return {
        "throttled": any(value & THROTTLED for value in bits) if bits else None,
        "power_capped": any(value & POWER_CAPPED for value in bits) if bits else None,
    }


class NvidiaWatch:
    """Keeps an nvidia-smi running and adds up what it prints."""

    def __init__(self, interval_s: float, program: str = "nvidia-smi") -> None:
        """Nothing is started yet."""
        self._interval_s, self._program = interval_s, program
        self._cards: Dict[str, Dict[str, Any]] = {}
        self._why = "there is no nvidia-smi"
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Ask once with each name of the reasons' field, and go on with the one that is understood."""
        path = shutil.which(self._program)
        if path is None:
            return
        form = "--format=csv,noheader,nounits"
        for field in REASON_FIELDS:
            try:
                argv = [path, query(field), form]
                code, out, _ = commands.bounded(argv, _ASK_LIMIT_S, stderr=subprocess.STDOUT)
            except (OSError, subprocess.TimeoutExpired, commands.TooMuch) as problem:
                self._why = f"nvidia-smi gives no answer: {problem or 'it says too much'}"
                return
            if code == 0:
                self._follow([path, query(field), form, f"--loop-ms={int(1e3 * self._interval_s)}"])
                return
            self._why = f"nvidia-smi ended with {code}: {' '.join(out.split())[:200]}"

    def _follow(self, command: List[str]) -> None:
        """Start the process that prints line after line, and the thread that reads them."""
        self._why = "nvidia-smi printed no line that could be read"
        self._process = commands.start(command, stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._read, name="nvidia-smi", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """The thread: every line until the process ends."""
        assert self._process is not None  # noqa: S101 - for the types
        for line in commands.lines(self._process.stdout):
            found = parse_line(line)
            if found is not None:
                self.add(*found)

    def add(self, index: str, name: str, bits: Optional[int], figures: Dict[str, float]) -> None:
        """Count one line."""
        card = self._cards.setdefault(index, {"name": name, "bits": None, "series": {}})
        if bits is not None:
            card["bits"] = bits | (card["bits"] or 0)
        for key, value in figures.items():
            card["series"].setdefault(key, Series()).add(value)

    def stop(self) -> None:
        """End the process and its reader."""
        if self._process is None or self._thread is None:
            return
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def summary(self) -> Tuple[List[Dict[str, Any]], Optional[str]]:
        """A row for each card, and why there is none."""
        rows = []
        for index, card in sorted(self._cards.items(), key=lambda item: int(item[0])):
            bits = card["bits"]
            rows.append(
                {
                    "index": int(index),
                    "name": card["name"],
                    "reason_bits": bits,
                    "reasons": None if bits is None else named_reasons(bits),
                    "figures": {name: series.summary() for name, series in card["series"].items()},
                }
            )
        return rows, None if rows else self._why
