"""Parts by choice: what is left out is planned, installed and verified nowhere, and is said to be not asked for."""

from __future__ import annotations

import copy
import json
import shlex
import types
from typing import Any, Dict, List, Tuple

import pytest

from gpuhost.checks.base import FAIL, LEFT_OUT, PASS, SKIP
from gpuhost.cli import main as cli
from gpuhost.diagnoses import verdict as checks
from gpuhost.errors import LockError, RefusedError, UsageError
from gpuhost.planning import cost, lock, plan, rebuild, rollback, specs
from gpuhost.planning.catalog import DATA, shipped, validator
from gpuhost.planning.gpus import parse
from gpuhost.planning.request import left_out, request_from, request_of
from gpuhost.planning.resolve import resolver
from gpuhost.report import report as reports
from gpuhost.report import terminal

from ..example_hosts import observed
from ..locks import of
from .collected import gpu_host, host, judged, with_status

Json = Dict[str, Any]
P2000 = observed("ubuntu1804-quadro-p2000")
CPU = observed("debian12-no-gpu")
#: The host whose driver the tests of the checks know, with the wish that keeps it.
GTX, KEPT = gpu_host()["machine"]["observation"], {"cuda": "11.8"}
THERE: Json = {"store": [], "wheels": [], "artifacts": [], "debs": [], "build_seconds": {}}
BOTH = ("opencv", "tensorflow")


def planned(platform: str, *cards: str, without: Tuple[str, ...] = (), **asked: str) -> Json:
    """The plan for some cards with parts left out."""
    gpus = [parse(shipped(), card) for card in cards]
    found: Json = plan.make(resolver(), request_from(resolver(), platform, gpus, asked, without=frozenset(without)))
    validator(DATA / "plan.schema.json")(found)
    return found


def locked(observation: Json, *without: str, **asked: str) -> Json:
    """The lock of an observed host with parts left out."""
    made = plan.make(resolver(), request_of(resolver(), observation, asked, without=frozenset(without)))
    return lock.check(json.loads(json.dumps(lock.make("box", observation, made))), "here", "box")


def told(*arguments: str) -> List[str]:
    """The words of a command line that is printed."""
    return shlex.split(" ".join(arguments))


@pytest.mark.parametrize(("without", "there"), [(("opencv",), "tensorflow"), (("tensorflow",), "opencv"), (BOTH, "")])
def test_what_is_left_out_is_null_and_kept(without: Tuple[str, ...], there: str) -> None:
    """The driver, CUDA and cuDNN stay, and so does the other part."""
    found = planned("ubuntu-18.04", "Quadro P2000", without=without)
    assert (found["status"], found["without"]) == ("planned", list(without))
    assert [name for name in BOTH if found[name]] == ([there] if there else [])
    assert all(found[name] for name in ("driver", "cuda", "cudnn"))
    text = terminal.plan_text(found)
    assert text.count("not asked for") == len(without)


def test_without_a_card_opencv_comes_from_the_wheel_alone() -> None:
    """Nothing of TensorFlow decides then, neither its Python nor a CPU without AVX."""
    request = request_from(resolver(), "debian-12", [], {}, avx=False, without=frozenset(["tensorflow"]))
    found = plan.make(resolver(), request)
    assert (found["status"], found["tensorflow"], found["opencv"]["source"]) == ("planned", None, "wheel")
    with pytest.raises(RefusedError, match="nothing is left to plan"):
        planned("debian-12", without=BOTH)
    with pytest.raises(UsageError, match=r"TensorFlow 2\.13 is asked for and left out"):
        planned("debian-12", "RTX 3090", without=("tensorflow",), tensorflow="2.13")


def test_a_blackwell_card_on_debian_12_gets_opencv_alone() -> None:
    """With a toolkit that builds for it, from wheels that this release has locked."""
    found = planned("debian-12", "RTX 5090", without=("tensorflow",))
    assert found["opencv"]["cuda_arch_bin"] == ["12.0"]
    assert found["cuda"]["source"] == found["cudnn"]["source"] == "wheels"
    made = specs.of_lock(of(found))
    assert {part: made[part]["problem"] for part in ("cuda", "cudnn", "opencv", "tensorflow")} == {
        "cuda": "",
        "cudnn": "",
        "opencv": "",
        "tensorflow": "",
    }


