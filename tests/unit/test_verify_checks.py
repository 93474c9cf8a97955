"""Each check red, and no other: a healthy host is broken in one place, and exactly that check has to say so."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict

import pytest

from gpuhost.checks import environments as checks_environments
from gpuhost.checks.base import BY_MORE, FAIL, NO_GPU, NOT_BESIDE, NOT_SERVED, PASS, SKIP
from gpuhost.diagnoses import verdict as checks
from gpuhost.planning import contents
from gpuhost.planning.environments import lock_digest
from gpuhost.text import printable

from .collected import alone_host, cpu_host, gpu_host, judged, with_status

Json = Dict[str, Any]
HEALTHY = {"cpu": cpu_host(), "gpu": gpu_host()}
GPU_ONLY = [c.id for c in checks.CHECKS if (c.gpu and c.part != "cuda") or c.id == "gpu.present"]
#: Off by default: tests/unit/test_service_checks.py breaks a host that has it.
SERVICE_ONLY = [c.id for c in checks.CHECKS if c.part == "service"]
#: Asked where the lock leaves out OpenCV and TensorFlow.
ALONE_ONLY = ["cuda.library", "cuda.answers", "cuda.computes"]
BESIDE_ONLY = [c.id for c in checks.CHECKS if c.id.startswith("virtualbox.")]


def fresh(kind: str) -> Json:
    """A copy of a healthy host."""
    return copy.deepcopy(HEALTHY[kind])


def observation(seen: Json) -> Json:
    """Its observation, to change."""
    return seen["machine"]["observation"]  # type: ignore[no-any-return]


def source(seen: Json, **over: Any) -> None:
    """Add an apt source."""
    row = copy.deepcopy(observation(seen)["apt"]["sources"][0])
    row.update({"file": "/etc/apt/sources.list.d/added.list", "enabled": True, "fetched": True}, **over)
    observation(seen)["apt"]["sources"].append(row)


def computed(environment: str, **values: Any) -> Callable[[Json], None]:
    """A change of what an environment computed."""
    return lambda seen: seen["environments"][environment]["computed"].update(values)


def nvidia(**values: Any) -> Callable[[Json], None]:
    """A change of what was observed of the driver."""
    return lambda seen: observation(seen)["nvidia"].update(values)


def installed(**values: Any) -> Callable[[Json], None]:
    """A change of what is installed."""
    return lambda seen: seen["machine"]["installed"].update(values)


def driver(**values: Any) -> Callable[[Json], None]:
    """A change of what was read of the driver for the next boot."""
    return lambda seen: seen["machine"]["installed"]["driver"].update(values)


def recorded_driver(**values: Any) -> Callable[[Json], None]:
    """A change of the driver role's record."""
    return lambda seen: seen["machine"]["installed"]["driver"]["record"].update(values)


def module(**values: Any) -> Callable[[Json], None]:
    """A change of the module that the next boot loads."""
    return lambda seen: seen["machine"]["installed"]["driver"]["module"].update(values)


def nouveau(**values: Any) -> Callable[[Json], None]:
    """A change of what was read of nouveau."""
    return lambda seen: seen["machine"]["installed"]["driver"]["nouveau"].update(values)


def guard_of(seen: Json) -> Json:
    """The guard as it was read, to change."""
    return seen["machine"]["installed"]["guard"]  # type: ignore[no-any-return]


def release(seen: Json) -> None:
    """The guard was let go of, and nothing has happened yet."""
    guard_of(seen).update(record=None, held=[], pins={}, blacklist=[])


def unsigned(seen: Json) -> None:
    """Secure Boot is on, and the module that DKMS built has no signature."""
    observation(seen)["secure_boot"] = "enabled"
    module(signed=False, signer="")(seen)
    nvidia(module_loaded=False, module_version=None)(seen)


def link(name: str, **values: Any) -> Callable[[Json], None]:
    """A change of a link of the generation."""
    return lambda seen: seen["machine"]["installed"]["links"][name].update(values)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_healthy_host_has_no_failure(kind: str) -> None:
    """The control: without it the tests below would prove nothing."""
    results = judged(fresh(kind))
    assert with_status(results, FAIL) == []
    skipped = [name for name in with_status(results, SKIP) if name not in {*SERVICE_ONLY, *BESIDE_ONLY, *ALONE_ONLY}]
    assert skipped == (GPU_ONLY if kind == "cpu" else [])
    assert {results[name].actual for name in SERVICE_ONLY} == {NOT_SERVED}
    assert {results[name].actual for name in BESIDE_ONLY} == {NOT_BESIDE}
    assert {results[name].actual for name in ALONE_ONLY} == {NO_GPU if kind == "cpu" else BY_MORE}


