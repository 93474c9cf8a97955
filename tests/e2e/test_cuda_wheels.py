"""CUDA and cuDNN from NVIDIA's wheels on a bare Debian 12 whose only fake part is the card: programs are built and run.

What it proves: the locked wheels are on the index, make one prefix, and compilers and linkers find what they need in
it. What it cannot prove without a card: that a kernel runs. NVIDIA's wheels hold nvcc from CUDA 13 on, so the locked
12.5 compiles its kernel with NVRTC, and nvcc is proved with a 13.0 beside it.

The tests stand in the order in which they use the one bed.
"""

from __future__ import annotations

import json
import re
from typing import Dict, Iterator, NamedTuple

import pytest

from .beds import Bed
from .beds.base import PACKAGES, write_card
from .beds.bed import CLONE

#: In CI, `bash .ci/run build` makes a toolkit of NVIDIA's wheels, and compiles with it.
pytestmark = pytest.mark.full

SOURCES = "/etc/apt/sources.list.d/debian.sources"
LOCK = f"{CLONE}/locks/localhost/stack.json"
MINUTES = 15 * 60
RUN_NVRTC = "./rtc --gpu-architecture=sm_61"
NVRTC = r"""
#include <cuda_runtime.h>
#include <nvrtc.h>
#include <cstdio>
int main(int, char **words) {
    nvrtcProgram program;
    const char *text = "extern \"C\" __global__ void add(float *a) { a[threadIdx.x] += 1; }";
    nvrtcCreateProgram(&program, text, "add.cu", 0, nullptr, nullptr);
    int failed = nvrtcCompileProgram(program, 1, words + 1), version = 0;
    size_t size = 0;
    nvrtcGetCUBINSize(program, &size);
    cudaRuntimeGetVersion(&version);
    printf("%d %d %d\n", failed, size > 0, version);
    return failed;
}
"""
CUDNN = r"""
#include <cudnn.h>
#include <cstdio>
int main() { printf("%zu\n", cudnnGetVersion()); }
"""
KERNEL = r"""
#include <cstdio>
#include <thrust/device_vector.h>
__global__ void add(float *a) { a[threadIdx.x] += 1; }
int main() { int version = 0; cudaRuntimeGetVersion(&version); printf("%d\n", version); }
"""


class Recap(NamedTuple):
    """What a run of a playbook ended with, and all that it said, on one line."""

    changed: int
    failed: int
    said: str


def playbook(bed: Bed, name: str, *arguments: str) -> Recap:
    """Run a playbook as a user does who wants NVIDIA's wheels."""
    command = ["./run", "ansible-playbook", f"playbooks/{name}.yml", "-e", "cuda_source=wheels", *arguments]
    done = bed.run(command, cwd=CLONE, timeout=MINUTES, check=False)
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=(\d+)", done.stdout, re.MULTILINE)
    assert found, done.stdout[-2000:]
    return Recap(int(found[-1][0]), int(found[-1][1]), " ".join(done.stdout.split()))


