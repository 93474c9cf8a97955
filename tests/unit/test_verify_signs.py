"""The probe's reading of the kernel's log, device nodes and free memory, and what environments say of libraries."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from gpuhost.host.commands import NOT_FOUND
from gpuhost.host.edges import Edges
from gpuhost.host.probe import environment as probe_environment
from gpuhost.host.probe.signs import parse_free_memory, signs, telling_lines
from gpuhost.host.probe.surroundings import cdi
from gpuhost.planning import contents
from gpuhost.verification import expected
from gpuhost.verification.collect import telling

from ..recorded import said
from .collected import cpu_host, gpu_host

KERNEL = "5.4.0-150-generic"


class Machine:
    """A root with files, and commands that answer what they are told to."""

    def __init__(self, root: Path) -> None:
        """No command is there."""
        self.root = root
        self.answers: Dict[str, Tuple[int, str, str]] = {}
        self.asked: List[str] = []

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """The answer by the command's first and last word, or by its first."""
        self.asked.append(argv[0])
        missing = (NOT_FOUND, "", f"{argv[0]} is not installed")
        return self.answers.get(f"{argv[0]} {argv[-1]}", self.answers.get(argv[0], missing))

    def write(self, name: str, mode: int = 0o644) -> None:
        """An empty file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)

    def signs(self, smi_answers: bool = True) -> Dict[str, Any]:
        """What the probe makes of it."""
        return signs(Edges(str(self.root), self.run), KERNEL, smi_answers)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine."""
    return Machine(tmp_path)


def test_a_machine_without_anything(machine: Machine) -> None:
    """Nothing is guessed: a log that may not be read is unknown, not empty."""
    assert machine.signs() == {
        "kernel_log": None,
        "nodes": [],
        "closed": {},
        "uvm": {"loaded": False, "on_demand": False},
        "mig": {},
        "free_mib": None,
    }


def test_nodes_and_the_program_that_makes_them(machine: Machine) -> None:
    """Only the driver's own names count; the program must be setuid, and the module be there."""
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia-uvm-tools", "null"):
        machine.write(f"dev/{name}")
    (machine.root / "sys/module/nvidia_uvm").mkdir(parents=True)
    machine.write("usr/bin/nvidia-modprobe", 0o755)
    machine.answers["modinfo nvidia-current-uvm"] = (0, "/lib/modules/x/nvidia-current-uvm.ko\n", "")
    found = machine.signs()
    assert found["nodes"] == ["nvidia-uvm", "nvidia0", "nvidiactl"]
    assert found["uvm"] == {"loaded": True, "on_demand": False}
    machine.write("usr/bin/nvidia-modprobe", 0o755 | stat.S_ISUID)
    assert machine.signs()["uvm"]["on_demand"] is True
    machine.answers.clear()
    assert machine.signs()["uvm"]["on_demand"] is False