def test_an_update_that_was_undone_is_named_and_no_failure() -> None:
    """The kernel of before is what should boot then, and a newer one is installed that does not."""
    seen = fresh("gpu")
    told = "The update to kernel 9 with driver 2 was undone, and kernel 8 with driver 1 is kept: it hung."
    kernel = observation(seen)["kernel"]
    kernel.update(installed=[*kernel["installed"], "9.9.9"], boots_by="/boot/grub/grubenv")
    kernel["tried"] = {"kernel": "9.9.9", "told": told}
    found = judged(seen)["kernel.boots"]
    assert found.status == PASS and found.actual.endswith(f"will boot. {told}")
    kernel["tried"]["told"] = ""
    assert judged(seen)["kernel.boots"].actual.endswith("/boot/grub/grubenv says so")


def test_cuda_is_asked_where_nothing_else_computes_on_the_card() -> None:
    """A stack of driver, CUDA and cuDNN is not proven by its files alone."""
    results = judged(alone_host())
    assert {results[name].status for name in ALONE_ONLY} == {PASS}
    assert checks.verdict(results.values(), True, True) == checks.OK
    unasked = {**alone_host(), "cuda": None}
    assert {judged(unasked)[name].status for name in ALONE_ONLY} == {SKIP}
    assert checks.verdict(judged(unasked).values(), True, True) == checks.INCOMPLETE


@pytest.mark.parametrize("there", ["4.11.0.86", "4.11.0.86+cuda120.sm61.0123abcd", "4.10.0.84+cuda118.sm61.0123abcd"])
def test_the_opencv_of_a_host_with_a_card_is_built_there(there: str) -> None:
    """The index's own wheel, one of another CUDA and one of another release: none is what the lock says."""
    seen = fresh("gpu")
    assert seen["lock"]["plan"]["opencv"]["version"] == "4.11.0"
    seen["environments"]["opencv_cuda"]["packages"]["opencv-contrib-python"] = [there]
    results = judged(seen)
    assert with_status(results, FAIL) == ["opencv.packages"]
    assert f"opencv-contrib-python is {there}, locked is 4.11.0.86+cuda118.*" in results["opencv.packages"].actual


def not_booted(seen: Json) -> None:
    """The new driver is installed, the old module still runs."""
    nvidia(module_version="525.60.13")(seen)


def test_a_transitional_package_of_this_branch_is_no_other_branch() -> None:
    """And neither is a part of the driver that the user added."""
    seen = fresh("gpu")
    more = {"nvidia-driver-520": "525.105.17-0ubuntu0.18.04.1", "nvidia-driver-libs:i386": "1"}
    for key in ("stack", "pins"):
        guard_of(seen)[key].update(more)
    for key in ("held", "blacklist"):
        guard_of(seen)[key] += list(more)
    assert with_status(judged(seen), FAIL) == []


def test_what_dkms_builds_needs_headers_and_may_have_them() -> None:
    """With headers, the same host is healthy."""
    seen = fresh("gpu")
    recorded_driver(modules_from="dkms")(seen)
    driver(headers=True)(seen)
    assert with_status(judged(seen), FAIL) == []


@pytest.mark.parametrize(
    ("state", "values", "status"),
    [
        ("disabled", {"signed": False, "signer": ""}, PASS),
        ("unknown", {"signed": False, "signer": ""}, SKIP),
        ("unknown", {}, PASS),
        ("enabled", {}, PASS),
        ("enabled", {"signer": ""}, PASS),
        ("enabled", {"signed": None, "signer": ""}, SKIP),
        ("lockdown", {"signed": False, "signer": ""}, FAIL),
        ("not-enforced", {"signed": False, "signer": ""}, PASS),
    ],
)
def test_a_signature_counts_where_secure_boot_is_on(state: str, values: Json, status: str) -> None:
    """An unsigned module is right without Secure Boot, and unproven where its state cannot be read."""
    seen = fresh("gpu")
    observation(seen)["secure_boot"] = state
    module(**values)(seen)
    assert judged(seen)["driver.signed"].status == status


def test_after_a_restart_is_asked_for_the_remedy_is_the_restart() -> None:
    """Installing again would change nothing."""
    seen = fresh("gpu")
    not_booted(seen)
    assert judged(seen)["driver.loaded"].remediation.startswith("On the host: reboot")
    nouveau_only = fresh("gpu")
    nouveau(loaded=True)(nouveau_only)
    assert judged(nouveau_only)["driver.nouveau"].remediation.startswith("On the host: reboot")


def test_a_card_that_is_gone_is_told_with_what_hangs_on_it() -> None:
    """What needs the card is not reached."""
    seen = fresh("gpu")
    observation(seen)["gpus"] = []
    results = judged(seen)
    assert with_status(results, FAIL) == ["lock.cards"]
    assert results["tensorflow.gpu"].actual == "not reached because of lock.cards"


