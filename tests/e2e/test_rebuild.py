"""The card is swapped, the host goes back, and gpuhost is taken off it again: on an imitation Ubuntu 18.04 host.

What is real there and what is not, README.md says. The new lock's checksums are replaced by those of the stand-ins
between its writing and its carrying out, which also shows that a rebuild goes on with the lock it has made. OpenCV with
CUDA cannot be built with a stand-in of nvcc, so it is left out, as are TensorFlow and the detector.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from gpuhost.planning import plan
from gpuhost.planning.gpus import parse
from gpuhost.planning.request import request_from
from gpuhost.planning.resolve import resolver

from .beds.bed import PROJECT
from .beds.snapshot import Snapshot
from .beds.ubuntu import UbuntuBed
from .controller import Run, with_status
from .fleet import HWE, WATCHED, Kind, World, driver_packages, packages, state
from .readme import section_commands

NAME = "host"
WITHOUT = "tensorflow,opencv,yolo,verify"
SITE = ("site.yml", "--skip-tags", WITHOUT)
TEXT = (PROJECT / "docs/runbooks/rebuild.md").read_text(encoding="utf-8")


def written(heading: str, number: int) -> List[str]:
    """A command of the runbook for this host, as ansible-playbook's arguments, without what is left out here."""
    words = shlex.split(section_commands(TEXT, heading)[number].replace("HOST", NAME))
    assert words[:2] == ["./run", "ansible-playbook"], words
    return [*words[2:], "--skip-tags", WITHOUT]


REBUILD, CONFIRMED = written("Rebuild", 0), written("Rebuild", 1)
ROLLBACK_SHOWN, ROLLBACK = written("Go back", 0), written("Go back", 1)
FUTURE_SHOWN, PREFETCH = written("Before the swap", 1), written("Before the swap", 2)
REMOVE_SHOWN, REMOVE = written("Remove", 0), written("Remove", 1)
RELOCK = written("A damaged lock", 0)
#: Left out here, as said above.
LEFT_OUT = {"tensorflow.installed", "opencv.installed"}
DRIVER_525 = "525.105.17"


def other_card(arguments: List[str], card: str) -> List[str]:
    """The runbook's command for another card than its example's."""
    assert "rebuild_future_gpu=RTX 3090" in arguments
    return [card if word == "rebuild_future_gpu=RTX 3090" else word for word in arguments]


def new_world(folder: Any, card: str = "1c30") -> World:
    """One host with a card."""
    return World(folder, {NAME: Kind(card, HWE, False, DRIVER_525, "archive")}, nvidia_driver_reboot=True)


def administrators_own(bed: UbuntuBed) -> None:
    """What somebody has installed before: bionic's Python 3.8, and its C headers, as Debian's do not go with that."""
    for package in ("python3.8", "libc6-dev"):
        bed.run(["apt-get", "--yes", "install", package])


