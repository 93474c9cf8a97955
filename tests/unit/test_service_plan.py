"""What the detection service is given by the lock and the user's variables: packages merged, mistakes refused."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import pytest

from gpuhost.checks import environments
from gpuhost.checks.base import FAIL, PASS
from gpuhost.errors import GpuhostError, RefusedError
from gpuhost.planning import contents, lock, service, specs
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver
from gpuhost.service import settings
from gpuhost.verification import expected

from ..locks import of

ROOT = "/opt/gpuhost"


def locked(platform: str, *cards: str, **asked: str) -> Dict[str, Any]:
    """A lock as the resolver makes it, with the service's packages."""
    request = Request(platform, tuple(parse(shipped(), card) for card in cards), **({"asked": asked} if asked else {}))
    return contents.added(of(make(resolver(), request)), contents.Options(service=True))


CPU, CARD = locked("debian-12"), locked("ubuntu-18.04", "quadro p2000")
SUM = "0" * 64
BIRDS = {
    "name": "birds",
    "cfg": "/home/me/b.cfg",
    "weights": "/home/me/b.weights",
    "sha256": {"cfg": SUM, "weights": SUM},
}


def test_the_lock_holds_the_packages_and_stays_a_lock() -> None:
    """As an environment of their own, so that the other roles go on; the same lock where it has them."""
    assert lock.check(CPU, "here") is not None
    assert {"fastapi", "gunicorn"} <= {row["name"] for row in CPU["environments"]["service"]["packages"]}
    assert contents.added(CPU, contents.Options(service=True)) is CPU


@pytest.mark.parametrize("found", [CPU, CARD], ids=["index", "built"])
def test_the_environment_of_opencv_has_them_under_one_digest(found: Dict[str, Any]) -> None:
    """Another store folder than without: an environment is never changed."""
    plain, served = (specs.of_lock(found, service=asked)["opencv"] for asked in (False, True))
    assert served["problem"] == "" and plain["environment"]["folder"] != served["environment"]["folder"]
    rows = {row["name"]: row["sha256"] for row in served["environment"]["lock"]["packages"]}
    assert {row["name"]: row["sha256"] for row in plain["environment"]["lock"]["packages"]}.items() <= rows.items()
    assert "uvicorn-worker" in rows


def test_an_environment_that_a_removed_service_has_left_is_right() -> None:
    """Taken out alone, the service leaves OpenCV's environment with its packages; each is held to what it is."""
    plain, served = (specs.of_lock(CPU, service=asked)["opencv"]["environment"]["lock"] for asked in (False, True))
    for there, more in ((plain, False), (served, True)):
        links = {"venvs/opencv_cuda": {"digest": there["digest"]}}
        found = expected.environments(CPU, links)["opencv_cuda"]
        assert (found["digest"], "fastapi" in found["packages"]) == (there["digest"], more)
    links = {"venvs/opencv_cuda": {"digest": plain["digest"]}, "service": {}}
    assert expected.environments(CPU, links)["opencv_cuda"]["digest"] == served["digest"]


@pytest.mark.parametrize(
    ("links", "more", "status"),
    [
        ({}, (), PASS),
        ({}, ("service",), PASS),
        ({}, ("pip-audit",), FAIL),
        ({"service": {}}, ("service",), PASS),
        ({"service": {}}, (), FAIL),
    ],
)
def test_a_built_environment_may_keep_what_a_removed_service_left(
    links: Dict[str, Any], more: Tuple[str, ...], status: str
) -> None:
    """No digest of it is known beforehand. While the service is in force its packages must be there."""
    wanted = expected.environments(CARD, links)["opencv_cuda"]
    there = expected.environments(CARD, {"service": {}} if "service" in more else {})["opencv_cuda"]["packages"]
    packages = {name: [version.replace("*", "1")] for name, version in there.items()}
    packages.update({name: ["1"] for name in more if name != "service"})
    seen = {
        "environments": {"opencv_cuda": {"packages": packages}},
        "expected": {"environments": {"opencv_cuda": wanted}},
        "machine": {"installed": {"root": ROOT, "links": {"venvs/opencv_cuda": {"target": "store/made"}}}},
    }
    assert environments.packages("opencv", seen).status == status


def test_the_engines_have_them_too() -> None:
    """Both are asked for by options, and merge."""
    both = contents.added(CPU, contents.Options(opencv_engines=True))
    rows = {
        row["name"]
        for row in specs.of_lock(both, engines=True, service=True)["opencv"]["environment"]["lock"]["packages"]
    }
    assert {"onnxruntime", "fastapi"} <= rows


