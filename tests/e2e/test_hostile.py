"""Twenty hosts that lie, in each of the project's playbooks: nothing of theirs runs, writes or shows on the controller.

`GPUHOST_SEED=N` repeats a run; each failure prints its seed and what each host had put where.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from .beds.bed import PROJECT
from .hostile import CODE, Attacked, HostileBed, complaints, payloads, vary, words_to_ansible

#: How many hosts answer in one run, in CI and in full.
SOME, HOSTS = 8, 20


class Way(NamedTuple):
    """A playbook that a user types, and the modules whose answers are replaced."""

    name: str
    playbook: str
    arguments: Tuple[str, ...] = ()
    #: Whether the hosts have locks when it begins, made from an honest answer.
    locked: bool = True


WAYS = [
    Way("plan", "playbooks/plan.yml", locked=False),
    Way("compare", "playbooks/plan.yml"),
    Way("site", "site.yml", ("--check", "--diff")),
    Way("verify", "playbooks/verify.yml"),
    Way("rollback", "playbooks/rollback.yml", ("--check",)),
    Way("rebuild", "playbooks/rebuild.yml", ("--check", "--diff")),
]


def honest() -> Dict[str, Any]:
    """Return what an honest, provisioned host answers, by module and by program of verify/."""
    sys.path.insert(0, str(PROJECT))  # beds import each other from this folder, and the hosts stand beside it
    try:
        seen = importlib.import_module("tests.unit.collected").gpu_host()
        offering = importlib.import_module("tests.offered").offering
    finally:
        sys.path.remove(str(PROJECT))
    environments = seen["environments"]
    return {
        "gpuhost_facts": {"observation": offering(seen["machine"]["observation"])},
        "gpuhost_generation_info": {"found": generations(seen["lock"])},
        "host.probe.installed": seen["machine"],
        "host.probe.environment/opencv": environments["opencv_cuda"],
        "host.probe.environment/tensorflow": environments["dl4cv"],
        "bench": seen["benchmark"]["yolov3"],
    }


def generations(lock: Dict[str, Any]) -> Dict[str, Any]:
    """Return what gpuhost_generation_info says of a host that has been rebuilt once."""
    rows = [{"number": number, "stack": lock, "links": {"yolo": f"store/yolo-{number}"}} for number in (1, 2)]
    lists: Dict[str, Any] = {name: [] for name in ("artifacts", "debs", "wheels", "store")}
    known = {"current": 2, "came_by": "switch", "before": 1, "good": [1], "build_seconds": {}}
    return {"generations": rows, **known, **lists}


@pytest.fixture(scope="module", params=[SOME, pytest.param(HOSTS, marks=pytest.mark.full)])
def bed(
    bed_tools: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[HostileBed]:
    """The one bed that plays them all."""
    names = [f"hostile-{number:02}" for number in range(request.param)]
    made = HostileBed(names, tmp_path_factory.mktemp("hostile"))
    with made:
        yield made
    for name in names:  # verify/ writes into the checkout
        shutil.rmtree(str(PROJECT / "reports" / name), ignore_errors=True)


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A folder for ssh's connections, with a path that is short enough for them."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def locked(bed: HostileBed, sockets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a controller with a lock for each host, made while all of them told the truth."""
    folder = tmp_path_factory.mktemp("locked") / "controller"
    for name in bed.names:
        bed.answer(name, honest())
    ran = Attacked(folder, bed.inventory(sockets)).run("playbooks/plan.yml")
    assert ran.rc == 0, ran.out[-4000:].decode("utf-8", "replace")
    return folder


#: What CI runs; the others take the same border by another playbook (`-m e2e` runs them all).
QUICK = ("plan", "verify")
CASES = [pytest.param(way, id=way.name, marks=() if way.name in QUICK else pytest.mark.full) for way in WAYS]


@pytest.mark.parametrize("way", CASES)
def test_hostile_answers_are_only_words(
    bed: HostileBed, sockets: Path, tmp_path: Path, request: pytest.FixtureRequest, way: Way
) -> None:
    """An example a host, all in one run."""
    like = request.getfixturevalue("locked") if way.locked else None
    attacked = Attacked(tmp_path / "controller", bed.inventory(sockets), like)
    seed = int(os.environ.get("GPUHOST_SEED") or random.randrange(10**6))  # noqa: S311 - nothing secret
    print(f"seed {seed}")
    dice = random.Random(f"{seed} {way.name}")  # noqa: S311 - nothing secret
    truth = honest()
    kinds, own = payloads(attacked.marks), words_to_ansible(attacked.marks)
    told: List[str] = []
    # Each kind comes up as the first payload of some host, those that are code most often.
    firsts = (sorted(kinds) + list(CODE) * 4) * len(truth)
    dice.shuffle(firsts)
    for name in bed.names:
        answers = {}
        for module, answer in truth.items():
            answers[module], what = vary(dice, answer, kinds, firsts.pop(), own)
            told += [f"{name} {module}: {one}" for one in what]
        bed.answer(name, answers, [make(dice) for make in dice.sample([kinds[kind] for kind in sorted(kinds)], 5)])
    print("\n".join(told))
    found = []
    # What a lock was made of is not obeyed the next time either.
    for number in ("first",) if way.locked else ("first", "second"):
        ran = attacked.run(way.playbook, *way.arguments)
        print(f"{number} run: {ran.seconds:.0f} s, {ran.peak >> 20} MiB, exit code {ran.rc}")
        print(f"asked: {dict(Counter(module for name in bed.names for module in bed.seen(name)))}")
        assert all(bed.seen(name) for name in bed.names), "a host was never asked"
        found += [f"{number} run: {one}" for one in complaints(attacked, ran)]
    assert not found, f"seed {seed}:\n" + "\n".join(found)