@pytest.fixture(scope="module")
def world(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host with a Quadro P2000, provisioned."""
    with new_world(tmp_path_factory.mktemp("rebuild")) as made:
        administrators_own(made.beds[NAME])
        made.bare = made.beds[NAME].snapshot(WATCHED)  # type: ignore[attr-defined]
        made.rtx3090 = "2204"  # type: ignore[attr-defined]
        made.plan()
        made.controller.ok(*SITE)
        yield made


def rebuild(world: World) -> Run:
    """Carry a rebuild out: the lock is made first, gets the stand-ins' checksums, and the same command goes on.

    The first of the two runs, which tells what will change.
    """
    made = world.controller.ok(*CONFIRMED, "--skip-tags", "rebuild_carry_out")
    assert made.changed(NAME) == 1, made.out[-3000:]
    world.controller.edit_lock(NAME, world.stand_ins, ".new")
    world.controller.ok(*CONFIRMED)
    return made


def loaded(world: World) -> str:
    """The driver that the kernel has loaded."""
    return str(world.installed(NAME)["loaded"])


def generation(world: World) -> str:
    """What `current` leads to."""
    return world.beds[NAME].run(["readlink", "/opt/gpuhost/current"]).stdout.strip()


def failed(world: World) -> List[str]:
    """The checks of verify/ that fail, but for what is left out here."""
    report = world.controller.verify("--no-benchmark", only=NAME)[NAME]
    return sorted(set(with_status(report, "fail")) - LEFT_OUT)


def changes(before: Snapshot, after: Snapshot) -> List[str]:
    """What is otherwise on a host, but for our own log."""
    return [line for line in before.changes_to(after) if " /opt/gpuhost/log/" not in line]


@pytest.mark.full
def test_a_dead_card_is_refused(world: World) -> None:
    """On the bus and silent: no stack fixes that, and the host stays as it is."""
    bed = world.beds[NAME]
    bed.swap("1c30!")
    before = bed.snapshot(WATCHED)
    done = world.controller.run(*CONFIRMED)
    told = done.failure(NAME)
    assert done.rc != 0 and "does not answer the driver 525.105.17" in told and "Xid" in told, done.out[-3000:]
    assert changes(before, bed.snapshot(WATCHED)) == []


def test_without_a_confirmation_nothing_changes(world: World) -> None:
    """An RTX 3090 is in: everything is shown, nothing is changed, and the command to type is the last word."""
    bed = world.beds[NAME]
    bed.swap("2204")
    before, lock = bed.snapshot(WATCHED), world.controller.lock_file(NAME).read_bytes()
    done = world.controller.run(*REBUILD)
    assert done.rc != 0 and f"--limit {NAME} -e rebuild_confirm={NAME}" in done.failure(NAME), done.out[-3000:]
    assert "cards: locked 10de:1c30, present 10de:2204" in done.out
    assert "built for 6.1, needed is 8.6" in done.out
    assert "built for 6.1, needed is 8.6" in world.controller.ok(*REBUILD, "--check", "--diff").out
    assert changes(before, bed.snapshot(WATCHED)) == []
    assert world.controller.lock_file(NAME).read_bytes() == lock
    beside = [path.name for path in world.controller.lock_file(NAME).parent.iterdir()]
    assert [name for name in beside if not name.startswith("pylock.")] == ["stack.json"]
    refused = world.controller.run(*SITE)
    assert "playbooks/rebuild.yml" in refused.failure(NAME)


def test_another_card_of_the_same_driver(world: World) -> None:
    """P2000 -> RTX 3090: the driver stays as it is, lock and generation are new; the same again changes nothing."""
    bed = world.beds[NAME]
    before = driver_packages(bed)
    rebuild(world)
    assert world.controller.lock(NAME)["plan"]["opencv"]["cuda_arch_bin"] == ["8.6"]
    assert driver_packages(bed) == before and DRIVER_525 in loaded(world)
    assert generation(world) == "generations/2"
    assert failed(world) == []
    assert world.controller.ok(*SITE).changed(NAME) == 0


@pytest.mark.full
def test_the_same_model_with_another_uuid(world: World) -> None:
    """Only lock and generation are new."""
    bed = world.beds[NAME]
    uuids = [card["uuid"] for card in world.controller.lock(NAME)["cards"]]
    assert all(uuids)
    world.rtx3090 = "2204#2"  # type: ignore[attr-defined]
    bed.swap("2204#2")
    shown = rebuild(world)
    assert "of the same model" in shown.out and "OpenCV: stays as it is" in shown.out, shown.out[-3000:]
    assert [card["uuid"] for card in world.controller.lock(NAME)["cards"]] != uuids


#: The runbook's commands that are not playbooks of the other tests here.
VERIFY = "./run pytest verify/ --hosts=HOST"
HISTORY = "./run gpuhost history HOST"
COMPARE = './run gpuhost plan --os ubuntu-18.04 --compare "Quadro P2000" "RTX 3090"'
LOOK = ("nvidia-smi", "journalctl -k -b | grep -i -e nvidia -e nvrm -e nouveau")
#: test_rebuild_opencv.py runs it: there is no detector here.
BENCHMARK = "./run ansible-playbook playbooks/benchmark.yml --limit HOST"


def test_no_command_of_the_runbook_is_run_by_nobody(world: World) -> None:
    """What it says is exactly what the tests here run, and these: the comparison, verify/, the history, the looking."""
    played = (REBUILD, CONFIRMED, ROLLBACK_SHOWN, ROLLBACK, FUTURE_SHOWN, PREFETCH, REMOVE_SHOWN, REMOVE, RELOCK)
    known = {shlex.join(["./run", "ansible-playbook", *words[:-2]]) for words in played}
    known |= {shlex.join(shlex.split(line.replace("HOST", NAME))) for line in (VERIFY, HISTORY, COMPARE, BENCHMARK)}
    found = re.findall(r"(?:^ {4,}|`)(\./run [^`\n]+)", TEXT, re.MULTILINE)
    assert {shlex.join(shlex.split(line.replace("HOST", NAME))) for line in found} == known
    report = world.controller.verify("--no-benchmark", only=NAME)[NAME]
    assert report["verdict"] == "broken"  # for what is left out here
    kept = ["--reports", str(world.controller.folder / "reports")]
    for line, more, told in (HISTORY, kept, "report"), (COMPARE, [], "RTX 3090"):
        words = shlex.split(line.replace("HOST", NAME))[2:]
        command = [sys.executable, "-m", "gpuhost.cli", *words, *more]
        done = subprocess.run(command, cwd=str(PROJECT), stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0 and told in done.stdout
    assert all(f"    {line}\n" in TEXT for line in LOOK)
    bed = world.beds[NAME]
    assert DRIVER_525 in bed.run(["sh", "-c", LOOK[0]]).stdout
    assert bed.run(["sh", "-c", LOOK[1]], check=False).returncode in (0, 1)  # a bed's kernel log may be empty


def test_a_card_that_needs_another_source(world: World) -> None:
    """RTX 3090 -> H200: the archive's driver goes, NVIDIA's .run comes."""
    bed = world.beds[NAME]
    bed.swap("2335")
    shown = rebuild(world)
    assert "does not claim H200" in shown.out, shown.out[-4000:]
    assert "550.163.01" in loaded(world)
    assert not [name for name in driver_packages(bed) if name.startswith("nvidia-driver")]
    record = state(bed, "driver")
    assert record is not None and record["source"] == "runfile"
    assert failed(world) == []


@pytest.mark.full
def test_a_card_that_is_to_come(world: World, tmp_path: Path) -> None:
    """A Tesla K80, which needs an older branch: shown without a change; its driver is fetched beforehand.

    The runbook's command is a dry run here, because NVIDIA's own files are stand-ins; the role itself fetches the
    driver.
    """
    bed = world.beds[NAME]
    watched = ["/boot", "/etc", "/usr", "/lib/modules"]
    before, in_force, card = bed.snapshot(watched), generation(world), "rebuild_future_gpu=Tesla K80"
    shown = world.controller.ok(*other_card(FUTURE_SHOWN, card))
    said = " ".join(shown.out.split())
    assert "Tesla K80 is Kepler" in said and "-> 470.182.03" in said
    world.controller.ok(*other_card(PREFETCH, card), "--check")
    assert "not in this host" in world.controller.run(*CONFIRMED, "-e", card).failure(NAME)
    found = resolver()
    request = request_from(found, "ubuntu-18.04", [parse(found.catalog, "Tesla K80")], {}, kernel=HWE)
    coming = {"plan": plan.make(found, request)}
    world.stand_ins(coming)
    fetch = {"import_role": {"name": "nvidia_driver", "tasks_from": "prefetch"}, "vars": {"nvidia_driver_lock": coming}}
    play = {"hosts": "gpu_hosts", "gather_facts": False, "tasks": [{"import_role": {"name": "gpu_facts"}}, fetch]}
    file = tmp_path / "play.json"
    file.write_text(json.dumps([play]), encoding="utf-8")
    assert world.controller.ok(str(file)).changed(NAME) == 1
    assert "470.182.03" in bed.run(["sh", "-c", "ls /opt/gpuhost/cache/debs/*/nvidia-driver-470_*.deb"]).stdout
    assert world.controller.ok(str(file)).changed(NAME) == 0
    assert before.changes_to(bed.snapshot(watched)) == [] and generation(world) == in_force


def test_going_back_needs_no_network(world: World) -> None:
    """The RTX 3090 is put back: its driver's packages, modules, holds and lock come back, from what was kept."""
    bed = world.beds[NAME]
    bed.swap(world.rtx3090)  # type: ignore[attr-defined]
    asked = (len(world.archive.requests), len(world.mirror.requests))
    wanted = state_of_525(world)
    left = generation(world)
    number = int(left.rpartition("/")[2]) - 1
    shown = world.controller.ok(*ROLLBACK_SHOWN)
    assert f"going back to generation {number}" in shown.out and generation(world) == left
    done = world.controller.ok(*ROLLBACK)
    assert (len(world.archive.requests), len(world.mirror.requests)) == asked
    assert generation(world) == f"generations/{number}"
    assert DRIVER_525 in loaded(world)
    record = state(bed, "driver")
    assert record is not None and (record["source"], record["debs"]) == ("archive", wanted), done.out[-3000:]
    there = packages(bed)
    assert {name: there.get(name) for name in record["packages"]} == record["packages"]
    assert world.controller.lock(NAME)["plan"]["driver"]["version"] == DRIVER_525
    assert failed(world) == []
    again = world.controller.ok(*ROLLBACK)
    assert again.changed(NAME) == 0 and generation(world) == f"generations/{number}"


def state_of_525(world: World) -> Dict[str, str]:
    """The checksums of the set as it was installed first, from the cache's own list."""
    bed = world.beds[NAME]
    text = bed.run(["sh", "-c", "grep -l nvidia-driver-525 /opt/gpuhost/cache/debs/sets/*.json"]).stdout.split()[0]
    rows = json.loads(bed.read(text))["members"]
    return {row["name"]: row["sha256"] for row in rows}


@pytest.mark.full
def test_a_second_card_of_another_generation(world: World) -> None:
    """RTX 3090 -> RTX 3090 and Quadro P2000: one driver for both, OpenCV for both capabilities."""
    bed = world.beds[NAME]
    bed.swap("2204#2", "1c30")
    shown = rebuild(world)
    assert "built for 8.6, needed is 6.1, 8.6" in shown.out, shown.out[-3000:]
    lock = world.controller.lock(NAME)
    assert lock["plan"]["opencv"]["cuda_arch_bin"] == ["6.1", "8.6"] and len(lock["cards"]) == 2
    assert DRIVER_525 in loaded(world) and failed(world) == []


@pytest.mark.full
def test_an_older_card_that_needs_an_older_branch(world: World) -> None:
    """-> Tesla K80: the archive's 470 in the place of its 525, held like that one was."""
    bed = world.beds[NAME]
    bed.swap("102d")
    rebuild(world)
    assert "470.182.03" in loaded(world)
    there = driver_packages(bed)
    assert "nvidia-driver-470" in there and "nvidia-driver-525" not in there
    assert "nvidia-driver-470" in bed.run(["apt-mark", "showhold"]).stdout
    assert failed(world) == []


@pytest.mark.full
def test_the_card_is_taken_out(world: World) -> None:
    """The CPU stack: no driver, no guard, no CUDA in force."""
    bed = world.beds[NAME]
    bed.swap()
    rebuild(world)
    assert world.controller.lock(NAME)["plan"]["driver"] is None
    assert not [name for name in driver_packages(bed) if "nvidia" in name]
    assert bed.run(["apt-mark", "showhold"]).stdout == ""
    assert bed.run(["test", "-e", "/opt/gpuhost/current/cuda"], check=False).returncode != 0
    assert world.controller.ok(*CONFIRMED).changed(NAME) == 0


#: What a removal leaves otherwise than it was: records of other programs, and what they make again.
NOT_OURS = (
    "/boot/initrd.img-", "/etc/ld.so.cache", "/etc/mtab", "/etc/.pwd.lock", "/lib/modules/", "/usr/lib/modules/",
    "/root/.ansible", "/var/lib/dpkg/status", "/var/lib/dpkg/available", "/var/lib/dpkg/info", "/var/lib/dpkg/lock",
    "/var/lib/dpkg/triggers",
)  # fmt: skip


@pytest.mark.full
def test_a_damaged_lock(world: World) -> None:
    """It stops a playbook before anything is changed; made again as the runbook says it is the same plan."""
    file, held = world.controller.lock_file(NAME), world.controller.lock(NAME)
    before = world.beds[NAME].snapshot(WATCHED)
    file.write_bytes(file.read_bytes()[:200])
    assert "cannot be read" in world.controller.run(*SITE).failure(NAME)
    assert changes(before, world.beds[NAME].snapshot(WATCHED)) == []
    world.controller.ok(*RELOCK)
    world.controller.edit_lock(NAME, world.stand_ins)
    assert world.controller.lock(NAME)["plan"] == held["plan"]
    world.controller.ok(*SITE)


def test_everything_goes_and_nothing_else(world: World) -> None:
    """On a host that is watched too: `--check` shows, without a confirmation nothing happens, then all is gone."""
    bed = world.beds[NAME]
    bed.swap("1c30")
    rebuild(world)
    world.controller.ok("playbooks/watch.yml")
    bed.run(["apt-get", "--yes", "install", "wget"])  # somebody else's, in between
    # What it writes at the full hour is not what is looked for; its first run, which the timer began, is waited for.
    bed.run(["systemctl", "stop", "gpuhost-watch.timer"])
    bed.run(["systemctl", "start", "gpuhost-watch.service"], check=False)
    before = bed.snapshot(WATCHED)
    refused = world.controller.run(REMOVE[0])
    assert f"-e removal_confirm={NAME}" in refused.failure(NAME)
    shown = world.controller.ok(*REMOVE_SHOWN)
    assert "nvidia-driver-525" in shown.out and "apt-mark showhold" in shown.out
    assert changes(before, bed.snapshot(WATCHED)) == []
    bed.run(["systemctl", "start", "gpuhost-watch.timer"])
    world.controller.ok(*REMOVE)
    left = world.bare.changes_to(bed.snapshot(WATCHED))  # type: ignore[attr-defined]
    assert [line for line in left if not line.split()[1].startswith(NOT_OURS)] == []
    assert world.controller.ok(*REMOVE).changed(NAME) == 0
