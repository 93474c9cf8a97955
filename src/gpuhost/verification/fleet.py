"""Hosts collected at once: a thread for each, so that a fleet takes as long as its slowest host.

What was collected is judged later, host by host and check by check, as if each had been asked by itself, so the
results are the same. The benchmarks are left out: two at once on machines that share a CPU or a disk, as virtual
machines do, would measure one another.
"""

from __future__ import annotations

import queue
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Dict, Iterable, List, Optional

from ..checks.base import Result
from ..diagnoses import verdict as checks
from .collect import Host, Say

#: More connections at once than this help nobody, and some ssh servers refuse them.
AT_ONCE = 16


class Crew:
    """The hosts that are being collected, by any key."""

    def __init__(
        self, hosts: Dict[str, Host], names: Iterable[str], call_off: Callable[[], None] = lambda: None
    ) -> None:
        """Begin at once; `names` are the checks for which it has to be collected. `call_off` makes every command of a
        host fail, the one that runs and those that come.
        """
        self._call_off = call_off
        self._lines: queue.Queue[Optional[str]] = queue.Queue()
        wanted = [name for name in names if not checks.BY_ID[name].part.startswith("benchmark")]
        self._pool = ThreadPoolExecutor(max_workers=max(1, min(AT_ONCE, len(hosts))))
        self._jobs: Dict[str, Future[None]] = {
            key: self._pool.submit(collect, host, wanted, self._lines.put) for key, host in hosts.items()
        }

    def wait(self, key: str, say: Say) -> None:
        """Return when this host is collected. Meanwhile `say` gets the lines about every host, as they come.

        What went wrong in the thread is raised here.
        """
        job = self._jobs[key]
        job.add_done_callback(lambda _: self._lines.put(None))
        while not job.done():
            line = self._lines.get()
            if line is not None:
                say(line)
        job.result()

    def close(self) -> None:
        """Let go of the threads; what has not begun is left out, and what they wait for is ended."""
        self._call_off()
        for job in self._jobs.values():
            job.cancel()
        self._pool.shutdown(wait=True)


def collect(host: Host, names: List[str], say: Say) -> None:
    """Collect what these checks speak of, and forget what was judged: a check counts when a test asks for it."""
    for name in names:
        host.result(name, say)
    judged: Dict[str, Result] = host.results
    judged.clear()