def test_an_environment_of_python_3_7_is_refused_with_the_reason() -> None:
    """Python 3.7: no repaired h11 is made for it."""
    plan = {"opencv": {"python": "3.7"}}
    with pytest.raises(RefusedError, match="CVE-2025-43859"):
        service.overlay(plan)
    with pytest.raises(RefusedError, match="leaves out"):
        service.overlay({"opencv": None})
    with pytest.raises(RefusedError, match=r"no packages .* 3\.99"):
        service.overlay({"opencv": {"python": "3.99"}})


def test_packages_that_disagree_are_refused() -> None:
    """Two versions of one package in one environment: none of the two was tested with it."""
    held = CPU["environments"]["opencv_cuda"]
    other = {
        "name": "h11",
        "version": "0.1",
        "file": "h11-0.1-py3-none-any.whl",
        "kind": "wheel",
        "sha256": SUM,
        "size": 1,
    }
    with pytest.raises(RefusedError, match=r"h11 0\.16\.0 and 0\.1"):
        service.merged({**held, "packages": [*held["packages"], other]}, CPU["environments"]["service"])
    with pytest.raises(RefusedError, match=r"Python 3\.11, not 3\.8"):
        service.merged({**held, "python": "3.8"}, CPU["environments"]["service"])


def asked(found: Dict[str, Any] = CPU, **given: Any) -> Any:
    """What the role is told."""
    return service.asked(found, ROOT, given.pop("models", [{"name": "yolov4-tiny"}]), **given)


def test_the_service_takes_the_settings() -> None:
    """Its own reader takes what is written here, for each kind of network."""
    onnx = {"name": "out", "onnx": "/o.onnx", "names": "/o.names", "sha256": {"onnx": SUM, "names": SUM}, "size": 640}
    told = asked(models=[{"name": "yolov4-tiny"}, BIRDS, onnx], default="birds", limits={"depth": 4, "memory": "2G"})
    read = settings.checked({**told["settings"], "generation": 3})
    assert (read.device, read.default_model, read.depth, read.generation) == ("cpu", "birds", 4, 3)
    assert [one.kind for one in read.models] == ["published", "cfg", "onnx"] and read.models[2].size == 640
    assert told["outer"]["memory"] == "2G" and told["outer"]["rate"] == 20
    assert {row["dest"] for row in told["copies"]} == {
        "/var/lib/gpuhost-models/birds/cfg.cfg",
        "/var/lib/gpuhost-models/birds/weights.weights",
        "/var/lib/gpuhost-models/out/onnx.onnx",
        "/var/lib/gpuhost-models/out/names.names",
    }
    assert set(read.models[1].sha256) == {row["dest"] for row in told["copies"] if "birds" in row["dest"]}
    (first,) = asked(published=True)["settings"]["models"]
    assert first["weights"] == f"{ROOT}/cache/yolo/published/yolov4-tiny.weights"


def test_never_on_the_processor_where_a_card_is_locked() -> None:
    """And the other way round; half precision is a device of the same kind."""
    assert asked(CARD)["settings"]["device"] == "cuda"
    assert asked(CARD, device="cuda_fp16")["settings"]["device"] == "cuda_fp16"
    assert asked(CPU, device="onnxruntime")["settings"]["device"] == "onnxruntime"
    for found, device in ((CARD, "cpu"), (CPU, "cuda")):
        with pytest.raises(GpuhostError, match="not what the lock is for"):
            asked(found, device=device)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"models": []}, "empty"),
        ({"models": "yolov4"}, "empty"),
        ({"models": [{"name": "../etc"}]}, "no name"),
        ({"models": [{"name": "yolov99"}]}, "not one of the published"),
        ({"models": [{"name": "yolov4"}, {"name": "yolov4"}]}, "twice"),
        ({"models": [{"name": "yolov4", "weigths": "x"}]}, "not understood"),
        ({"models": [{**BIRDS, "sha256": {"cfg": SUM}}]}, "lacks checksums"),
        ({"models": [{**BIRDS, "sha256": {"cfg": SUM, "weights": "12"}}]}, "lacks checksums"),
        ({"models": [{"name": "x", "cfg": "/c"}]}, "no weights"),
        ({"default": "other"}, "not in service_models"),
        ({"limits": {"dept": 1}}, "service_limits is not understood"),
        ({"limits": {"depth": 0}}, "cannot be 0"),
        ({"limits": {"depth": True}}, "cannot be True"),
        ({"limits": {"confidence": 1.5}}, "cannot be 1.5"),
        ({"limits": {"memory": "4G\nUser=root"}}, "cannot be"),
    ],
)
def test_mistakes_are_refused(given: Any, told: str) -> None:
    """In one sentence that names the variable."""
    with pytest.raises(GpuhostError, match=told):
        asked(**given)
