"""What a measurement has to be read with: software, processor, load."""

import hashlib
import os
import pathlib
import platform
import resource
import time
from typing import Any, Dict, List, NamedTuple, Optional

import cv2
import numpy as np


def cpu_model(text: str) -> Optional[str]:
    """The CPU's name in the text of /proc/cpuinfo; None where it has none (as on ARM)."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return None


def steal_ticks(text: str) -> Optional[int]:
    """Clock ticks that the hypervisor gave to others, from the text of /proc/stat; None where it does
    not say.
    """
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["cpu"] and len(fields) > 8:
            return int(fields[8])
    return None


def build_lines(text: str) -> Dict[str, Optional[str]]:
    """What OpenCV's build information says of CUDA and cuDNN, such as "YES (ver 11.8)"; None where it is silent."""
    found: Dict[str, Optional[str]] = {"opencv_cuda": None, "opencv_cudnn": None}
    for line in text.splitlines():
        key, _, value = line.strip().partition(":")
        name = {"NVIDIA CUDA": "opencv_cuda", "cuDNN": "opencv_cudnn"}.get(key)
        if name is not None:
            found[name] = value.strip()
    return found


def first_line(path: pathlib.Path) -> Optional[str]:
    """The first line of a small system file; None when there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[0].strip() if lines else None


def memory_mib(text: str) -> Optional[int]:
    """The machine's memory, from the text of /proc/meminfo; None where it does not say."""
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["MemTotal:"]:
            return int(fields[1]) // 1024
    return None


def peak_mib(text: str) -> Optional[int]:
    """The largest resident memory of a process, from the text of its /proc/PID/status; None where it does not say.

    getrusage would not do: after exec it still counts the peak of the process that was forked.
    """
    for line in text.splitlines():
        fields = line.split()
        if fields[:1] == ["VmHWM:"]:
            return int(fields[1]) // 1024
    return None


def _proc(name: str) -> str:
    """A file of /proc as text; empty on a system without it."""
    path = pathlib.Path("/proc") / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def load_average() -> List[float]:
    """Runnable processes over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def describe() -> Dict[str, Any]:
    """The software and the CPU, and the load before the measurement."""
    build = cv2.getBuildInformation()
    return {
        "opencv": cv2.__version__,
        "opencv_build_sha256": hashlib.sha256(build.encode("utf-8")).hexdigest(),
        **build_lines(build),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(_proc("cpuinfo")),
        "cpus": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "opencv_threads": cv2.getNumThreads(),
        "memory_mib": memory_mib(_proc("meminfo")),
        "clock_governor": first_line(pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "nvidia_driver": first_line(pathlib.Path("/proc/driver/nvidia/version")),
        "tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE"),
        "load_average_before": load_average(),
    }


class Usage(NamedTuple):
    """A reading of clocks: wall and processor seconds of this process, ticks stolen from the machine."""

    wall_s: float
    cpu_s: float
    stolen: Optional[int]


def usage() -> Usage:
    """Read the clocks."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(time.perf_counter(), used.ru_utime + used.ru_stime, steal_ticks(_proc("stat")))


def since(before: Usage) -> Dict[str, Any]:
    """What happened since `before`: seconds, processor seconds per second, stolen seconds, and the
    largest memory so far (MiB, None where the system does not tell).
    """
    now = usage()
    wall = now.wall_s - before.wall_s
    stolen = None
    if now.stolen is not None and before.stolen is not None:
        stolen = (now.stolen - before.stolen) / os.sysconf("SC_CLK_TCK")
    return {
        "wall_s": wall,
        "cpu_s": now.cpu_s - before.cpu_s,
        "cpu_s_per_wall_s": (now.cpu_s - before.cpu_s) / wall if wall > 0 else None,
        "stolen_s": stolen,
        "peak_memory_mib": peak_mib(_proc("self/status")),
        "load_average_after": load_average(),
    }
