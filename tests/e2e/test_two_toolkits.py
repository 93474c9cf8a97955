"""One host, two CUDA: OpenCV on the host's 13.0, TensorFlow on the 12.5 of its own wheels. Not a part of CI:

    ./run pytest -s -m full tests/e2e/test_two_toolkits.py

A bare Debian 12 with an RTX 2080 on its bus, nothing else fake: both toolkits are NVIDIA's wheels, TensorFlow and
OpenCV are real. cuDNN is the point of it: both sides have a libcudnn.so.9, of another version. The driver is left out,
so the checks that need one are not reached. The bed's store begins with what `bash .ci/run build` left below
GPUHOST_BUILD_CACHE, OpenCV's wheel above all; without it OpenCV is built, which takes half an hour. One bed serves the
tests in the order they stand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .beds import Bed
from .beds.base import PACKAGES, write_card
from .beds.bed import CLONE

pytestmark = pytest.mark.full
RTX_2080 = "0x1e82"
SOURCES = "/etc/apt/sources.list.d/debian.sources"
ASKED: Dict[str, Any] = {"gpu_stack_wanted": {"cuda": "13"}, "opencv_options": ["--cpu", "AVX2"]}
TOOLKITS = {"opencv_cuda": "cuda-13.0.2-*", "opencv_cudnn": "cudnn-9.13.1.26-*"}
SITE = ["./run", "ansible-playbook", "site.yml", "--skip-tags", "nvidia_driver,apt_guard,yolo,verify"]
VERIFY = "./run pytest verify/ --no-benchmark"
HOURS = 2 * 3600
#: Imports one library and tells cuDNN's own version and the files of CUDA that the process has mapped.
MAPS = """
import ctypes, json, re, sys
__import__(sys.argv[1])
with open("/proc/self/maps") as maps:
    found = {line.split()[-1] for line in maps if re.search("/lib(cu|nv|nccl)[^/]*[.]so", line)}
version = ctypes.CDLL("libcudnn.so.9").cudnnGetVersion
version.restype = ctypes.c_size_t
print(json.dumps([version(), sorted(found)]))
"""


class Prepared(Bed):
    """A bed whose store begins with what an earlier build has left on this machine."""

    def _hardware(self, work: Path) -> List[str]:
        """What the bed writes there is gone with it."""
        top = Path(os.environ.get("GPUHOST_BUILD_CACHE") or Path.home() / ".cache" / "gpuhost-build")
        top.mkdir(parents=True, exist_ok=True)
        self.built_in = str(top)
        # A wheel looks for its libraries where it was built, and its key says where that is.
        self.asked = {**ASKED, **{k: str(path) for k, name in TOOLKITS.items() for path in top.glob(f"store/{name}")}}
        return [f"--overlay={top}::/opt/gpuhost"]


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """The host, provisioned by a lock that nobody edited."""
    bus = tmp_path_factory.mktemp("two") / "bus"
    write_card(bus / "0000:01:00.0", RTX_2080)
    binds = {str(bus): "/sys/bus/pci/devices"}
    with Prepared((*PACKAGES, "python3", "python3-venv"), binds=binds, logs=bus.parent / "logs") as made:
        made.run(["sh", "-c", 'mkdir -p "$(dirname "$0")" && ln -s /opt/gpuhost "$0"', made.built_in])
        made.run(["sed", "-i", "s/^Components:.*/Components: main contrib non-free non-free-firmware/", SOURCES])
        made.run(["apt-get", "update"], timeout=HOURS)
        made.clone_project()
        asked = f"{CLONE}/inventory/host_vars/localhost.json"
        made.run(["sh", "-c", f"mkdir -p {CLONE}/inventory/host_vars && printf %s '{json.dumps(made.asked)}' >{asked}"])
        made.run(["./run", "true"], cwd=CLONE, timeout=HOURS)
        done = made.run(SITE, cwd=CLONE, timeout=HOURS, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        yield made


def locked(bed: Bed) -> Dict[str, Any]:
    """The plan in the host's lock."""
    return dict(json.loads(bed.read(f"{CLONE}/locks/localhost/stack.json"))["gpuhost_lock"]["plan"])


