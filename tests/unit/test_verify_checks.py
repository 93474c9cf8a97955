"""Each check red, and no other: a healthy host is broken in one place, and exactly that check has to say so."""

from __future__ import annotations

import ast
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from gpuhost import checks, checks_environments, checks_lock
from gpuhost.checks_base import FAIL, PASS, SKIP, Outcome, printable
from gpuhost.environments import environment_names, load_environment, lock_digest, with_engines

from .collected import cpu_host, gpu_host, judged, with_status

Json = Dict[str, Any]
HEALTHY = {"cpu": cpu_host(), "gpu": gpu_host()}
GPU_ONLY = [c.id for c in checks.CHECKS if c.gpu]


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


def offers_cuda(seen: Json) -> None:
    """A third party's source that offers CUDA."""
    source(seen, uris=["https://vendor.example/cuda"], suites=["/"])
    row = {
        "package": "cuda-toolkit",
        "site": "vendor.example",
        "version": "13",
        "file": "added.list",
        "line": 1,
    }
    observation(seen)["apt"]["foreign_packages"].append(row)


def half_installed(seen: Json) -> None:
    """A package that dpkg did not finish."""
    observation(seen)["packages"]["linux-image-x"] = {
        "version": "1",
        "state": "half-configured",
        "hold": False,
    }


def other_platform(seen: Json) -> None:
    """The release was upgraded under its lock."""
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        lock["plan"]["platform"] = "ubuntu-18.04"


def swap_card(seen: Json) -> None:
    """Another card in the same slot."""
    observation(seen)["gpus"][0].update(pci_id="10de:1c30", uuid=None)


def card_without_lock(seen: Json) -> None:
    """A card was put into a host with a CPU lock."""
    observation(seen)["gpus"] = copy.deepcopy(observation(HEALTHY["gpu"])["gpus"])


def edit_lock(seen: Json) -> None:
    """A version in the lock was changed by hand."""
    seen["lock"]["plan"]["tensorflow"]["version"] = "2.99.0"


def edit_platform(seen: Json) -> None:
    """The platform in the lock was changed by hand."""
    seen["lock"]["plan"]["platform"] = "ubuntu-18.04"


def edit_cards(seen: Json) -> None:
    """A card was written into the lock, or out of it."""
    seen["lock"]["cards"] = [] if seen["lock"]["cards"] else copy.deepcopy(HEALTHY["gpu"]["lock"]["cards"])


def edit_environment(seen: Json) -> None:
    """Another environment was written into the lock; what is collected follows the lock that is obeyed."""
    seen["lock"]["plan"]["opencv"]["environment"] = "opencv_cuda-opencv-4.13.0.92-cp311"
    seen["locked"] = checks_environments.locked(checks_lock.obeyed(seen), {})


def damage_record(seen: Json) -> None:
    """The generation's own record is gone."""
    seen["machine"]["installed"]["stack"] = None


def downgrade(seen: Json) -> None:
    """One package was replaced by an older one."""
    seen["environments"]["opencv_cuda"]["packages"]["numpy"] = ["1.0.0"]


def extra_package(seen: Json) -> None:
    """A package was added."""
    seen["environments"]["dl4cv"]["packages"]["torch"] = ["2.0"]


def cannot_import(seen: Json, environment: str) -> None:
    """The library crashes when it is imported."""
    del seen["environments"][environment]["computed"]
    seen["environments"][environment]["error"] = "The import or the computation crashed. It was ended by SIGILL."


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


def update_without_guard(seen: Json) -> None:
    """The original's accident: the guard is off, and an update replaces the driver under the loaded module."""
    release(seen)
    new = "525.125.06-0ubuntu0.18.04.1"
    guard_of(seen)["stack"].update({"nvidia-driver-525": new, "libnvidia-compute-525": new})
    driver(library="525.125.06")(seen)
    smi = {"status": "error", "message": "Failed to initialize NVML: Driver/library version mismatch"}
    nvidia(smi=smi)(seen)


def branch_jumped(seen: Json) -> None:
    """A transitional package brought another branch."""
    guard_of(seen)["stack"]["nvidia-driver-530"] = "530.41.03"