def build_and_run(bed: Bed, name: str, text: str, command: str) -> str:
    """Write a program's text, and compile and run it by a command in a login shell, as a user has one."""
    bed.run(["sh", "-c", f"cat >/root/{name} <<'END'\n{text}\nEND"])
    return bed.run(["sh", "-lc", f"cd /root && {command}"], timeout=300).stdout.strip()


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A Debian 12 with a Quadro P2000 on its bus, a compiler and a fresh clone."""
    bus = tmp_path_factory.mktemp("bus")
    write_card(bus / "0000:01:00.0")
    packages = (*PACKAGES, "g++", "python3", "python3-venv")
    binds: Dict[str, str] = {str(bus): "/sys/bus/pci/devices"}
    with Bed.fresh(packages, binds=binds, logs=tmp_path_factory.mktemp("cuda")) as made:
        made.clone_project()
        made.run(["./run", "true"], cwd=CLONE, timeout=MINUTES)
        # A plan for a card needs the component that Debian's driver is in.
        made.run(["sed", "-i", "s/^Components:.*/Components: main contrib non-free non-free-firmware/", SOURCES])
        made.run(["apt-get", "update"], timeout=300)
        yield made


def test_a_dry_run_changes_nothing(bed: Bed) -> None:
    """`--check --diff` promises all of it on a host that has none of it."""
    before = bed.snapshot(["/etc", "/opt", "/usr"])
    promised = playbook(bed, "cuda", "--check", "--diff")
    assert promised.changed > 2 and promised.failed == 0
    assert before.changes_to(bed.snapshot(["/etc", "/opt", "/usr"])) == []


def test_the_locked_toolkit_is_assembled_and_another_beside_it(bed: Bed) -> None:
    """CUDA 12.5.1, as the plan for the card says, from the wheels; the second run changes nothing."""
    beside = ("-e", '{"cuda_extra": ["13.0.2"]}')
    made = playbook(bed, "cuda", *beside)
    assert made.changed > 2 and made.failed == 0
    assert json.loads(bed.read(LOCK))["gpuhost_lock"]["plan"]["cuda"]["version"] == "12.5.1"
    assert playbook(bed, "cuda", *beside)[:2] == (0, 0)
    assert playbook(bed, "cudnn").failed == 0
    names = bed.run(["ls", "/opt/gpuhost/current"]).stdout.split()
    assert names == ["cuda", "cuda-12.5", "cuda-13.0", "cudnn", "stack.json"]
    assert bed.run(["ls", "/opt/gpuhost/cache"]).stdout.split() == ["wheels"]


def test_a_kernel_is_compiled_for_the_planned_card(bed: Bed) -> None:
    """By NVRTC of 12.5 for 6.1, in a program that g++ links with nothing but what the shell's profile says."""
    flags = '-I"$CUDA_HOME/include" -L"$CUDA_HOME/lib64" -lnvrtc -lcudart'
    assert build_and_run(bed, "rtc.cpp", NVRTC, f"g++ rtc.cpp {flags} -o rtc && {RUN_NVRTC}") == "0 1 12050"


def test_cudnn_is_found_by_the_linker(bed: Bed) -> None:
    """Without LD_LIBRARY_PATH: ld.so.conf.d names current/cudnn/lib."""
    cudnn = "/opt/gpuhost/current/cudnn"
    build = f'g++ -I{cudnn}/include -I"$CUDA_HOME/include" -L{cudnn}/lib dnn.cpp -lcudnn -o dnn && ./dnn'
    assert build_and_run(bed, "dnn.cpp", CUDNN, build) == "91002"


def test_nvcc_of_the_other_toolkit_works(bed: Bed) -> None:
    """A kernel to machine code, linked against its runtime; the locked toolkit stays the one in force."""
    command = "/opt/gpuhost/current/cuda-13.0/bin/nvcc -arch=sm_75 k.cu -o k && ./k"
    assert build_and_run(bed, "k.cu", KERNEL, command) == "13000"
    assert "12.5.1" in bed.read("/opt/gpuhost/current/cuda/version.json")


def test_one_is_removed_and_the_other_works(bed: Bed) -> None:
    """Its link is gone; its folder stays while an older generation needs it; the locked one is not taken out."""
    refused = playbook(bed, "cuda", "--tags", "remove", "-e", "cuda_remove=12.5.1")
    assert refused[:2] == (0, 1) and "CUDA 12.5.1 is the locked toolkit" in refused.said
    removed = playbook(bed, "cuda", "--tags", "remove", "-e", "cuda_remove=13.0.2")
    assert removed[:2] == (1, 0) and "is kept: generation" in removed.said
    assert "cuda-13.0" not in bed.run(["ls", "/opt/gpuhost/current"]).stdout
    assert len(bed.run(["sh", "-c", "ls -d /opt/gpuhost/store/cuda-13.0.2-*"]).stdout.split()) == 1
    assert bed.run(["sh", "-lc", f"cd /root && {RUN_NVRTC}"]).stdout.strip() == "0 1 12050"


def test_all_of_it_is_removed(bed: Bed) -> None:
    """The linker's files go at once, the folders as soon as no generation is there to go back to."""
    remove = ("cuda", "--tags", "remove", "-e", "cuda_remove=all")
    assert playbook(bed, *remove)[:2] == (2, 0)
    assert (
        bed.run(["sh", "-c", "ls /etc/ld.so.conf.d/gpuhost.conf /etc/profile.d/gpuhost.sh"], check=False).stdout == ""
    )
    assert "/opt/gpuhost" not in bed.run(["/sbin/ldconfig", "-p"]).stdout
    older = (
        'cd /opt/gpuhost/generations && now=$(basename "$(readlink ../current)") && ls | grep -vx "$now" | xargs rm -r'
    )
    bed.run(["sh", "-c", older])
    assert playbook(bed, *remove)[:2] == (1, 0)
    assert bed.run(["ls", "/opt/gpuhost/store"]).stdout == ""
