"""A toolkit for each environment: planned where none can be shared, installed from wheels, and held to by verify/."""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, List

import pytest

from gpuhost.checks.base import FAIL
from gpuhost.errors import LockError
from gpuhost.planning import cost, lock, plan, specs
from gpuhost.planning.catalog import DATA, validator
from gpuhost.planning.environments import load_environment, of_tensorflow
from gpuhost.planning.resolve import resolver
from gpuhost.planning.toolkits import load_wheels
from gpuhost.report import terminal

from ..locks import of
from . import asking
from .collected import gpu_host, host, judged, with_status

Json = Dict[str, Any]
DEBIAN = "debian-12"
THERE: Json = {"store": [], "wheels": [], "artifacts": [], "debs": [], "build_seconds": {}}


def planned(card: str = "RTX 3090", **asked: Any) -> Json:
    """A plan for Debian 12."""
    found: Json = asking.planned(DEBIAN, card, **asked)
    validator(DATA / "plan.schema.json")(found)
    return found


APART = planned(cuda="13")


def test_one_toolkit_is_shared_where_the_rules_allow_it() -> None:
    """TensorFlow has none of its own then, also where it could have a newer one."""
    found = planned()
    assert (found["tensorflow"]["cuda"], found["tensorflow"]["cudnn"]) == (None, None)
    older = planned(opencv="4.10")
    assert older["tensorflow"]["version"] == "2.17.1"
    assert older["tensorflow"]["cuda"] is None


def test_each_has_its_own_where_none_can_be_shared() -> None:
    """The host's is the one asked for, TensorFlow's the pair that it is tested with, and one driver serves both."""
    assert APART["status"] == "planned"
    assert (APART["cuda"]["series"], APART["cudnn"]["cuda"]) == ("13.2", "13")
    assert APART["tensorflow"]["cuda"] == {"version": "12.5.1", "series": "12.5", "source": "wheels"}
    assert APART["tensorflow"]["cudnn"] == {"version": "9.10.2.21", "source": "wheels", "cuda": "12"}
    assert int(APART["driver"]["branch"]) >= 580
    text = " ".join(terminal.plan_text(APART).split())
    assert "TensorFlow has CUDA 12.5.1 and cuDNN 9.10.2.21 of its own" in text


@pytest.mark.parametrize(
    ("opencv", "tensorflow", "series"), [("4.10", "2.21", "12.4"), ("4.9", "2.18", "12.3"), ("4.8.1", "2.17", "12.2")]
)
def test_an_opencv_that_takes_no_such_cuda_has_another(opencv: str, tensorflow: str, series: str) -> None:
    """Two demands that one toolkit could not meet."""
    found = planned(opencv=opencv, tensorflow=tensorflow)
    assert found["cuda"]["series"] == series
    assert found["tensorflow"]["cuda"]["source"] == "wheels"


def test_a_card_that_tensorflows_own_libraries_do_not_reach_is_refused() -> None:
    """TensorFlow alone stands in the way, and the rule says which libraries."""
    found = planned("RTX 5090", cuda="13")
    assert "cuda-reach" in [row["rule"] for row in found["reasons"]]
    assert [row["component"] for row in found["obstacles"]] == ["tensorflow"]


def test_the_environment_holds_the_wheels() -> None:
    """Each by its hash, beside TensorFlow's own packages, so that it is another environment with another name."""
    part = APART["tensorflow"]
    made, plain = of_tensorflow(part), load_environment(part["environment"])
    wheels: List[Json] = load_wheels("cuda-12.5.1")["packages"] + load_wheels("cudnn-9.10.2.21-cu12")["packages"]
    files = {row["sha256"] for row in made["packages"]}
    assert files == {row["sha256"] for row in plain["packages"]} | {w["sha256"] for w in wheels if w["name"] != "pip"}
    validator(DATA / "environment.schema.json")(made)
    assert len({row["name"] for row in made["packages"]}) == len(made["packages"])
    shared = specs.of_lock(of(planned()))["tensorflow"]["environment"]
    assert specs.of_lock(of(APART))["tensorflow"]["environment"]["folder"] != shared["folder"]