def unsigned(seen: Json) -> None:
    """Secure Boot is on, and the module that DKMS built has no signature."""
    observation(seen)["secure_boot"] = "enabled"
    module(signer="")(seen)
    nvidia(module_loaded=False, module_version=None)(seen)


def key_not_enrolled(seen: Json) -> None:
    """The module is signed by a key of the host's own, and the blue screen was missed."""
    observation(seen)["secure_boot"] = "enabled"
    module(signer="box gpuhost module signing")(seen)
    driver(key={"made": True, "enrolled": False})(seen)
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        lock["plan"]["driver"]["secure_boot"] = "own-key"
    nvidia(module_loaded=False, module_version=None)(seen)


def bench(model: str, **values: Any) -> Callable[[Json], None]:
    """A change of a model's entry."""
    return lambda seen: seen["benchmark"][model]["models"][0].update(values)


def link(name: str, **values: Any) -> Callable[[Json], None]:
    """A change of a link of the generation."""
    return lambda seen: seen["machine"]["installed"]["links"][name].update(values)


FAULTS = [
    ("host.platform", "cpu", lambda s: observation(s).update(machine="aarch64"), "aarch64"),
    (
        "host.sources-readable",
        "cpu",
        lambda s: observation(s)["apt"]["problems"].append(
            {"file": "/etc/apt/x", "line": 3, "text": "", "error": "odd"}
        ),
        "line 3",
    ),
    ("host.sources-release", "cpu", lambda s: source(s, suites=["trixie"]), "trixie"),
    ("host.sources-release", "gpu", lambda s: source(s, suites=["focal-updates"]), "focal-updates"),
    ("host.sources-foreign", "cpu", offers_cuda, "vendor.example"),
    (
        "host.sources-foreign",
        "cpu",
        lambda s: source(s, uris=["https://vendor.example/x"], suites=["any"], fetched=False),
        "not known",
    ),
    ("host.dpkg", "cpu", half_installed, "linux-image-x"),
    ("host.dpkg", "cpu", lambda s: observation(s).update(dpkg_audit=["half-installed: x"]), "half-installed"),
    ("lock.platform", "cpu", other_platform, "debian-12"),
    ("lock.cards", "cpu", card_without_lock, "10de:1380"),
    ("lock.generation", "cpu", edit_lock, "2.99.0"),
    ("lock.generation", "gpu", edit_lock, "2.99.0"),
    ("lock.generation", "cpu", edit_platform, "ubuntu-18.04"),
    ("lock.generation", "cpu", edit_cards, "cards"),
    ("lock.generation", "gpu", edit_cards, "cards"),
    ("lock.generation", "cpu", edit_environment, "4.13.0.92"),
    ("lock.generation", "cpu", damage_record, "damaged"),
    ("tensorflow.installed", "cpu", link("venvs/dl4cv", digest=None), "not whole"),
    ("detector.installed", "cpu", link("yolo", digest="ffffffffffff"), "ffffffffffff"),
    ("cuda.installed", "gpu", link("cuda", digest=None), "not whole"),
    ("cudnn.installed", "gpu", lambda s: s["machine"]["installed"]["links"].pop("cudnn"), "not there"),
    ("opencv.installed", "cpu", lambda s: s["machine"]["installed"]["links"].pop("venvs/opencv_cuda"), "not there"),
    (
        "tensorflow.installed",
        "cpu",
        link("venvs/dl4cv", target="store/dl4cv-1-ab", digest="ab"),
        "the lock wants",
    ),
    (
        "detector.installed",
        "cpu",
        lambda s: s["machine"]["installed"]["links"].pop("yolo"),
        "yolo is not there",
    ),
    ("driver.installed", "gpu", driver(record=None), "no driver was installed by gpuhost"),
    ("driver.installed", "gpu", recorded_driver(version="470.1"), "470.1"),
    ("driver.installed", "gpu", update_without_guard, "so nvidia-smi and CUDA fail (D01"),
    ("driver.installed", "gpu", branch_jumped, "nvidia-driver-530 530.41.03 came beside it"),
    ("driver.installed", "gpu", lambda s: guard_of(s)["stack"].pop("nvidia-driver-525"), "is gone"),
    ("guard.holds", "gpu", lambda s: guard_of(s)["held"].remove("libnvidia-compute-525"), "libnvidia-compute-525"),
    ("guard.holds", "gpu", release, "the guard is released"),
    ("guard.pins", "gpu", lambda s: guard_of(s)["pins"].update({"linux-generic": "1"}), "linux-generic 1 instead of"),
    ("guard.pins", "gpu", lambda s: guard_of(s)["pins"].clear(), "not at all"),
    ("guard.blacklist", "gpu", lambda s: guard_of(s)["blacklist"].remove("linux-generic"), "linux-generic"),
    ("kernel.boots", "gpu", driver(kernel="4.15.0-214-generic"), "4.15.0-214-generic will boot"),
    ("kernel.boots", "gpu", driver(kernel=None), "no kernel"),
    ("kernel.headers", "gpu", recorded_driver(modules_from="dkms"), "leads nowhere"),
    ("driver.module", "gpu", driver(module=None), "no module nvidia"),
    ("driver.module", "gpu", module(version="470.1"), "470.1"),
    ("driver.module", "gpu", module(open=True), "the open module"),
    ("driver.signed", "gpu", unsigned, "unsigned"),
    ("driver.signed", "gpu", key_not_enrolled, "not enrolled"),
    ("driver.nouveau", "gpu", nouveau(blacklisted=False), "not blacklisted"),
    ("driver.nouveau", "gpu", nouveau(in_initramfs=True), "the initramfs loads it"),
    ("driver.nouveau", "gpu", nouveau(loaded=True), "loaded now"),
    ("driver.loaded", "gpu", nvidia(module_version="470.1"), "470.1"),
    ("driver.loaded", "gpu", nvidia(module_loaded=False, module_version=None), "not loaded"),
    ("driver.match", "gpu", driver(library="470.1"), "470.1"),
    ("driver.match", "gpu", driver(library=None), "no libnvidia-ml"),
    ("driver.cards", "gpu", nvidia(smi={"status": "error", "message": "couldn't communicate"}), "couldn't"),
    ("driver.cards", "gpu", lambda s: observation(s)["gpus"][0].update(readable=False), "missing"),
    ("cuda.toolkit", "gpu", installed(cuda="11.2.0"), "11.2.0"),
    ("cuda.toolkit", "gpu", installed(nvcc="12.0"), "12.0"),
    ("cuda.toolkit", "gpu", installed(cuda=None, nvcc=None), "no toolkit"),
    ("cudnn.version", "gpu", installed(cudnn="8.9.0"), "8.9.0"),
    ("cudnn.version", "gpu", installed(cudnn=None), "no header"),
    ("opencv.packages", "cpu", downgrade, "numpy is 1.0.0"),
    (
        "opencv.packages",
        "cpu",
        lambda s: s["environments"]["opencv_cuda"]["packages"].pop("numpy"),
        "missing",
    ),
    ("opencv.computes", "cpu", computed("opencv_cuda", blur_error=3.0), "3.0e+00"),
    ("opencv.computes", "cpu", computed("opencv_cuda", file="/usr/lib/cv2.so"), "/usr/lib/cv2.so"),
    ("opencv.computes", "cpu", lambda s: cannot_import(s, "opencv_cuda"), "SIGILL"),
    ("opencv.cuda", "gpu", computed("opencv_cuda", cuda_devices=0), "0 devices"),
    ("opencv.cuda", "gpu", computed("opencv_cuda", build=["NVIDIA CUDA: YES", "cuDNN: NO"]), "cuDNN: NO"),
    ("tensorflow.packages", "cpu", extra_package, "torch 2.0 is not locked"),
    ("tensorflow.computes", "cpu", computed("dl4cv", conv_error=1e300), "1.0e+300"),
    ("tensorflow.computes", "cpu", lambda s: cannot_import(s, "dl4cv"), "SIGILL"),
    ("tensorflow.gpu", "gpu", computed("dl4cv", device="/device:CPU:0"), "CPU:0"),
    ("tensorflow.gpu", "gpu", computed("dl4cv", gpus=[]), "0 cards"),
    ("benchmark.yolov3", "cpu", lambda s: s["benchmark"].update(yolov3={"error": "no space"}), "no space"),
    ("benchmark.yolov3", "cpu", bench("yolov3", complete=False), "not complete"),
    (
        "benchmark.yolov4-tiny",
        "cpu",
        bench("yolov4-tiny", gate={"passed": False, "rel2": [1]}),
        "not complete",
    ),
    ("benchmark.yolov4-tiny", "gpu", bench("yolov4-tiny", device="cpu"), "cpu"),
]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_healthy_host_has_no_failure(kind: str) -> None:
    """The control: without it the tests below would prove nothing."""
    results = judged(fresh(kind))
    assert with_status(results, FAIL) == []
    assert with_status(results, SKIP) == (GPU_ONLY if kind == "cpu" else [])


