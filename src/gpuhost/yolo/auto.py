"""The choice of a device: each that works here is tried for a moment, the fastest is taken, and the result
says why.
"""

import statistics
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..errors import EnvironmentProblem
from .memory import give_back
from .network import Network
from .table import Device, DeviceError

WARM, FEWEST, MOST, SECONDS = 1, 3, 9, 2.0
"""Forward passes before the clock counts; fewest and most that count; and after how many seconds no further
one begins.
"""
Opener = Callable[[Device], Network]


def trial(network: Network, blob: Any, clock: Callable[[], float] = time.perf_counter) -> float:
    """The median time of a forward pass in seconds."""
    for _ in range(WARM):
        network.forward(blob)
    times: List[float] = []
    begun = clock()
    while len(times) < FEWEST or (len(times) < MOST and clock() - begun < SECONDS):
        started = clock()
        network.forward(blob)
        times.append(clock() - started)
    return statistics.median(times)


def _try(row: Device, opened: Opener, blob: Any, clock: Callable[[], float]) -> Dict[str, Any]:
    """One line of the table of trials. The network is gone afterwards: two at once would double the memory."""
    line: Dict[str, Any] = {"device": row.name, "chosen": False, "median_s": None, "rel2": None, "reason": None}
    if row.precision != "fp32":
        line["reason"] = f"not tried: it computes in {row.precision}, which is used only when it is asked for by name"
        return line
    try:
        network = opened(row)
        line["rel2"] = None if network.proof is None else network.proof.rel2
        line["median_s"] = trial(network, blob, clock)
        del network
    except EnvironmentProblem as problem:
        line["reason"] = str(problem)
    give_back()
    return line


def fastest(
    rows: Sequence[Device], opened: Opener, blob: Any, clock: Callable[[], float] = time.perf_counter
) -> Network:
    """Open and return the fastest of the devices `rows` that work in single precision.

    Its `trials` have an entry for each device: device, chosen, median_s, rel2, and the reason where it was not tried or
    does not work.
    """
    trials = [_try(row, opened, blob, clock) for row in rows]
    best: Optional[Dict[str, Any]] = None
    for line in trials:
        if line["median_s"] is not None and (best is None or line["median_s"] < best["median_s"]):
            best = line
    if best is None:
        raise DeviceError(
            "none_works",
            "No device works here: {}".format(" ".join("{device}: {reason}".format(**line) for line in trials)),
            "Start with --device cpu.",
        )
    best["chosen"] = True
    network = opened(next(row for row in rows if row.name == best["device"]))
    network.trials = trials
    return network


def as_text(trials: Sequence[Dict[str, Any]]) -> str:
    """The table of trials for people, fastest first."""
    order = sorted(trials, key=lambda line: (line["median_s"] is None, line["median_s"] or 0.0))
    lines = []
    for line in order:
        if line["median_s"] is None:
            said = line["reason"]
        else:
            off = "" if line["rel2"] is None else ", {:.1e} from the CPU".format(line["rel2"])
            said = "{:.1f} ms{}{}".format(1e3 * line["median_s"], off, ", chosen" if line["chosen"] else "")
        lines.append("  {:12} {}".format(line["device"], said))
    return "\n".join(lines)
