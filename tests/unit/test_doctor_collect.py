"""What the doctor collects: on the example hosts, of CUDA, from whoever is hostile, and over ssh."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from itertools import combinations
from pathlib import Path
from typing import Dict, Sequence, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.cli import doctor as cli
from gpuhost.doctor import bundle, judge, messages, run, words
from gpuhost.doctor.collect import collect
from gpuhost.errors import UsageError
from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.probe import cuda as probe
from gpuhost.shipping import answers
from gpuhost.types import Json

from ..example_hosts import answers_of, folder_of
from .collected import cuda_answer
from .lockless import examined, healthy

#: A libcuda that says what the variable FAKE_CUDA tells it to: a code of cuInit, or a crash.
FAKE = r"""
#include <stdlib.h>
#include <string.h>
static unsigned kept;
int cuInit(unsigned f) { const char *s = getenv("FAKE_CUDA"); if (!s) return 0; if (!strcmp(s, "crash")) abort();
  if (!strcmp(s, "hang")) for (;;); return atoi(s); }
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuGetErrorName(int c, const char **t) { *t = c == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR"; return 0; }
int cuGetErrorString(int c, const char **t) { *t = "no CUDA-capable device is detected"; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int n) { *d = n; return 0; }
int cuDeviceGetName(char *t, int n, int d) { strcpy(t, "Fake\033[31m card"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : 6; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return 0; }
int cuCtxSetCurrent(void *c) { return 0; }
int cuMemAlloc_v2(unsigned long long *p, size_t n) { *p = 1; return 0; }
int cuMemsetD32_v2(unsigned long long p, unsigned v, size_t n) { kept = getenv("FAKE_WRONG") ? 1 : v; return 0; }
int cuMemcpyDtoH_v2(unsigned *t, unsigned long long p, size_t n) { for (size_t i = 0; i < n / 4; i++) t[i] = kept;
  return 0; }
int cuMemFree_v2(unsigned long long p) { return 0; }
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the stand-in library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("fake")
    (folder / "fake.c").write_text(FAKE, encoding="utf-8")
    line = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(folder / "fake.c")]
    subprocess.run(line, check=True)
    return str(folder)


def test_cuda_that_works_is_proved(fake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step, and the words of the card made safe by the report."""
    monkeypatch.setenv("LD_LIBRARY_PATH", fake)
    found = probe.cuda()
    assert found["library"] == f"{fake}/libcuda.so.1"
    assert (found["version"], found["count"], found["error"]) == ("12.4", 1, None)
    assert found["devices"] == [{"name": "Fake\x1b[31m card", "capability": "8.6", "error": None}]
    report = examined({**healthy(), "cuda": found})
    assert report["answer"] == "fine"
    assert "\x1b" not in words.told(report, colours=False)


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("FAKE_CUDA", "100", "cuda.answers"),
        ("FAKE_CUDA", "crash", "cuda.answers"),
        ("FAKE_CUDA", "hang", "cuda.library"),
        ("FAKE_WRONG", "1", "cuda.computes"),
    ],
)
def test_cuda_that_does_not(fake: str, variable: str, value: str, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, a crash and a hang are each told; none of them ends the doctor."""
    monkeypatch.setenv("LD_LIBRARY_PATH", fake)
    monkeypatch.setenv(variable, value)
    found = probe.cuda(limit_s=3.0 if value == "hang" else 60.0)
    findings = examined({**healthy(), "cuda": found})["findings"]
    assert [(row["check"], row["diagnosis"]) for row in findings] == [(check, None)]


#: What the example hosts are, as the doctor has to see them: the first diagnosis, and whether CUDA answers there.
HOSTS = {
    "debian12-no-gpu": "D38",
    "ubuntu1804-gtx750ti": "D37",
    "ubuntu1804-h200": "D37",
    "ubuntu1804-rtx3090-secureboot": "D37",
    "ubuntu1804-unknown-card": "D37",
    "ubuntu1804-gtx750ti-driver470": None,
    "ubuntu1804-quadro-p2000": None,
    "ubuntu1804-mixed-p2000-rtx3090": None,
}


def on_host(name: str) -> Json:
    """What the doctor collects on an example host; commands that it does not know are not installed there."""
    known = answers_of(folder_of(name))

    def replay(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        if argv[0] == "modinfo":
            if not (folder_of(name) / "fs/proc/driver/nvidia/version").exists():
                return 1, "", ""
            version = "470.182.03" if name.endswith("driver470") else "525.105.17"
            return 0, f"filename: /lib/nvidia.ko\nversion: {version}\nlicense: NVIDIA\n", ""
        return known.get(tuple(argv), (NOT_FOUND, "", f"{argv[0]} is not installed"))

    seen = collect(run.releases(), str(folder_of(name) / "fs"), replay, lambda: None)
    if HOSTS.get(name, "") is None:
        found = seen["machine"]["observation"]
        seen["cuda"] = cuda_answer(found)
        driver = seen["machine"]["installed"]["driver"]
        driver["library"] = found["nvidia"]["module_version"]
        nodes = [f"nvidia{number}" for number in range(len(found["gpus"]))]
        seen["machine"]["installed"]["signs"].update(
            nodes=["nvidia-uvm", *nodes, "nvidiactl"], uvm={"loaded": True, "on_demand": False}
        )
    return seen


@pytest.mark.parametrize("name", HOSTS)
def test_the_example_hosts(name: str) -> None:
    """Those without a driver or a card have that cause, and those that are served have none."""
    report = examined(on_host(name))
    assert [row["diagnosis"] for row in report["findings"]][:1] == ([HOSTS[name]] if HOSTS[name] else [])
    assert report["answer"] == ("found" if HOSTS[name] else "fine")


def test_a_kernel_that_boot_does_not_name_is_the_running_one(tmp_path: Path) -> None:
    """Arch has /boot/vmlinuz-linux whatever its release is."""
    root = tmp_path / "fs"
    shutil.copytree(str(folder_of("ubuntu1804-quadro-p2000") / "fs"), str(root), symlinks=True)
    for image in root.glob("boot/vmlinuz-*"):
        image.unlink()
    (root / "boot/vmlinuz-linux").write_text("")
    module = "filename: /lib/nvidia.ko\nversion: 525.105.17\nlicense: NVIDIA\n"

    def replay(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        known = argv[0] == "modinfo" and argv[1:3] == ["-k", "5.4.0-150-generic"]
        return (0, module, "") if known else (NOT_FOUND, "", f"{argv[0]} is not installed")

    seen = collect(run.releases(), str(root), replay, lambda: None)
    assert seen["machine"]["installed"]["driver"]["module"]["version"] == "525.105.17"
    assert "driver.module" in examined(seen)["passed"]


def test_wsl_is_no_machine_that_lost_its_card(tmp_path: Path) -> None:
    """nvidia-smi lists a card that the bus does not show: not a contradiction there, and no driver is missing."""
    root = tmp_path / "fs"
    shutil.copytree(str(folder_of("ubuntu1804-gtx750ti") / "fs"), str(root), symlinks=True)
    shutil.rmtree(str(root / "sys/bus/pci/devices"))
    (root / "sys/bus/pci/devices/fe50:00:00.0").mkdir(parents=True)
    for name, value in (("vendor", "0x1414"), ("device", "0x008e"), ("class", "0x030200")):
        (root / "sys/bus/pci/devices/fe50:00:00.0" / name).write_text(value + "\n")
    (root / "proc/sys/kernel/osrelease").write_text("5.15.90.1-microsoft-standard-WSL2\n")
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev/dxg").write_text("")
    row = "00000000:01:00.0, GPU-00000000-0000-4000-8000-000000000001, NVIDIA GeForce RTX 3080 Ti, 12288, 8.6\n"

    def replay(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        return (0, row, "") if argv[0] == "nvidia-smi" else (NOT_FOUND, "", f"{argv[0]} is not installed")

    seen = collect(run.releases(), str(root), replay, lambda: None)
    assert seen["surroundings"]["place"] == "wsl2"
    assert examined(seen)["findings"] == []
    card = {"name": "NVIDIA GeForce RTX 3080 Ti", "compute_capability": "8.6"}
    assert examined({**seen, "cuda": cuda_answer({"gpus": [card]})})["answer"] == "fine"


@pytest.mark.parametrize("gone", ["etc", "sys", "proc", "dev", "lib", "boot", "usr", "var"])
def test_each_part_is_collected_on_its_own(gone: str, tmp_path: Path) -> None:
    """A missing folder ends nothing and makes nothing green."""
    root = tmp_path / "fs"
    shutil.copytree(str(folder_of("ubuntu1804-quadro-p2000") / "fs"), str(root), symlinks=True)
    shutil.rmtree(str(root / gone), ignore_errors=True)
    report = judge.report(collect(run.releases(), str(root), lambda argv, t: (NOT_FOUND, "", "no"), lambda: None))
    assert report["answer"] != "fine"


#: Parts of a root that show a little of a machine, and nothing of its driver.
PARTS: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "proc": (("proc/modules", "loop 1 0 - Live\n"), ("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n")),
    "sys": (("sys/bus/pci/slots", ""), ("sys/bus/pci/devices/0000:00:00.0/vendor", "0x8086")),
    "dev": (("dev/null", ""),),
    "boot": (("boot/vmlinuz-6.1.0-28-amd64", ""), ("lib/modules/6.1.0-28-amd64/modules.dep", "")),
}


@pytest.mark.parametrize("parts", [c for count in range(len(PARTS)) for c in combinations(PARTS, count)], ids="+".join)
def test_what_was_not_read_is_no_cause(parts: Sequence[str], tmp_path: Path) -> None:
    """A chroot without /proc or /sys, and no program of the host's can be started: the doctor says that it cannot tell,
    and what would let it.
    """
    for name, text in (row for part in parts for row in PARTS[part]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    seen = collect(run.releases(), str(tmp_path), lambda argv, t: (NOT_FOUND, "", f"{argv[0]}: not found"), no_library)
    report = examined(seen)
    assert [(row["check"], row["diagnosis"]) for row in report["findings"]] == []
    assert report["answer"] == "unreadable"
    shown = words.told(report, colours=False)
    assert "libcuda.so.1" in shown
    if "sys" not in parts:
        assert "mount -t sysfs sysfs /sys" in shown
    if "proc" not in parts:
        assert "mount -t proc proc /proc" in shown
    assert "gpuhost doctor --host ssh://USER@HOST" in shown


def no_library() -> Json:
    """What the probe says of CUDA where no libcuda is found."""
    reached = dict.fromkeys(("library", "ended", "init", "counted", "version", "count"))
    return {**reached, "error": "libcuda.so.1: cannot open shared object file", "devices": [], "variables": {}}


HOSTILE = "\x1b]0;title\x07\x1b[2J\u202e\u2028{{ x }}\r\n" + "A" * 9000
TEXT = st.one_of(st.text(max_size=300), st.sampled_from([HOSTILE, "", "NVRM: Xid (PCI): 79", "nvidia 1 0 - Live"]))


#: Files that anybody's machine may hold anything in.
FILES = (
    "etc/os-release",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/more.sources",
    "etc/modprobe.d/more.conf",
    "proc/modules",
    "proc/driver/nvidia/version",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/hostname",
    "sys/bus/pci/devices/0000:01:00.0/device",
)


@pytest.fixture(scope="module")
def fs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a host's files."""
    root = tmp_path_factory.mktemp("machine") / "fs"
    shutil.copytree(str(folder_of("ubuntu1804-quadro-p2000") / "fs"), str(root), symlinks=True)
    return root


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_machine_is_reported_without_a_crash_or_an_escape(fs: Path, data: st.DataObject) -> None:
    """Whatever commands print and files hold: bounded, printable, and in the form of the schema."""
    for name in data.draw(st.lists(st.sampled_from(FILES), max_size=4)):
        (fs / name).parent.mkdir(parents=True, exist_ok=True)
        (fs / name).write_bytes(data.draw(TEXT).encode("utf-8", "surrogatepass"))

    codes = st.sampled_from([0, 0, 0, 1, 9, 124, 127])
    said = data.draw(st.lists(st.tuples(codes, TEXT, TEXT), min_size=1, max_size=6))

    def run_any(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        return said[zlib.crc32(" ".join(argv).encode()) % len(said)]

    card = st.fixed_dictionaries({"name": TEXT, "capability": st.just("6.1"), "error": st.one_of(st.none(), TEXT)})
    seen = collect(run.releases(), str(fs), run_any, lambda: None)
    seen["cuda"] = {**cuda_answer(seen["machine"]["observation"]), "devices": data.draw(st.lists(card, max_size=2))}
    report = judge.report(seen)
    assert answers.doctor({"report": json.loads(json.dumps(report))}).get("report") is not None
    shown = words.told(report, colours=False)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(shown) < 200_000
    assert bundle.text(report, seen)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=2000))
def test_any_text_can_be_asked_about(text: str) -> None:
    """Without a crash, and in the form of the schema."""
    found = messages.pointed(text)
    assert all(char.isprintable() or char == "\n" for char in words.pointed(found))


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "D01"),
        ("modprobe: ERROR: could not insert 'nvidia': Required key not available", "D11"),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device", "D17"),
        ("W: GPG error: NO_PUBKEY A4B469963BF863CC", "D07"),
        ("AssertionError: Torch not compiled with CUDA enabled", "D42"),
        ("NVRM: GPU at 0000:01:00.0 has fallen off the bus.", "D16"),
    ],
)
def test_what_people_paste_points_to_its_diagnosis(text: str, first: str) -> None:
    """The most telling first."""
    assert messages.named(text)[0][0].id == first


def test_over_ssh_the_same_report_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program travels on the standard input; nothing is written there."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    line = [str(ssh), *cli.ssh("ssh://somebody@box.example:2222")[1:]]
    assert line[-6:-1] == ["2222", "-l", "somebody", "--", "box.example"]
    asked = run.parser().parse_args(["--bundle", "x", "--python", "/usr/bin/python3"])
    report, text = cli.there(line, asked)
    assert report["schema"] == 1 and report["python"]["path"] == "/usr/bin/python3"
    assert json.loads(text)["about"].startswith("What gpuhost's doctor saw")


@pytest.mark.parametrize(
    "host", ["box", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://-l@box", "ssh://box/path", "http://box"]
)
def test_what_is_no_address_is_refused(host: str) -> None:
    """Above all what ssh would take for an option."""
    with pytest.raises(UsageError):
        cli.ssh(host)


@pytest.mark.parametrize(
    "hostile", [{}, {"report": {"answer": "fine"}}, {"report": 7}, {"report": {"schema": 1, "messages": []}}]
)
def test_a_strange_answer_is_an_error(hostile: Json) -> None:
    """A host that answers anything else than a report has given none."""
    assert "error" in answers.doctor(hostile)