@pytest.mark.parametrize(("name", "kind", "break_it", "told"), FAULTS)
def test_a_fault_makes_exactly_its_check_red(name: str, kind: str, break_it: Callable[[Json], Any], told: str) -> None:
    """The right id, no other, with the value that is wrong and something to do about it."""
    seen = fresh(kind)
    break_it(seen)
    results = judged(seen)
    assert with_status(results, FAIL) == [name]
    assert told in results[name].actual
    assert results[name].remediation
    assert all(
        name in found.actual or found.actual in (checks.NO_GPU,) for found in results.values() if found.status == SKIP
    )


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


DIAGNOSES = [
    ("D01", "driver.loaded", not_booted),
    ("D01", "driver.match", driver(library="470.1")),
    ("D02", "driver.installed", update_without_guard),
    ("D02", "guard.holds", release),
    ("D03", "guard.blacklist", lambda s: guard_of(s)["blacklist"].clear()),
    ("D04", "driver.installed", branch_jumped),
    ("D04", "driver.installed", recorded_driver(branch="530", version="530.41.03")),
    ("D08", "kernel.boots", driver(kernel="5.4.0-152-generic")),
    ("D08", "driver.module", driver(module=None)),
    ("D09", "driver.loaded", nvidia(module_loaded=False, module_version=None)),
    ("D10", "driver.nouveau", nouveau(in_initramfs=True)),
    ("D11", "driver.signed", unsigned),
    ("D12", "driver.signed", key_not_enrolled),
    ("D16", "driver.cards", lambda s: observation(s)["gpus"][0].update(readable=False)),
]