def test_nodes_that_this_user_may_not_use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their mode and group, as ls shows them; a link that leads nowhere has neither."""
    for name in ("nvidia0", "nvidiactl"):
        machine.write(f"dev/{name}", 0o660)
    (machine.root / "dev/nvidia-uvm").symlink_to("nowhere")
    assert {**machine.signs()["closed"], "nvidia-uvm": None} == {"nvidia-uvm": None}
    monkeypatch.setattr("os.access", lambda path, mode: path.endswith("nvidiactl"))
    monkeypatch.setattr("grp.getgrgid", lambda number: type("Group", (), {"gr_name": "video"}))
    assert machine.signs()["closed"] == {"nvidia0": {"mode": "-rw-rw----", "group": "video"}}
    monkeypatch.undo()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("grp.getgrgid", unknown_group)
    assert set(machine.signs()["closed"]) == {"nvidia0", "nvidiactl"}
    assert machine.signs()["closed"]["nvidia0"]["group"].isdigit()


def unknown_group(number: int) -> Any:
    """What grp does with a number that has no name."""
    raise KeyError(number)


def test_the_drivers_that_specifications_of_containers_name(machine: Machine) -> None:
    """By file and version; a file of another device has none of them."""
    edges = Edges(str(machine.root), machine.run)
    assert cdi(edges) == {}
    for name in ("etc/cdi/nvidia.yaml", "var/run/cdi/other.json", "etc/cdi/README"):
        machine.write(name)
        text = "hostPath: /usr/lib/libcuda.so.550.54.15\n- /usr/lib/libnvidia-ml.so.550.54.15\n" * ("other" not in name)
        (machine.root / name).write_text(text, encoding="utf-8")
    assert cdi(edges) == {"/etc/cdi/nvidia.yaml": ["550.54.15"]}
    assert edges.problems == []


def test_instances_of_each_card_with_mig(machine: Machine) -> None:
    """The mode by one query, the instances below each card of nvidia-smi -L; a driver before MIG refuses the query."""
    machine.answers["nvidia-smi"] = (6, 'Field "mig.mode.current" is not a valid field to query.\n', "")
    assert machine.signs()["mig"] == {}
    machine.answers["nvidia-smi"] = (
        0,
        "00000000:01:00.0, GPU-a, Enabled\n0:2:0.0, GPU-b, [N/A]\n00000000:03:00.0, GPU-c, Enabled\n",
        "",
    )
    machine.answers["nvidia-smi -L"] = (
        0,
        "GPU 0: NVIDIA A100 (UUID: GPU-a)\n  MIG 3g.20gb Device 0: (UUID: MIG-1)\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-2)\n"
        "GPU 1: NVIDIA T4 (UUID: GPU-b)\nGPU 2: NVIDIA A100 (UUID: GPU-c)\n",
        "",
    )
    assert machine.signs()["mig"] == {"0000:01:00.0": 2, "0000:03:00.0": 0}
    machine.answers["nvidia-smi -L"] = (9, "", "it broke")
    assert machine.signs()["mig"] == {}
    assert machine.signs(smi_answers=False)["mig"] == {}


def test_nvidia_smi_that_fails_is_not_asked_again(machine: Machine) -> None:
    """It may take a minute and a half to fail."""
    machine.answers["nvidia-smi"] = (0, "00000000:01:00.0, 1234\n", "")
    assert machine.signs(smi_answers=False)["free_mib"] is None
    assert "nvidia-smi" not in machine.asked
    assert machine.signs()["free_mib"] == {"0000:01:00.0": 1234}


def test_the_kernels_log_is_cut_to_what_tells() -> None:
    """Times go, other lines go, repeated lines are kept once, the last ones stay."""
    lines = [
        "[    1.000000] usb 1-1: new device",
        "[    2.000000] NVRM: a",
        "[ 3.1][  T99] NVRM: a",
        "<4>[ 4.2] nouveau b",
    ]
    assert telling_lines("\n".join(lines)) == ["NVRM: a", "nouveau b"]
    many = "\n".join(f"[ {number}.0] NVRM: {number} {'x' * 400}" for number in range(100))
    found = telling_lines(many)
    assert len(found) == 40
    assert found[-1].startswith("NVRM: 99 x")
    assert {len(line) for line in found} == {300}


def test_a_module_that_taints_is_no_refusal() -> None:
    """Every host without Secure Boot has that line."""
    log = said("setup-mode", "dmesg")[1]
    assert "nvidia: module verification failed" in log
    assert [line for line in telling_lines(log) if not line.startswith("NVRM: ")] == []


def test_a_refusal_is_kept_without_its_time() -> None:
    """Once, however often a module was tried."""
    assert telling_lines(said("missed", "dmesg")[1]) == [
        "Loading of module with unavailable key is rejected",
        "Loading of unsigned module is rejected",
    ]


@pytest.mark.parametrize("text", ["", "No devices were found", "00000000:01:00.0, [N/A]", "x, 3", "00000000:01:00.0"])
def test_memory_that_is_not_told(text: str) -> None:
    """No figure is not a figure."""
    assert parse_free_memory(text) == {}


def test_the_telling_lines_of_tensorflow() -> None:
    """Once each, short, and not the hundreds of others."""
    lines = ["I tensorflow: oneDNN custom operations are on", *["W dlopen " + "y" * 500] * 3, "E CUDA_ERROR_NO_DEVICE"]
    found = telling("\n".join(lines))
    assert [len(line) for line in found] == [300, len("E CUDA_ERROR_NO_DEVICE")]


# The names that TensorFlow's own messages show: tensorflow#34461 (2.0), #41146 (2.2), #45930 (2.4); and the files of
# NVIDIA's wheels for CUDA 12.
NAMES = {
    "2.0.4": {"libcudart.so.10.0", "libcublas.so.10.0", "libcufft.so.10.0", "libcudnn.so.7"},
    "2.2.3": {"libcudart.so.10.1", "libcublas.so.10", "libcufft.so.10", "libcudnn.so.7"},
    "2.4.4": {"libcudart.so.11.0", "libcublas.so.11", "libcublasLt.so.11", "libcufft.so.10", "libcusolver.so.10"},
    "2.13.1": {"libcudart.so.11.0", "libcublas.so.11", "libcufft.so.10", "libcusolver.so.11", "libcudnn.so.8"},
    "2.21.0": {"libcudart.so.12", "libcublasLt.so.12", "libcufft.so.11", "libcusolver.so.11", "libcudnn.so.9"},
}


@pytest.mark.parametrize("version", NAMES)
def test_the_names_that_tensorflow_loads(version: str) -> None:
    """By the CUDA and cuDNN that it was built with."""
    lock = gpu_host()["lock"]
    lock["contents"]["expects"]["tensorflow"] = contents.tested({"tensorflow": {"version": version}})
    found = expected.sonames(lock)
    assert NAMES[version] | {"libcuda.so.1"} <= set(found)
    assert len(found) == len(set(found)) >= 8


def test_a_cpu_lock_loads_nothing() -> None:
    """There is no toolkit to load from."""
    assert expected.sonames(cpu_host()["lock"]) == []


def test_libraries_are_loaded_in_a_process_apart() -> None:
    """One that is there, one that is not, and one that has another function than cuDNN's."""
    found = probe_environment.loaded(["libc.so.6", "libnot-there.so.9"])
    assert found["libc.so.6"]["error"] is None
    assert found["libc.so.6"]["path"].endswith("/libc.so.6")
    assert "libnot-there.so.9" in found["libnot-there.so.9"]["error"]


def test_a_crash_in_a_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered before it counts."""
    text = probe_environment._LOADER.replace(
        "    print(", "    if name == 'libm.so.6': ctypes.string_at(0)\n    print("
    )
    monkeypatch.setattr(probe_environment, "_LOADER", text)
    found = probe_environment.loaded(["libc.so.6", "libm.so.6"])
    assert found["libc.so.6"]["error"] is None
    assert "crashed" in found["libm.so.6"]["error"]


def test_where_a_module_would_come_from() -> None:
    """Without importing it."""
    for name in ("this", "not_there_at_all"):
        sys.modules.pop(name, None)
    assert str(probe_environment.origin("this")).endswith("this.py")
    assert probe_environment.origin("not_there_at_all") is None
    assert "this" not in sys.modules


def test_the_locked_environments_name_a_tensorflow_that_the_catalog_knows() -> None:
    """Else the checks of its libraries would pass with nothing to hold against."""
    lock = gpu_host()["lock"]
    assert lock["environments"]["dl4cv"]["version"] == lock["plan"]["tensorflow"]["version"]
    assert expected.tested(lock)["cudnn"]