def test_without_a_lock_one_cause_fails() -> None:
    """Everything else that needs the lock names it."""
    seen = fresh("cpu")
    error = {"message": "There is no lock.", "next_step": "make one", "missing": True}
    seen.update(lock=None, lock_error=error)
    results = judged(seen)
    assert with_status(results, FAIL) == ["lock.present"]
    assert results["lock.present"].remediation == "make one"
    skipped = [results[name].actual for name in with_status(results, SKIP)]
    assert set(skipped) == {"not reached because of lock.present"}
    assert not checks.is_provisioned(seen)


def test_without_a_generation_one_cause_fails() -> None:
    """A lock that was never carried out."""
    seen = fresh("cpu")
    seen["machine"]["installed"].update(generation=None, stack=None, links={})
    results = judged(seen)
    assert with_status(results, FAIL) == ["lock.provisioned"]
    assert results["benchmark.yolov3"].actual == "not reached because of lock.provisioned"
    assert not checks.is_provisioned(seen)


def test_a_host_that_cannot_be_read_is_one_failure() -> None:
    """And it is broken, not unprovisioned: nothing is known of it."""
    seen = fresh("cpu")
    seen["machine"] = {"error": "The host cannot be read.", "next_step": "look at its cable"}
    results = judged(seen)
    assert with_status(results, FAIL) == ["host.observed"]
    assert len(with_status(results, SKIP)) == len(checks.CHECKS) - 1
    assert checks.is_provisioned(seen)


def test_a_gpu_can_be_demanded() -> None:
    """--require-gpu turns one skip of a CPU host into a failure, and nothing else."""
    seen = fresh("cpu")
    seen["options"]["require_gpu"] = True
    assert with_status(judged(seen), FAIL) == ["gpu.present"]


def test_the_benchmark_can_be_left_out() -> None:
    """It is a skip then, with its reason."""
    seen = fresh("cpu")
    seen["options"]["benchmark"] = False
    results = judged(seen)
    assert results["benchmark.yolov3"].status == SKIP
    assert "--no-benchmark" in results["benchmark.yolov3"].actual


def test_other_sources_that_offer_nothing_are_no_failure() -> None:
    """An editor's source is nobody's fault."""
    seen = fresh("cpu")
    source(seen, uris=["https://editor.example/apt"], suites=["any"])
    assert with_status(judged(seen), FAIL) == []


@pytest.mark.parametrize(
    ("statuses", "provisioned", "whole", "verdict"),
    [
        ([PASS, PASS], True, True, "ok"),
        ([PASS, PASS], True, False, "incomplete"),
        ([PASS, SKIP], True, True, "incomplete"),
        ([SKIP, SKIP], True, True, "incomplete"),
        ([], True, True, "incomplete"),
        ([PASS, FAIL, SKIP], True, True, "broken"),
        ([FAIL], True, False, "broken"),
        ([FAIL, SKIP], False, True, "not provisioned"),
        ([PASS, PASS], False, True, "not provisioned"),
    ],
)
def test_verdict(statuses: list[str], provisioned: bool, whole: bool, verdict: str) -> None:
    """Neither a skip nor a host that could not be read to the end gives ok."""
    results = [judged(fresh("cpu"))["host.dpkg"]._replace(status=status) for status in statuses]
    assert checks.verdict(results, provisioned, whole) == verdict


def test_what_a_check_needs_comes_before_it() -> None:
    """The order of causes."""
    before: set[str] = set()
    for check in checks.CHECKS:
        assert set(check.needs) <= before, check.id
        before.add(check.id)
        assert checks.lineage(check)[-1] == check


def test_a_lock_of_another_release_of_gpuhost_is_told() -> None:
    """A lock may lack an environment that the release which made it did not have."""
    seen = fresh("cpu")
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        del lock["environments"]["dl4cv"]
    results = judged(seen)
    assert with_status(results, FAIL) == ["tensorflow.packages"]
    assert "The lock has no environment dl4cv" in results["tensorflow.packages"].actual


def test_the_engines_are_the_hosts_own_choice() -> None:
    """A host whose opencv_cuda has the engines is checked against that lock, package by package, and passes."""
    seen = fresh("cpu")
    wanted = contents.added(seen["lock"], contents.Options(opencv_engines=True))["environments"][contents.ENGINES]
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        lock["environments"][contents.ENGINES] = wanted
    links = seen["machine"]["installed"]["links"]
    digest = lock_digest(wanted)
    links["venvs/opencv_cuda"] = {"target": f"store/opencv_cuda-1-{digest}", "digest": digest}
    there = {package["name"]: [package["version"]] for package in wanted["packages"]}
    seen["environments"]["opencv_cuda"]["packages"] = there
    assert with_status(judged(seen), FAIL) == []
    there["openvino"] = ["1.0"]
    assert with_status(judged(seen), FAIL) == ["opencv.packages"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"NumPy": ["2.0"], "Pip": ["9"]}, []),
        ({"numpy": ["2.0"], "setuptools": ["65"], "pkg-resources": ["0.0.0"]}, []),
        ({"numpy": ["1.0", "2.0"]}, ["numpy is 1.0 and 2.0, locked is 2.0"]),
        ({"some_thing": ["1"], "numpy": ["2.0"]}, ["some-thing 1 is not locked"]),
        ({}, ["numpy 2.0 is missing"]),
    ],
)
def test_deviations(found: dict[str, list[str]], told: list[str]) -> None:
    """Names compare as PEP 503 says; what venv brings itself is not a deviation."""
    assert checks_environments.deviations({"numpy": "2.0"}, found) == told