@pytest.mark.parametrize(("diagnosis", "name", "break_it"), DIAGNOSES)
def test_a_known_failure_carries_its_id(diagnosis: str, name: str, break_it: Callable[[Json], Any]) -> None:
    """One failure, with the id that a user can search for."""
    seen = fresh("gpu")
    break_it(seen)
    results = judged(seen)
    assert with_status(results, FAIL) == [name]
    assert results[name].diagnosis == diagnosis


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
        ("disabled", {"signer": ""}, PASS),
        ("unknown", {"signer": ""}, SKIP),
        ("unknown", {}, PASS),
        ("enabled", {}, PASS),
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


def test_a_swapped_card_is_told_by_the_lock_and_by_the_driver() -> None:
    """Two claims are false then: the lock's card is not there, and so the driver cannot list it."""
    seen = fresh("gpu")
    swap_card(seen)
    assert with_status(judged(seen), FAIL) == ["lock.cards", "driver.cards"]


def test_a_card_that_is_gone_is_told_with_what_hangs_on_it() -> None:
    """What needs the card is not reached."""
    seen = fresh("gpu")
    observation(seen)["gpus"] = []
    results = judged(seen)
    assert with_status(results, FAIL) == ["lock.cards", "gpu.present"]
    assert results["tensorflow.gpu"].actual == "not reached because of gpu.present"


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
    """--require-gpu turns the skips of a CPU host into failures, all of them and nothing else."""
    seen = fresh("cpu")
    seen["options"]["require_gpu"] = True
    assert with_status(judged(seen), FAIL) == GPU_ONLY


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


def test_the_diagnosis_of_a_mixed_release_is_named() -> None:
    """A user can search for it."""
    seen = fresh("cpu")
    source(seen, suites=["trixie"])
    found = judged(seen)["host.sources-release"]
    assert found.diagnosis == "D06"
    assert found.remediation.startswith("rm /etc/apt/sources.list.d/added.list")


