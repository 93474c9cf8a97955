"""Two toolkits, an archive that moved on, another card, then the update: one imitation Ubuntu 18.04. Not a part of CI:

    ./run pytest -s -n 0 -m full tests/e2e/test_rebuild_two_toolkits.py

The host's CUDA 11.7 and cuDNN 8.9 are stand-ins; TensorFlow is real, and so are the CUDA 11.8 and cuDNN 8.6 of its own
wheels. libcudart.so.11.0 and libcudnn.so.8 are on both sides. A stand-in of nvcc builds no OpenCV, so that is left out
(test_two_toolkits.py has it). The locks are closed: each is what the playbooks wrote, but for the checksums of the
stand-ins. Each test goes on from where the one before it left the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from . import healed
from .beds.archive import next_month
from .beds.bed import PROJECT
from .beds.releases import BIONIC
from .controller import with_status
from .fleet import HWE, Kind, World, driver_packages, state

pytestmark = pytest.mark.full
NAME = "box"
OLD, NEW = "525.105.17-0ubuntu0.18.04.1", "525.125.06-0ubuntu0.18.04.1"
NEXT = BIONIC.next_kernels[1].release
WITHOUT = ("--skip-tags", "verify,opencv,yolo")
SITE = ("site.yml", *WITHOUT)
REBUILD = ("playbooks/rebuild.yml", "-e", f"rebuild_confirm={NAME}", *WITHOUT)
UPDATE = ("playbooks/update.yml", *WITHOUT)
ASKED = {"cuda": "11.7", "cudnn": "8"}
#: What cannot pass here: see above, and there is no card that computes.
LEFT_OUT = ["opencv.installed", "tensorflow.gpu"]
MAPS = """
import ctypes, json, re, sys
before = sys.argv[1] == "dl4cv" and __import__("tensorflow")
found = {name: ctypes.CDLL(name) for name in ("libcudart.so.11.0", "libcudnn.so.8")}
with open("/proc/self/maps") as maps:
    files = {line.split()[-1] for line in maps if re.search("/lib(?!cuda[.])(cu|nv|nccl)[^/]*[.]so", line)}
print(json.dumps([found["libcudnn.so.8"].cudnnGetVersion(), sorted(files)]))
"""


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with a Quadro P2000 under Secure Boot, provisioned."""
    kinds = {NAME: Kind("1c30", HWE, True, "525.105.17", "archive")}
    asked: Dict[str, Any] = {"gpu_stack_wanted": ASKED, "nvidia_driver_reboot": True}
    with World(tmp_path_factory.mktemp("two"), kinds, **asked) as made:
        made.plan()
        made.controller.ok(*SITE, timeout=3600)
        yield made