def test_a_toolkit_that_the_archives_driver_serves_comes_first() -> None:
    """Nothing of the stack wants the newest CUDA so much that a `.run` should be taken for it."""
    found = planned("debian-12", "RTX 3090", without=("tensorflow",))
    assert found["driver"]["source"] == "archive"
    assert found["cuda"]["version"].startswith("12.9")


def test_a_refusal_names_the_only_obstacle_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The user's own options are in it, and the command does what it promises."""
    line = ["plan", "--os", "ubuntu-18.04", "--gpu", "RTX 3090", "--tensorflow", "2.21", "--no-secure-boot"]
    assert cli.main(line) == 3
    out = capsys.readouterr().out
    (command,) = [text.strip() for text in out.splitlines() if text.strip().startswith("gpuhost plan")]
    wanted = "--os ubuntu-18.04 --gpu 'RTX 3090' --no-secure-boot --without tensorflow"
    assert told(command) == told("gpuhost plan", wanted)
    assert "Only TensorFlow stands in the way" in " ".join(out.split())
    assert cli.main(told(command)[1:]) == 0
    capsys.readouterr()
    assert cli.main([*line, "--json"]) == 3
    assert [row["command"] for row in json.loads(capsys.readouterr().out)["obstacles"]] == [command]


def test_a_refusal_with_another_cause_names_no_obstacle() -> None:
    """Neither part is to blame for a card that no driver of the platform can drive."""
    found = planned("ubuntu-18.04", "RTX 5090")
    assert (found["status"], found["obstacles"]) == ("refused", [])
    found = planned("ubuntu-18.04", "GTX 750 Ti", opencv="4.2")
    assert [row["component"] for row in found["obstacles"]] == ["opencv"]
    assert found["obstacles"][0]["command"] == "gpu_stack_without: [opencv]"


@pytest.mark.parametrize("asked", ["tensorflow", [1], ["cuda"], {"tensorflow": True}, None])
def test_what_the_inventory_leaves_out_has_a_form(asked: Any) -> None:
    """A word that is not a list, or a component that cannot be left out."""
    with pytest.raises(UsageError, match="gpu_stack_without"):
        left_out(asked)


def test_the_lock_keeps_it_and_the_host_is_held_to_it() -> None:
    """A lock that leaves a part out matches the same wish only, and an older one leaves nothing out."""
    part, whole = locked(P2000, "tensorflow"), locked(P2000)
    assert lock.differences(part, P2000, {}, without=["tensorflow"]) == []
    assert lock.differences(part, P2000, {}) == ["asked: locked for no tensorflow, now nothing in particular"]
    assert lock.differences(whole, P2000, {}, without=["tensorflow"]) != []
    old = copy.deepcopy(whole)
    del old["plan"]["without"]
    assert lock.differences(lock.check(old, "old"), P2000, {}) == []


@pytest.mark.parametrize("damage", ["left out and there", "neither", "another"])
def test_a_lock_that_contradicts_itself_is_refused(damage: str) -> None:
    """What is left out is null, and what is null is left out."""
    held = copy.deepcopy(locked(P2000, "tensorflow"))
    if damage == "left out and there":
        held["plan"]["tensorflow"] = locked(P2000)["plan"]["tensorflow"]
    else:
        held["plan"]["without"] = [] if damage == "neither" else ["cuda"]
    with pytest.raises(LockError, match="damaged"):
        lock.check(held, "here")


def test_the_generation_loses_what_is_left_out() -> None:
    """Its links, the detector's with OpenCV's; the roles find no problem and nothing to install."""
    found = specs.of_lock(locked(P2000, *BOTH))
    assert found["without"] == ["venvs/opencv_cuda", "yolo", "service", "venvs/dl4cv"]
    assert found["opencv"] == found["tensorflow"] == {"problem": ""}
    assert specs.of_lock(locked(CPU, "tensorflow"))["without"] == ["venvs/dl4cv", "cuda", "cuda-*", "cudnn"]
    assert len(found["cuda"]["toolkits"]) == 1
    assert found["cudnn"]["toolkit"]