def test_what_a_host_says_cannot_move_the_cursor() -> None:
    """Control characters and line ends of a host's text never reach a terminal."""
    assert printable("a\x1b[2J\nb\u202e") == "a\N{REPLACEMENT CHARACTER}[2J b\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("photos", "seconds", "status"), [(24, 30.4, PASS), (24, 12.0, FAIL), (193, 40.0, FAIL)])
def test_fewer_photos_are_enough_when_the_time_has_passed(photos: int, seconds: float, status: str) -> None:
    """On a CPU each network has half a minute; one that stopped before that is not what was asked for."""
    seen = fresh("cpu")
    entry = seen["benchmark"]["yolov3"]["models"][0]
    entry["headline"].update(photos=photos, total_s=seconds, mean_s=seconds / photos)
    found = judged(seen)["benchmark.yolov3"]
    assert found.status == status
    assert status == FAIL or found.actual.endswith("stopped after 30 s")


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report["models"][0].update(model="yolov3"),
        lambda report: report["models"][0].update(size=32),
        lambda report: report["models"][0].update(device="cuda"),
        lambda report: report["models"][0]["headline"].update(photos=1, total_s=0.2),
        lambda report: report["models"].append(report["models"][0]),
        lambda report: report["photos"].update(kind="given"),
    ],
    ids=["model", "size", "device", "photos", "two", "kind"],
)
def test_a_benchmark_of_something_else_is_a_failure(change: Callable[[Json], None]) -> None:
    """What was not asked for proves nothing of what was."""
    seen = fresh("cpu")
    change(seen["benchmark"]["yolov4-tiny"])
    assert with_status(judged(seen), FAIL) == ["benchmark.yolov4-tiny"]


@pytest.mark.parametrize(
    ("kind", "count", "told", "status"), [("given", 7, 7, PASS), ("given", 7, 1, FAIL), ("made", 7, 7, FAIL)]
)
def test_a_folder_of_photos_may_hold_fewer_than_asked_for(kind: str, count: int, told: int, status: str) -> None:
    """All of them have to be measured, and they have to be the user's."""
    seen = fresh("cpu")
    seen["options"]["images"] = "/photos"
    for report in seen["benchmark"].values():
        report["photos"] = {"kind": kind, "count": count}
        report["models"][0]["headline"].update(photos=told, total_s=0.2 * told)
    assert judged(seen)["benchmark.yolov3"].status == status


@pytest.mark.parametrize("loaded", [True, False])
def test_an_own_key_that_is_not_enrolled_is_a_failure(loaded: bool) -> None:
    """Also while a module runs that was loaded before: the next boot asks for the key. Enrolled, it passes."""
    seen = fresh("gpu")
    observation(seen)["secure_boot"] = "enabled"
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        lock["plan"]["driver"]["secure_boot"] = "own-key"
    driver(key={"made": True, "enrolled": True})(seen)
    assert judged(seen)["driver.signed"].status == PASS
    driver(key={"made": True, "enrolled": False})(seen)
    if not loaded:
        nvidia(module_loaded=False, module_version=None)(seen)
    results = judged(seen)
    assert with_status(results, FAIL) == ["driver.signed"]
    assert "a key that is not enrolled" in results["driver.signed"].actual


@pytest.mark.parametrize("names", [["numpy", "numpy"], ["numpy", "NumPy"], ["Num_Py", "num-py"]])
@pytest.mark.parametrize("versions", [["1.0", "1.0"], ["1.0", "2.0"], ["2.0", "1.0"]])
def test_a_distribution_that_is_there_twice_is_told(names: list[str], versions: list[str]) -> None:
    """Whichever comes first, in whatever spelling, and also when both are of the locked version."""
    found: Dict[str, list[str]] = {}
    for name, version in zip(names, versions):
        found.setdefault(name, []).append(version)
    wanted = checks_environments.normal(names[0])
    (told,) = checks_environments.deviations({wanted: "1.0"}, found)
    assert told == f"{wanted} is {' and '.join(versions)}, locked is 1.0"
