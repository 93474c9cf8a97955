"""A rebuild whose OpenCV is really built, and one whose wheel is cached. Takes half an hour; not a part of CI:

./run pytest -s -m full tests/e2e/test_rebuild_opencv.py

A bare Debian 12 with a card on its bus, nothing else fake: NVIDIA's wheels of CUDA 13 and cuDNN, their nvcc, OpenCV's
sdist. The plan for Debian names CUDA 12.5, whose nvcc is in NVIDIA's runfile alone, so the locks are edited to CUDA 13
between their writing and their carrying out. The driver is left out, which nothing here needs, and so is TensorFlow
until the last test. One bed serves the tests in the order they stand.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.planning import contents, lock_files, recipes
from gpuhost.planning.catalog import shipped

from .beds import Bed
from .beds.base import PACKAGES, write_card
from .beds.bed import CLONE

pytestmark = pytest.mark.full
SLOT = "0000:01:00.0"
RTX_2080, RTX_3090 = "0x1e82", "0x2204"
LOCK = f"{CLONE}/locks/localhost/stack.json"
WITHOUT = ["--skip-tags", "nvidia_driver,apt_guard,tensorflow,yolo,verify"]
CONFIRMED = ["playbooks/rebuild.yml", "-e", "rebuild_confirm=localhost"]
HOURS = 2 * 3600


class Played(NamedTuple):
    """What a run of a playbook said, on one line, and how long it took."""

    said: str
    seconds: float


class Host:
    """The bed, its slot for a card, and the project in it."""

    def __init__(self, bed: Bed, bus: Path) -> None:
        """`bus` is what the bed sees as the PCI devices."""
        self.bed, self._bus, self._folder = bed, bus, bus.parent

    def insert(self, device: str) -> None:
        """Put a card in for the one that is there; "" puts none."""
        card = self._bus / SLOT
        if not device:
            for file in card.iterdir():
                file.unlink()
            card.rmdir()
            return
        write_card(card, device)

    def play(self, *arguments: str) -> Played:
        """Run a playbook, which must succeed."""
        begun = time.monotonic()
        done = self.bed.run(["./run", "ansible-playbook", *arguments], cwd=CLONE, timeout=HOURS, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        return Played(" ".join(done.stdout.split()), time.monotonic() - begun)

    def lock(self, suffix: str = "") -> Dict[str, Any]:
        """The host's lock, or the one beside it."""
        found: Dict[str, Any] = json.loads(self.bed.read(LOCK + suffix))["gpuhost_lock"]
        return found

    def take_cuda_13(self, suffix: str = "") -> None:
        """Let a lock name the toolkit whose wheels hold nvcc, and an OpenCV that goes with it."""
        lock = self.lock(suffix)
        row = recipes.row_of(shipped(), "4.14")
        lock["plan"]["cuda"] = {"version": "13.0.2", "series": "13.0", "source": "wheels"}
        lock["plan"]["cudnn"] = {"version": "9.13.1.26", "cuda": "13", "source": "wheels"}
        lock["plan"]["opencv"].update(version="4.14.0", artifacts=recipes.sources_of(row))
        closed = {key: lock[key] for key in ("schema", "host", "cards", "plan")}
        closed.update(contents.of(lock["plan"]))
        file = self._folder / f"stack.json{suffix}"
        lock_files.write(file, closed)
        for path in self._folder.iterdir():
            if path.name.startswith("pylock.") or path == file:
                self.bed.push(path, str(Path(LOCK).with_name(path.name)))

    def rebuild(self) -> Played:
        """Make the new lock, edit it, carry it out."""
        self.play(*CONFIRMED, *WITHOUT, "--skip-tags", "rebuild_carry_out")
        self.take_cuda_13(".new")
        return self.play(*CONFIRMED, *WITHOUT)

    def wheels(self) -> List[str]:
        """The built wheels in the cache, each with when it was written: one that is built again is another."""
        find = ["find", "/opt/gpuhost/cache/wheels/opencv", "-name", "*.whl", "-printf", "%P %T@\\n"]
        return sorted(self.bed.run(find).stdout.splitlines())

    def generation(self) -> str:
        """What `current` leads to."""
        return self.bed.run(["readlink", "/opt/gpuhost/current"]).stdout.strip()

    def architectures(self) -> str:
        """For what the cv2 in force was built, by its own words."""
        script = "import cv2, re; print(re.search(r'NVIDIA GPU arch: *(.*)', cv2.getBuildInformation())[1].strip())"
        return self.bed.run(["/opt/gpuhost/current/venvs/opencv_cuda/bin/python", "-c", script]).stdout.strip()