def place(bed: Bed, link: str) -> str:
    """The folder of the store that a link of the generation leads to."""
    return bed.run(["readlink", "-f", f"/opt/gpuhost/current/{link}"]).stdout.strip() + "/"


def loaded(bed: Bed, environment: str, module: str) -> Any:
    """cuDNN's version and the mapped files of CUDA in a process of an environment, in a user's login shell."""
    python = f"/opt/gpuhost/current/venvs/{environment}/bin/python"
    done = bed.run(["sh", "-lc", '"$0" -I -c "$1" "$2"', python, MAPS, module], timeout=600)
    return json.loads(done.stdout.splitlines()[-1])


def checks(bed: Bed) -> Dict[str, Dict[str, Any]]:
    """What verify/ finds, typed in a user's login shell: the report's checks by id."""
    bed.run(["sh", "-lc", VERIFY], cwd=CLONE, check=False, timeout=900)
    report = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))
    return {check["id"]: check for check in report["checks"]}


def test_the_lock_has_two_toolkits(bed: Bed) -> None:
    """The host's is the one that was asked for; TensorFlow's is the pair that it is tested with."""
    plan = locked(bed)
    assert (plan["cuda"]["version"], plan["cudnn"]["version"]) == ("13.0.2", "9.13.1.26")
    own = plan["tensorflow"]
    assert (own["cuda"]["version"], own["cudnn"]["version"]) == ("12.5.1", "9.10.2.21")
    done = bed.run(SITE, cwd=CLONE, timeout=900)
    assert "changed=0 " in done.stdout, done.stdout[-3000:]


def test_each_loads_exactly_its_own(bed: Bed) -> None:
    """By the maps of a process of each, and by the version that the loaded libcudnn.so.9 says."""
    version, files = loaded(bed, "dl4cv", "tensorflow")
    own = place(bed, "venvs/dl4cv")
    names = {Path(file).name.partition(".")[0] for file in files}
    assert version == 91002 and all(file.startswith(own) for file in files), files
    assert {"libcudart", "libcublas", "libcublasLt", "libcudnn", "libcufft", "libcurand", "libcusolver"} <= names
    version, files = loaded(bed, "opencv_cuda", "cv2")
    host = (place(bed, "cuda"), place(bed, "cudnn"))
    assert version == 91301 and all(file.startswith(host) for file in files), files
    assert {Path(file).name for file in files} >= {"libcudnn.so.9", "libcublas.so.13", "libcublasLt.so.13"}


def test_verify_says_so(bed: Bed) -> None:
    """OpenCV's are held to be the host's; what needs a driver is not reached."""
    found = checks(bed)
    assert found["opencv.libraries"]["status"] == "pass", found["opencv.libraries"]
    assert found["tensorflow.computes"]["status"] == "pass", found["tensorflow.computes"]
    assert found["tensorflow.own"]["actual"] == "not reached because of driver.installed"


def test_the_others_cudnn_in_the_way_is_named_and_healed(bed: Bed) -> None:
    """A tutorial's line for TensorFlow in the shell's profile: OpenCV gets TensorFlow's cuDNN, and the remedy, typed as
    it is printed, takes the line out."""
    folder = "/opt/gpuhost/current/venvs/dl4cv/lib/python3.11/site-packages/nvidia/cudnn/lib"
    line = f'export LD_LIBRARY_PATH="{folder}:$LD_LIBRARY_PATH"'
    bed.run(["sh", "-c", 'echo "$0" >/etc/profile.d/tensorflow.sh', line])
    version, files = loaded(bed, "opencv_cuda", "cv2")
    assert version == 91002, files
    found = checks(bed)["opencv.libraries"]
    print(json.dumps(found, indent=1))
    assert (found["status"], found["diagnosis"]) == ("fail", "D51"), found
    assert "/nvidia/cudnn/lib/libcudnn.so.9" in found["actual"]
    # TensorFlow has its own whatever stands there.
    assert loaded(bed, "dl4cv", "tensorflow")[0] == 91002
    assert found["remediation"].startswith("On the host: sed "), found
    bed.run(["sh", "-c", found["remediation"].partition(": ")[2]])
    assert checks(bed)["opencv.libraries"]["status"] == "pass"
    assert loaded(bed, "opencv_cuda", "cv2")[0] == 91301
