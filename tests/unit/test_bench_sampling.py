"""What is seen of the machine while it is measured: from made trees of /proc and /sys, and a stand-in nvidia-smi."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuhost.yolo import environment, sampling, sampling_nvidia
from gpuhost.yolo.sampling import Sampler
from gpuhost.yolo.sampling_nvidia import NvidiaWatch
from gpuhost.yolo.sampling_series import Series

LINE = "0, Quadro P2000, 0x0000000000000004, 97, 1468, 3504, 71, 74.50, 75.00, 1021"


def tree(root: Path, files: Dict[str, str]) -> Path:
    """A made root with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def ticks(stolen: int, idle: int) -> str:
    """A /proc/stat."""
    return f"cpu  100 0 50 {idle} 0 0 0 {stolen} 999 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


FILES = {
    "proc/loadavg": "1.50 1.20 0.90 2/345 6789\n",
    "proc/stat": ticks(0, 1000),
    "proc/self/statm": "5000 2560 300 1 0 400 0\n",
    "sys/class/thermal/thermal_zone0/temp": "48500\n",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
    "sys/class/hwmon/hwmon1/name": "nvme\n",
    "sys/class/hwmon/hwmon1/temp1_input": "39850\n",
    "sys/class/hwmon/hwmon1/temp1_label": "Composite\n",
    "sys/class/hwmon/hwmon1/temp2_input": "",
}


def cpu_files() -> Dict[str, str]:
    """A clock for each processor of this process."""
    cpus = sorted(os.sched_getaffinity(0))[: sampling.MOST_CPUS]
    return {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "3400000\n" for cpu in cpus}


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PATH on which there is no nvidia-smi, whatever this machine has."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_everything_that_is_there_is_read(tmp_path: Path) -> None:
    """Units: MHz, degrees Celsius, MiB, parts of the processors' time; a sensor that gives nothing is left out."""
    root = tree(tmp_path, {**FILES, **cpu_files()})
    sampler = Sampler(root)
    sampler.look()
    tree(root, {"proc/stat": ticks(300, 1700), "proc/loadavg": "2.50 1 1 1/1 1\n"})
    sampler.look()
    found = sampler.summary()
    seen = found["machine"]
    assert seen["load_1min"] == {"min": 1.5, "median": 2.0, "max": 2.5}
    assert found["stolen_share"] == seen["stolen_share"]["max"] == pytest.approx(0.3)
    assert seen["memory_mib"]["max"] == 2560 * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert {name for name in seen if "temp" in name or "nvme" in name or "x86" in name} == {
        "thermal_zone0 x86_pkg_temp",
        "hwmon1 nvme Composite",
    }
    assert seen["thermal_zone0 x86_pkg_temp"]["median"] == pytest.approx(48.5)
    assert [name for name in seen if name.endswith("_mhz")] and seen[f"cpu{min(os.sched_getaffinity(0))}_mhz"] == {
        "min": 3400.0,
        "median": 3400.0,
        "max": 3400.0,
    }
    assert found["flags"] == {"stolen": True, "throttled": None, "power_capped": None}
    assert found["absent"] == {"NVIDIA card": "there is no nvidia-smi"} and found["failed"] == []


def test_what_is_not_there_is_named_and_not_invented(tmp_path: Path) -> None:
    """An empty root: no figure, no flag, five sources and the card absent with their reasons."""
    with Sampler(tree(tmp_path / "root", {"etc/hostname": "bare\n"}), interval_s=0.01) as sampler:
        pass
    found = sampler.summary()
    assert found["machine"] == {} and found["cards"] == [] and found["stolen_share"] is None
    assert set(found["flags"].values()) == {None}
    assert set(found["absent"]) == {"load", "stolen time", "memory", "processor clock", "temperature", "NVIDIA card"}
    assert all(found["absent"].values())


def test_a_file_that_vanishes_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    """As a sensor of a module that is unloaded meanwhile."""
    root = tree(tmp_path, FILES)
    sampler = Sampler(root)
    (root / "proc/stat").unlink()
    sampler.look()
    found = sampler.summary()
    assert "load_1min" in found["machine"] and "No such file" in found["failed"][0]