@pytest.fixture(scope="module")
def host(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A Debian 12 with an RTX 2080, for which OpenCV is built and in force."""
    bus = tmp_path_factory.mktemp("rebuild") / "bus"
    bus.mkdir()
    binds = {str(bus): "/sys/bus/pci/devices"}
    with Bed.fresh((*PACKAGES, "python3", "python3-venv"), binds=binds, logs=bus.parent / "logs") as bed:
        made = Host(bed, bus)
        made.insert(RTX_2080)
        bed.clone_project()
        bed.run(["./run", "true"], cwd=CLONE, timeout=HOURS)
        made.play("playbooks/plan.yml")
        made.take_cuda_13()
        print(f"provisioned in {made.play('site.yml', *WITHOUT).seconds:.0f} s")
        yield made


@pytest.fixture(scope="module")
def full(host: Host) -> Played:
    """The rebuild for an RTX 3090, whose OpenCV has to be built."""
    assert host.architectures() == "75" and len(host.wheels()) == 1
    host.insert(RTX_3090)
    return host.rebuild()


def test_another_card_is_built_for(host: Host, full: Played) -> None:
    """A second wheel, for the new card; the old one stays in the cache."""
    assert host.architectures() == "86" and len(host.wheels()) == 2
    assert host.lock()["plan"]["opencv"]["cuda_arch_bin"] == ["8.6"]
    assert "the library holds code for exactly sm_86" in full.said


def test_a_card_whose_wheel_is_cached_is_not_built_for(host: Host, full: Played) -> None:
    """Back to an RTX 2080: the wheel of its key is taken, and proved; the times of both are told."""
    host.insert(RTX_2080)
    there = host.wheels()
    cached = host.rebuild()
    assert host.architectures() == "75" and host.wheels() == there
    assert "the library holds code for exactly sm_75" in cached.said
    ratio = full.seconds / cached.seconds
    print(f"rebuild with a build {full.seconds:.0f} s, with a cached wheel {cached.seconds:.0f} s: {ratio:.1f} times")


def test_going_back_is_one_rename(host: Host) -> None:
    """The generation of the RTX 3090 comes back with nothing built, and then the RTX 2080's again."""
    before = host.generation()
    back = ["playbooks/rollback.yml", *WITHOUT]
    print(f"rollback in {host.play(*back).seconds:.0f} s")
    assert host.architectures() == "86"
    host.play(*back, "-e", f"rollback_to={before.rpartition('/')[2]}")
    assert host.architectures() == "75" and host.generation() == before


def test_the_card_is_taken_out_and_what_is_left_is_good(host: Host) -> None:
    """The CPU's stack, whole: verify/ passes, so the generation is remembered as good, and of what only older ones
    needed nothing is left where the user keeps one."""
    host.insert("")
    done = host.play(*CONFIRMED, "-e", "rebuild_keep=1")
    assert "Remember that verify/ has passed" in done.said
    assert "No benchmark of a generation before" in done.said
    measured = host.play("playbooks/benchmark.yml", "--limit", "localhost", "-e", "benchmark_photos=4")
    assert "photos in" in measured.said
    record = json.loads(host.bed.read("/opt/gpuhost/state/generations.json"))
    assert record["good"] == [int(host.generation().rpartition("/")[2])]
    print(record, host.bed.run(["ls", "/opt/gpuhost/generations", "/opt/gpuhost/store"]).stdout)
