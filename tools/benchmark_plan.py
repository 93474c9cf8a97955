"""How long a plan takes: every card of the catalog on every platform, in one process.

The catalog and the tables of the resolver are read and made before the clock starts. Each plan is made once
and timed by itself, refusals with all their reasons and ways out included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Dict, List, Sequence

from gpuhost.planning import gpus as gpu
from gpuhost.planning import plan
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.resolve import resolver


def measured(platforms: Sequence[str], step: int) -> Dict[str, List[float]]:
    """The milliseconds of each plan, by platform and outcome; of every `step`-th card."""
    catalog, chooser = shipped(), resolver()
    found: Dict[str, List[float]] = {}
    for platform in platforms:
        for device in sorted(catalog.gpus["devices"])[::step]:
            request = Request(platform, (gpu.from_device(catalog, device),))
            start = time.perf_counter()
            made = plan.make(chooser, request)
            spent = (time.perf_counter() - start) * 1000
            found.setdefault(f"{platform} {made['status']}", []).append(spent)
    return found


def line(name: str, spent: Sequence[float]) -> str:
    """One row of the table: how many plans, and the median, the 95th percentile and the longest in
    milliseconds."""
    ordered = sorted(spent)
    late = ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]
    return f"{name:24} {len(ordered):6d} {statistics.median(ordered):10.2f} {late:10.2f} {ordered[-1]:10.2f}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted(shipped().platforms["platforms"])
    parser.add_argument("--os", action="append", choices=known, help="only this platform (may be repeated)")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="only every N-th card (default: every card)")
    options = parser.parse_args()
    if options.step < 1:
        parser.error("--step takes a whole number from 1 on")
    found = measured(options.os or known, options.step)
    print(f"{'plans':24} {'number':>6} {'median/ms':>10} {'p95/ms':>10} {'max/ms':>10}")
    for name, spent in sorted(found.items()):
        print(line(name, spent))
    print(line("all", [ms for spent in found.values() for ms in spent]))


if __name__ == "__main__":
    main()
