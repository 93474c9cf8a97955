"""A host without OpenCV and TensorFlow, by choice: an imitation Ubuntu 18.04 under Secure Boot whose modinfo answers as
kmod 24 does. Not a part of CI:

    ./run pytest -s -n 0 -m full tests/e2e/test_driver_alone.py

All that such a host has can be installed on a bed, so nothing is skipped here and `verify/` is green. The driver, CUDA
and cuDNN are stand-ins (README.md).
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

import pytest

from gpuhost.checks.base import LEFT_OUT, NOT_AUTOMATIC, NOT_BESIDE

from .beds.driver_packages import computing
from .controller import with_status
from .fleet import HWE, Kind, World

pytestmark = pytest.mark.full
NAME, CUDA = "box", "libnvidia-compute-525"
ASKED: Dict[str, Any] = {
    "gpu_stack_without": ["opencv", "tensorflow"],
    "gpu_stack_wanted": {"cuda": "11.8", "cudnn": "8.6"},
    "nvidia_driver_reboot": True,
}


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with an RTX 3090, locked and not provisioned."""
    kinds = {NAME: Kind("2204", HWE, True, "525.105.17", "archive")}
    with World(tmp_path_factory.mktemp("alone"), kinds, **ASKED) as made:
        made.archive.replace(computing(made.archive.package(CUDA), "525.105.17"))
        made.beds[NAME].run(["apt-get", "update"])
        made.plan()
        yield made


def test_it_converges(world: World) -> None:
    """The documented command, `verify/` included; the same again changes nothing."""
    world.controller.ok("site.yml", timeout=1500)
    assert world.controller.ok("site.yml", timeout=900).changed(NAME) == 0
    found = world.installed(NAME)
    assert "525.105.17" in found["loaded"] and "release 11.8" in found["nvcc"] and found["audit"] == ""


def test_modinfo_tells_no_signer(world: World) -> None:
    """As kmod 24 prints it for a module with a good signature, which the signature itself shows to be Canonical's."""
    bed = world.beds[NAME]
    said = bed.run(["modinfo", "-k", HWE, "nvidia"]).stdout
    words = dict(line.split(":", 1) for line in said.splitlines() if line.startswith("sig"))
    assert {name: value.strip() for name, value in words.items() if name in ("signat", "signer", "sig_key")} == {
        "signat": "PKCS#7",
        "signer": "",
        "sig_key": "",
    }, said
    assert "Canonical" in bed.signer(HWE)


def test_verify_is_green(world: World) -> None:
    """Whatever can be asked of this host was asked and passed; what was left out by choice is called so."""
    report = world.controller.verify()[NAME]
    said = world.controller.verified[-3000:]
    assert with_status(report, "fail") == [] and report["verdict"] == "ok", said
    skipped = {check["id"]: check["actual"] for check in report["checks"] if check["status"] == "skip"}
    assert set(skipped.values()) - {NOT_AUTOMATIC} == {LEFT_OUT, NOT_BESIDE}, skipped
    passed = {check["id"] for check in report["checks"] if check["status"] == "pass"}
    assert {"cuda.library", "cuda.answers", "cuda.computes"} <= passed
    theirs = {check["id"] for check in report["checks"] if check["id"].startswith(("opencv.", "tensorflow."))}
    assert theirs <= set(skipped), skipped


#: What is moved away, the check that has to fail, and its diagnosis.
MOVED = (
    ("/usr/lib/x86_64-linux-gnu/libcuda.so.525.105.17", "driver.installed", "D40"),
    ("/opt/gpuhost/current/cuda/lib64/libcudart.so*", "cuda.installed", None),
    ("/opt/gpuhost/current/cudnn/lib/libcudnn.so.8*", "cudnn.installed", None),
)


@pytest.mark.parametrize(("files", "check", "diagnosis"), MOVED, ids=[row[1] for row in MOVED])
def test_files_that_are_moved_away_are_missed_and_come_back(
    world: World, files: str, check: str, diagnosis: Optional[str]
) -> None:
    """No package and no marker says that they are gone. verify/ names it, and the same command brings them back."""
    bed = world.beds[NAME]
    bed.run(["sh", "-c", f"mkdir -p /root/away && mv {files} /root/away && ldconfig"])
    report = world.controller.verify()[NAME]
    assert with_status(report, "fail") == [check], world.controller.verified[-3000:]
    assert next(row["diagnosis"] for row in report["checks"] if row["id"] == check) == diagnosis
    assert world.controller.ok("site.yml", timeout=900).changed(NAME) > 0
    assert world.controller.verify()[NAME]["verdict"] == "ok", world.controller.verified[-3000:]