def test_the_thread_looks_and_ends(tmp_path: Path) -> None:
    """Also when the block ends with an error."""
    before = threading.active_count()
    sampler = Sampler(tree(tmp_path, FILES), interval_s=0.01)
    with pytest.raises(ZeroDivisionError), sampler:
        raise ZeroDivisionError
    assert threading.active_count() == before and sampler.summary()["looks"] >= 1


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_a_series_keeps_the_extremes_and_few_values(values: List[float]) -> None:
    """Whatever goes by: exact ends, a median between them, at most so many kept."""
    series = Series(most=16)
    for value in values:
        series.add(value)
        assert len(series._values) <= 16
    found = series.summary()
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["min"] <= found["median"] <= found["max"]
    if len(values) <= 16:
        ordered = sorted(values)
        assert found["median"] == pytest.approx((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def test_a_long_series_still_has_the_middle() -> None:
    """What is kept is spread evenly over all that went by."""
    series = Series(most=16)
    for value in range(10_000):
        series.add(float(value))
    assert series.summary()["median"] == pytest.approx(5000, rel=0.15)


# ---- nvidia-smi -----------------------------------------------------------------------------------------------------


def stand_in(folder: Path, script: str) -> str:
    """A program that stands in for nvidia-smi; returns its path."""
    path = folder / "nvidia-smi"
    path.write_text("#!/bin/sh\n" + script, encoding="ascii")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def joined(watch: NvidiaWatch) -> NvidiaWatch:
    """The watch after its nvidia-smi has ended by itself."""
    assert watch._thread is not None
    watch._thread.join(30)
    watch.stop()
    return watch


def test_lines_become_figures_and_flags(tmp_path: Path) -> None:
    """Two looks at one card: the reasons of all of them, the figures' ends."""
    second = LINE.replace("0x0000000000000004", "0x0000000000000020").replace(" 1468,", " 1000,")
    program = stand_in(tmp_path, f"echo '{LINE}'\ncase $* in *loop*) echo '{second}';; esac\n")
    watch = NvidiaWatch(0.2, program)
    watch.start()
    cards, why = joined(watch).summary()
    assert why is None and len(cards) == 1
    assert cards[0]["name"] == "Quadro P2000" and cards[0]["reason_bits"] == 0x24
    assert cards[0]["reasons"] == ["software power cap", "software thermal slowdown"]
    assert cards[0]["figures"]["sm_mhz"] == {"min": 1000.0, "median": 1234.0, "max": 1468.0}
    assert cards[0]["figures"]["limit_watt"]["max"] == 75.0
    assert sampling_nvidia.gpu_flags(cards) == {"throttled": True, "power_capped": True}


def test_an_older_driver_is_asked_by_the_older_name(tmp_path: Path) -> None:
    """It refuses the newer one."""
    refuse = 'case $* in *clocks_event*) echo "Field is not a valid field to query."; exit 2;; esac\n'
    watch = NvidiaWatch(0.2, stand_in(tmp_path, refuse + f"echo '{LINE}'\n"))
    watch.start()
    assert joined(watch).summary()[0][0]["reason_bits"] == 4


def test_a_driver_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """No card, no flag, and the driver's own words."""
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    watch = NvidiaWatch(0.2, stand_in(tmp_path, f'echo "{said}"\nexit 9\n'))
    watch.start()
    watch.stop()
    assert watch.summary() == ([], f"nvidia-smi ended with 9: {said}")


def test_a_watch_that_goes_on_is_ended(tmp_path: Path) -> None:
    """The process is gone when the measurement is over."""
    watch = NvidiaWatch(0.2, stand_in(tmp_path, f"echo '{LINE}'\ncase $* in *loop*) exec /bin/sleep 600;; esac\n"))
    watch.start()
    process = watch._process
    assert process is not None and process.poll() is None
    watch.stop()
    assert process.poll() is not None


def test_what_a_card_does_not_tell_is_left_out() -> None:
    """[N/A] is not a zero; a line of something else is passed over."""
    found = sampling_nvidia.parse_line("1, GRID, [N/A], 5, [Not Supported], 7000, 40, [N/A], [N/A], 10")
    assert found == (
        "1",
        "GRID",
        None,
        {"busy_percent": 5.0, "memory_mhz": 7000.0, "celsius": 40.0, "memory_mib": 10.0},
    )
    assert sampling_nvidia.parse_line("No devices were found") is None
    assert sampling_nvidia.named_reasons(0x1 | 0x400) == ["idle", "0x400"]
    assert sampling_nvidia.gpu_flags([]) == {"throttled": None, "power_capped": None}


# ---- the environment ------------------------------------------------------------------------------------------------


def test_readings_of_the_environment(tmp_path: Path) -> None:
    """CUDA and cuDNN of the build, memory, a governor that is not there."""
    build = "  NVIDIA CUDA:                   YES (ver 11.8, CUFFT CUBLAS)\n    cuDNN:  YES (ver 8.6.0)\n"
    assert environment.build_lines(build) == {
        "opencv_cuda": "YES (ver 11.8, CUFFT CUBLAS)",
        "opencv_cudnn": "YES (ver 8.6.0)",
    }
    assert set(environment.build_lines("").values()) == {None}
    assert environment.memory_mib("MemTotal:       16303364 kB\nMemFree: 1 kB\n") == 15921
    assert environment.memory_mib("") is None
    assert environment.peak_mib("VmPeak:\t 9999999 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  1 kB\n") == 200
    assert environment.peak_mib("Name:\tpython\n") is None
    assert environment.first_line(tmp_path / "none") is None


def test_the_peak_of_memory_is_the_measuring_process_s_own() -> None:
    """A process that was started by a larger one does not report the larger one's peak."""
    ballast = bytearray(os.urandom(1 << 20)) * 600
    code = "from gpuhost.yolo import environment as e; print(e.since(e.usage())['peak_memory_mib'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True)
    assert len(ballast) == 600 << 20
    assert 10 < int(done.stdout) < 400