def loaded(world: World, environment: str) -> Any:
    """cuDNN's version and the mapped files of CUDA in a process of an environment, or of the system's Python; libcuda
    is the driver's.
    """
    venv = f"/opt/gpuhost/current/venvs/{environment}/bin/python"
    python = venv if environment == "dl4cv" else "/usr/bin/python3.8"
    done = world.beds[NAME].run([python, "-I", "-c", MAPS, environment], timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def each_loads_its_own(world: World) -> None:
    """TensorFlow what its environment holds, and every other program what the linker knows: the host's."""
    bed = world.beds[NAME]
    own, cuda, cudnn = (
        bed.run(["readlink", "-f", f"/opt/gpuhost/current/{link}"]).stdout.strip() + "/"
        for link in ("venvs/dl4cv", "cuda", "cudnn")
    )
    version, files = loaded(world, "dl4cv")
    names = {Path(file).name for file in files}
    assert version == 8600 and all(file.startswith(own) for file in files), files
    assert {"libcudart.so.11.0", "libcudnn.so.8", "libcublas.so.11", "libcublasLt.so.11"} <= names
    version, files = loaded(world, "")
    assert version == 8907 and all(file.startswith((cuda, cudnn)) for file in files), files


def closed(world: World) -> Dict[str, Any]:
    """The host's plan, after `gpuhost lock check` has passed its lock and site.yml has found nothing to do."""
    file = str(world.controller.lock_file(NAME))
    checked = subprocess.run(
        [sys.executable, "-m", "gpuhost.cli", "lock", "check", file],
        cwd=str(PROJECT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert world.controller.ok(*SITE).changed(NAME) == 0
    plan: Dict[str, Any] = world.controller.lock(NAME)["plan"]
    assert (plan["cuda"]["version"], plan["cudnn"]["version"]) == ("11.7.1", "8.9.7.29")
    own = plan["tensorflow"]
    assert (own["cuda"]["version"], own["cudnn"]["version"]) == ("11.8.0", "8.6.0.163")
    return plan


def failed(world: World) -> List[str]:
    """The checks of verify/ that fail."""
    found = with_status(world.controller.verify("--no-benchmark")[NAME], "fail")
    print(found, flush=True)
    return found


def test_two_toolkits(world: World) -> None:
    """As the lock has them; each is loaded by those that it is for, and verify/ says so."""
    driver = closed(world)["driver"]
    assert driver["package_version"] == OLD
    each_loads_its_own(world)
    assert failed(world) == LEFT_OUT


def test_what_loads_tensorflows_own_is_gone(world: World) -> None:
    """Its environment's starter: TensorFlow's libcudart.so.11.0 is searched for by name and the host's is found, which
    verify/ names; the remedy, typed as printed, makes the environment again.
    """
    bed = world.beds[NAME]
    bed.run(["sh", "-c", "rm /opt/gpuhost/current/venvs/dl4cv/lib/python3.8/site-packages/gpuhost_libraries.pth"])
    report = world.controller.verify("--no-benchmark")[NAME]
    assert with_status(report, "fail") == ["opencv.installed", "tensorflow.own"]
    (found,) = [check for check in report["checks"] if check["id"] == "tensorflow.own"]
    print(json.dumps(found, indent=1), flush=True)
    assert found["diagnosis"] == "D51" and found["actual"].endswith("/current/cuda/lib64/libcudart.so.11.0")
    command, here = healed.places(found["remediation"])
    assert here.startswith("./run ansible-playbook -i ") and here.endswith(f" --limit {NAME} site.yml")
    bed.run(["sh", "-c", command])
    world.controller.ok(*SITE, timeout=1500)
    each_loads_its_own(world)
    assert failed(world) == LEFT_OUT


def test_the_archive_moves_on(world: World) -> None:
    """What the lock names is gone from there: the host stays as it is, byte for byte of its lock."""
    lock, before = world.controller.lock_file(NAME).read_bytes(), driver_packages(world.beds[NAME])
    world.archive.add(next_month())
    world.beds[NAME].run(["apt-get", "update"])
    assert world.archive.version("nvidia-driver-525") == NEW
    assert closed(world)["driver"]["package_version"] == OLD
    assert world.controller.lock_file(NAME).read_bytes() == lock and driver_packages(world.beds[NAME]) == before
    assert failed(world) == LEFT_OUT


def test_another_card(world: World) -> None:
    """An RTX 3090: its lock takes the driver that is there now, for the kernel that boots; the toolkits stay two."""
    bed = world.beds[NAME]
    environment = bed.run(["readlink", "-f", "/opt/gpuhost/current/venvs/dl4cv"]).stdout
    bed.swap("2204")
    world.controller.ok(*REBUILD, "--skip-tags", "rebuild_carry_out")
    world.controller.edit_lock(NAME, world.stand_ins, ".new")
    world.controller.ok(*REBUILD, timeout=1500)
    plan = closed(world)
    assert plan["opencv"]["cuda_arch_bin"] == ["8.6"]
    assert (plan["driver"]["package_version"], plan["driver"]["modules"]["kernel"]) == (NEW, HWE)
    assert "525.125.06" in bed.run(["cat", "/proc/driver/nvidia/version"]).stdout
    assert bed.run(["readlink", "-f", "/opt/gpuhost/current/venvs/dl4cv"]).stdout == environment
    each_loads_its_own(world)
    assert failed(world) == LEFT_OUT


def test_the_update(world: World) -> None:
    """The newer kernel with its modules; driver and toolkits stay. The same again has nothing to do."""
    bed = world.beds[NAME]
    shown = world.controller.ok(*UPDATE, "--check", "--diff")
    assert f"kernel: {HWE} -> {NEXT}" in shown.out and f"driver: {NEW} stays" in shown.out, shown.out[-3000:]
    world.controller.ok(*UPDATE, timeout=1500)
    plan = closed(world)
    assert (plan["driver"]["package_version"], plan["driver"]["modules"]["kernel"]) == (NEW, NEXT)
    record = state(bed, "driver")
    assert record is not None and record["kernel"] == NEXT and "Canonical" in bed.signer(NEXT)
    assert bed.read("/proc/sys/kernel/osrelease").strip() == NEXT
    each_loads_its_own(world)
    assert world.controller.ok(*UPDATE).changed(NAME) == 0
    assert failed(world) == LEFT_OUT