@pytest.mark.parametrize(
    ("statuses", "provisioned", "verdict"),
    [
        ([PASS, PASS], True, "ok"),
        ([PASS, SKIP], True, "incomplete"),
        ([SKIP, SKIP], True, "incomplete"),
        ([], True, "incomplete"),
        ([PASS, FAIL, SKIP], True, "broken"),
        ([FAIL, SKIP], False, "not provisioned"),
        ([PASS, PASS], False, "not provisioned"),
    ],
)
def test_verdict(statuses: list[str], provisioned: bool, verdict: str) -> None:
    """A skip never gives ok."""
    results = [replace(judged(fresh("cpu"))["host.dpkg"], status=status) for status in statuses]
    assert checks.verdict(results, provisioned) == verdict


NEGATED = {PASS: FAIL, FAIL: PASS, SKIP: SKIP}


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: str(check.id))
def test_a_negated_check_would_be_noticed(check: checks.Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutation in small: with its outcome turned round, a healthy host fails, and on this check."""
    kind = "gpu" if check.gpu else "cpu"

    def turned(seen: Json) -> Outcome:
        outcome = check.judge(seen)
        return replace(outcome, status=NEGATED[outcome.status])

    mutant = replace(check, judge=turned)
    monkeypatch.setattr(checks, "CHECKS", tuple(mutant if c.id == check.id else c for c in checks.CHECKS))
    assert with_status(judged(fresh(kind)), FAIL) == [check.id]


def test_every_check_has_been_seen_red() -> None:
    """The faults above, and the tests of their own, name every check there is."""
    own = {"host.observed", "lock.present", "lock.provisioned", "gpu.present"}
    assert {name for name, *_ in FAULTS} | own == set(checks.BY_ID)


def test_what_a_check_needs_comes_before_it() -> None:
    """The order of causes."""
    before: set[str] = set()
    for check in checks.CHECKS:
        assert set(check.needs) <= before, check.id
        before.add(check.id)
        assert checks.lineage(check)[-1] == check


def test_verify_has_one_test_for_each_check() -> None:
    """verify/test_*.py and the checks are one list; every test says why it matters."""
    folder = Path(__file__).resolve().parents[2] / "verify"
    named = []
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                assert ast.get_docstring(node), node.name
                named += [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and "." in str(n.value)]
    ids = {name for name in named if name in checks.BY_ID}
    assert ids == {name for name in checks.BY_ID if not name.startswith("benchmark.")}


def test_a_lock_of_another_release_of_gpuhost_is_told() -> None:
    """A lock may name an environment that this catalog does not have."""
    seen = fresh("cpu")
    for lock in (seen["lock"], seen["machine"]["installed"]["stack"]):
        lock["plan"]["tensorflow"]["environment"] = "dl4cv-tensorflow-9.9-cp399"
    seen["locked"] = checks_environments.locked(seen["lock"], seen["machine"]["installed"]["links"])
    results = judged(seen)
    assert with_status(results, FAIL) == ["tensorflow.packages"]
    assert "dl4cv-tensorflow-9.9-cp399" in results["tensorflow.packages"].actual


def test_the_engines_are_the_hosts_own_choice() -> None:
    """A host whose opencv_cuda has the engines is held against that lock, package by package, and passes."""
    seen = fresh("cpu")
    name = with_engines(seen["lock"]["plan"]["opencv"]["environment"])
    assert name in environment_names()
    wanted = load_environment(name)
    links = seen["machine"]["installed"]["links"]
    digest = lock_digest(wanted)
    links["venvs/opencv_cuda"] = {"target": f"store/opencv_cuda-1-{digest}", "digest": digest}
    there = {package["name"]: [package["version"]] for package in wanted["packages"]}
    seen["environments"]["opencv_cuda"]["packages"] = there
    seen["locked"] = checks_environments.locked(seen["lock"], links)
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
    """Names compare as PEP 503 says; what venv brings itself is no deviation."""
    assert checks_environments.deviations({"numpy": "2.0"}, found) == told


def test_what_a_host_says_cannot_move_the_cursor() -> None:
    """Control characters and line ends of a host's text never reach a terminal."""
    assert printable("a\x1b[2J\nb\u202e") == "a\N{REPLACEMENT CHARACTER}[2J b\N{REPLACEMENT CHARACTER}"