@pytest.mark.parametrize("observation", [GTX, CPU], ids=["card", "cpu"])
@pytest.mark.parametrize("part", BOTH)
def test_verify_does_not_ask_for_it(observation: Json, part: str) -> None:
    """Each of its checks, and each that needs one of them, says so; no other check suffers; the verdict is complete."""
    asked = KEPT if observation["gpus"] else {}
    results = judged(host(observation, locked(observation, part, **asked)))
    of_part = {"opencv": ("opencv.", "detector.", "service.", "benchmark."), "tensorflow": ("tensorflow.",)}[part]
    unasked = [name for name, found in results.items() if found.actual == LEFT_OUT]
    assert unasked == [name for name in results if name.startswith(of_part)]
    whole = judged(host(observation, locked(observation, **asked)))
    rest = [name for name in results if name not in unasked]
    assert {name: results[name].status for name in rest} == {name: whole[name].status for name in rest}
    assert {results[name].status for name in unasked} == {SKIP}
    others = [found for found in results.values() if found.id not in unasked]
    assert checks.verdict(results.values(), True, True) == checks.verdict(others, True, True)


def test_a_host_without_a_part_can_be_ok() -> None:
    """What is left out keeps no verdict from being ok, and what is not proven still does."""
    results = judged(host(GTX, locked(GTX, "tensorflow", **KEPT)))
    rows = [found for found in results.values() if found.actual == LEFT_OUT]
    passed = rows[0]._replace(status=PASS, actual="it is")
    assert checks.verdict([passed, *rows], True, True) == checks.OK
    assert checks.verdict([passed, *rows, passed._replace(status=SKIP)], True, True) == checks.INCOMPLETE
    assert checks.verdict([passed, *rows, passed._replace(status=FAIL)], True, True) == checks.BROKEN


def test_a_rebuild_leaves_a_part_out_and_takes_it_back() -> None:
    """Each way with its reason, and nothing is built or fetched for what is not wanted."""
    part, whole = locked(P2000, "opencv"), locked(P2000)
    found = rebuild.prepare(resolver(), "box", P2000, whole, None, {}, False, [], THERE, without=frozenset(["opencv"]))
    assert found["lock"] == part
    rows = {row["name"]: row["why"] for row in found["changes"]}
    assert rows["opencv"] == "it is not asked for any more"
    assert not cost.needs_build(whole["plan"], part["plan"])
    back = rebuild.prepare(resolver(), "box", P2000, part, None, {}, False, [], THERE)
    assert back["lock"] == whole
    rows = {row["name"]: row["why"] for row in back["changes"]}
    assert rows["opencv"] == "it was not asked for before"
    again = rebuild.prepare(resolver(), "box", P2000, part, None, {}, False, [], THERE, without=frozenset(["opencv"]))
    assert not again["differs"]


def test_going_back_says_what_is_not_asked_for() -> None:
    """The generation's own choice counts, not the inventory's of today."""
    part, whole = locked(P2000, "tensorflow"), locked(P2000)
    found = {
        "current": 2,
        "before": 1,
        "good": [],
        "came_by": "switch",
        "generations": [{"number": 1, "stack": part}, {"number": 2, "stack": whole}],
    }
    lines = rollback.prepare("box", found, whole, None, "", P2000)["lines"]
    assert any(line.startswith("TensorFlow: not asked for  (now 2.13.1") for line in lines)
    assert not any("ATTENTION" in line for line in lines)


def test_a_report_says_it() -> None:
    """In its words, its page and its schema."""
    seen = host(GTX, locked(GTX, "tensorflow", **KEPT))
    results = list(judged(seen).values())
    verified: Any = types.SimpleNamespace(name="box", seen=seen, all_results=lambda: results)
    made = reports.make(verified, 0.0)
    validator(DATA / "report.schema.json")(made)
    assert made["plan"]["without"] == ["tensorflow"]
    assert "TensorFlow not asked for" in reports.as_text(made, 200)
    assert "<dt>TensorFlow</dt><dd>not asked for</dd>" in reports.report_html.page(made)
    assert with_status({row["id"]: reports.Result(**row) for row in made["checks"]}, FAIL) == []