def test_a_toolkit_of_its_own_costs_its_wheels() -> None:
    """And nothing more where they are in the cache."""
    old, new = planned(), APART
    absent = {item["name"]: item for item in cost.of(of(old), of(new), THERE)["items"]}
    assert absent["tensorflow"]["size"] > 2e9
    files = [row["file"] for row in of_tensorflow(new["tensorflow"])["packages"]]
    kept = {item["name"]: item for item in cost.of(of(old), of(new), {**THERE, "wheels": files})["items"]}
    assert kept["tensorflow"]["cached"]


def locked() -> Json:
    """The lock of the host that the tests of the checks know, with a toolkit for each."""
    found = copy.deepcopy(gpu_host()["lock"])
    found["plan"]["tensorflow"].update(
        cuda={"version": "11.8.0", "series": "11.8", "source": "wheels"},
        cudnn={"version": "8.6.0.163", "source": "wheels", "cuda": "11"},
    )
    return found


def test_the_lock_keeps_it() -> None:
    """Byte for byte, and half of a toolkit is not a lock; nor is one whose wheels come from somewhere else."""
    held = locked()
    assert lock.check(json.loads(json.dumps(held)), "here") == held
    for change in ({"cudnn": None}, {"cuda": None}, {"cuda": {**held["plan"]["tensorflow"]["cuda"], "url": "x"}}):
        broken = copy.deepcopy(held)
        broken["plan"]["tensorflow"].update(change)
        with pytest.raises(LockError, match="damaged"):
            lock.check(broken, "here")


def test_a_lock_of_an_earlier_release_shares_the_hosts_toolkit() -> None:
    """It says nothing of either."""
    held = copy.deepcopy(gpu_host()["lock"])
    for name in ("cuda", "cudnn"):
        del held["plan"]["tensorflow"][name]
    assert with_status(judged(host(gpu_host()["machine"]["observation"], lock.check(held, "old"))), FAIL) == []


@pytest.mark.parametrize(
    ("environment", "path", "check"),
    [
        ("dl4cv", "/opt/gpuhost/store/cudnn-1-0123456789ab/lib/libcudnn.so.8.6.0", "tensorflow.own"),
        (
            "opencv_cuda",
            "/opt/gpuhost/store/dl4cv/lib/python3.8/site-packages/nvidia/cudnn/lib/libcudnn.so.8",
            "opencv.libraries",
        ),
    ],
)
def test_verify_names_the_others_library(environment: str, path: str, check: str) -> None:
    """With a toolkit for each the host is healthy; an environment that loads the other's is named with the file."""
    seen = host(gpu_host()["machine"]["observation"], locked())
    assert with_status(judged(seen), FAIL) == []
    seen["environments"][environment]["computed"]["mapped"].append(path)
    results = judged(seen)
    assert with_status(results, FAIL) == [check]
    assert path in results[check].actual


def test_an_environment_that_does_not_load_its_own_is_named() -> None:
    """Its libraries are loaded with TensorFlow, card or not; where they are not, the linker's are, as soon as there is
    one.
    """
    seen = host(gpu_host()["machine"]["observation"], locked())
    seen["environments"]["dl4cv"]["computed"]["mapped"] = []
    results = judged(seen)
    assert with_status(results, FAIL) == ["tensorflow.own"]
    found = results["tensorflow.own"]
    assert (found.diagnosis, found.actual) == ("D51", "it has loaded none of them")
    assert found.remediation.startswith("On the host: rm ") and found.remediation.endswith("site.yml")


def test_the_hosts_toolkit_in_its_place_is_not_taken_out_of_the_way() -> None:
    """It is where it belongs; TensorFlow's environment is what is made again."""
    seen = host(gpu_host()["machine"]["observation"], locked())
    file = "/opt/gpuhost/store/cuda-1-0123456789ab/lib64/libcurand.so.10"
    told = {"error": None, "path": "/opt/gpuhost/current/cuda/lib64/libcurand.so.10", "real": file}
    seen["environments"]["dl4cv"]["libraries"]["libcurand.so.10"] = told
    results = judged(seen)
    assert with_status(results, FAIL) == ["tensorflow.own"]
    assert told["path"] in results["tensorflow.own"].actual
    assert results["tensorflow.own"].remediation.startswith("On the host: rm ")


def test_a_plan_with_two_toolkits_is_the_same_each_time() -> None:
    """Nothing depends on the order of sets."""
    request = asking.request(DEBIAN, "RTX 3090", cuda="13")
    assert json.dumps(plan.make(resolver(), request)) == json.dumps(APART)
