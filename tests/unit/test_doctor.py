"""The doctor's judgement: on a host without a lock each known fault is named first, and a healthy host has none."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List

import pytest

from gpuhost.checks.found import platform_row
from gpuhost.diagnoses import table as diagnoses
from gpuhost.diagnoses import verdict
from gpuhost.doctor import words
from gpuhost.doctor.run import releases
from gpuhost.shipping import answers
from gpuhost.types import Json

from .collected import cuda_answer
from .faults import FILES, fresh, made, put, read
from .lockless import FAULTS, changed, examined, healthy, ids, without_lock

VERIFY = {file.stem: read(file) for file in FILES}
#: Faults of verify/ whose checks can be made without a lock: all that is not about the lock, the store and the
#: environments. Two of them are faults only against the lock.
AGAINST_THE_LOCK = ("D04-branch-installed", "D13-other-flavour")
SEEN = sorted(
    name
    for name, fault in VERIFY.items()
    if any(fault["fails"].values()) and all(verdict.BY_ID[check].found for check in fault["fails"])
    if name not in AGAINST_THE_LOCK
)
#: Those that are faults only because gpuhost has promised more than that CUDA works: by its record or its guard.
PROMISED = re.compile(r"D0[234]-|D40-files-deleted|D08-(newer|no-headers|no-kernel)|D10-(in-the|loaded|not)|D50-")
#: Without a record nobody knows that it was replaced, or which kernel it was made for.
OTHERWISE: Dict[str, List[str]] = {"D02-replaced-by-an-update": ["D01"], "D09-newer-kernel-not-booted": []}


def first(name: str) -> Any:
    """Return the diagnosis of a fault of verify/."""
    return next(iter(VERIFY[name]["fails"].values()))


@pytest.mark.parametrize("name", SEEN)
def test_a_fault_is_named_first_without_a_lock(name: str) -> None:
    """On a host that gpuhost has provisioned, whose lock is not available; its own commands are the remedy."""
    report = examined(without_lock(made(VERIFY[name]), provisioned=True))
    # A machine without a card has that to say first.
    assert [found for found in ids(report) if found != "D38"][:1] == [first(name)]
    assert report["answer"] in ("found", "fine")
    if "remedy" in VERIFY[name]:
        row = next(row for row in report["findings"] + report["risks"] if row["diagnosis"] == first(name))
        assert row["remedy"] == VERIFY[name]["remedy"].replace("On the host: ", "")


@pytest.mark.parametrize("name", SEEN)
def test_a_fault_is_named_on_a_host_that_gpuhost_has_not_provisioned(name: str) -> None:
    """What breaks CUDA there is named all the same, and the remedy is a command of the distribution's own."""
    report = examined(without_lock(made(VERIFY[name])))
    wanted = OTHERWISE.get(name, [] if PROMISED.match(name) else [first(name)])
    assert [found for found in ids(report) if found != "D38"][:1] == wanted
    for row in report["findings"] + report["risks"]:
        assert row["remedy"] and "./run" not in row["remedy"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_needs_no_lock(name: str) -> None:
    """The check, the diagnosis, the words and the remedy."""
    fault = FAULTS[name]
    report = examined(changed(fault))
    assert {row["check"]: row["diagnosis"] for row in report["findings"]} == fault["fails"]
    known = {name.partition("-")[0]} == set(fault["fails"].values())
    found = report["findings"][0]
    assert fault["actual"] in found["actual"]
    assert found["remedy"] == fault.get("remedy", found["remedy"])
    assert known or not found["remedy"]
    assert report["answer"] == ("found" if known else "not recognised")


@pytest.mark.parametrize("provisioned", [False, True])
def test_a_healthy_host_has_no_finding(provisioned: bool) -> None:
    """And what is proved is said."""
    report = examined(healthy("gpu", provisioned))
    assert (report["answer"], report["findings"], report["risks"]) == ("fine", [], [])
    assert "Each card computes: NVIDIA GeForce GTX 750 Ti (5.0)" in report["proved"]


@pytest.mark.parametrize("name", SEEN)
def test_a_report_fits_a_terminal(name: str) -> None:
    """Its sentences are broken at 80 columns; what is typed and what a program said is not, and no word is lost."""
    report = examined(without_lock(made(VERIFY[name]), provisioned=True))
    narrow, whole = words.told(report, False, 80), words.told(report, False)
    remedies = [line for row in report["findings"] + report["risks"] for line in row["remedy"].split("\n")]
    too_long = [line for line in narrow.splitlines() if len(line) > 80 and "| " not in line]
    assert [line for line in too_long if line[10:] not in remedies and " " in line.strip()] == []
    assert all(line in narrow for line in remedies)
    assert narrow.split() == whole.split()


def test_a_remedy_of_another_machine_has_its_lines() -> None:
    """What is typed there, and what is typed here, each on its own, as on the machine itself."""
    reports = [examined(without_lock(made(VERIFY[name]), provisioned=True)) for name in SEEN]
    remedies = [row["remedy"] for report in reports for row in report["findings"] + report["risks"]]
    sent = [answers.doctor({"report": json.loads(json.dumps(report))})["report"] for report in reports]
    assert [row["remedy"] for report in sent for row in report["findings"] + report["risks"]] == remedies
    assert any("\nThen here: ./run" in remedy for remedy in remedies)


def test_a_machine_that_gpuhost_has_set_up_is_said_to_be_one() -> None:
    """With the command that judges the rest, and without a card in its lock with what that means."""
    assert "gpuhost has set this machine up" not in words.told(examined(healthy("gpu")), False)
    assert "gpuhost has set this machine up. Only" in words.told(examined(healthy("gpu", True)), False)
    seen = healthy("gpu", True)
    seen["machine"]["installed"]["stack"]["plan"]["gpus"] = []
    assert "as a CPU stack: no GPU was asked for" in words.told(examined(seen), False)


SECOND = {"pci_address": "0000:65:00.0", "uuid": "GPU-00000000-0000-4000-8000-000000000009"}
EDITOR = {
    "file": "/etc/apt/sources.list.d/editor.list",
    "line": 1,
    "format": "one-line",
    "types": ["deb"],
    "uris": ["https://editor.example/repos/code"],
    "suites": ["stable"],
    "components": ["main"],
    "signed_by": None,
    "enabled": True,
    "fetched": True,
    "releases": [],
}
#: Hosts on which CUDA works, in ways that are none of gpuhost's own.
WORKING: Dict[str, Json] = {
    "signed by the distribution": {"observation/secure_boot": "enabled"},
    "open modules": {"driver/module/open": True},
    "nouveau kept out by the kernel's command line": {"driver/nouveau/blacklisted": False},
    "nouveau in an initramfs of long ago": {"driver/nouveau/in_initramfs": True},
    "nouveau loaded beside it and without a card": {"driver/nouveau/loaded": True},
    "built by DKMS and no headers any more": {"driver/dkms": ["nvidia/525: installed"], "driver/headers": False},
    "a third party's source that offers nothing of the stack": {"observation/apt/sources/+": EDITOR},
    "no hold, pin or blacklist": {"guard/held": [], "guard/pins": {}, "guard/blacklist": []},
    "no nvidia-smi": {"observation/nvidia/smi": {"status": "absent", "message": "nvidia-smi is not installed."}},
    "no right to read the kernel's log": {"signs/kernel_log": None},
    "uvm made on demand": {"signs/uvm": {"loaded": False, "on_demand": True}},
    "a container": {"surroundings/place": "container", "driver/module": None, "driver/kernel": None},
    "an empty bus in a container": {"surroundings/place": "container", "surroundings/bus": 0, "observation/gpus": []},
    "Fedora": {"surroundings/names": ["fedora"], "observation/platform/id": "fedora-41", "observation/packages": {}},
    "Arch": {"surroundings/names": ["arch"], "observation/platform/id": "arch", "observation/packages": {}},
    "Mint": {"surroundings/names": ["linuxmint", "ubuntu"], "observation/platform/id": "linuxmint-22"},
    "Proxmox": {"driver/kernel": "6.8.12-4-pve", "observation/kernel/running": "6.8.12-4-pve"},
    "a variable that names the card": {"cuda/variables": {"CUDA_VISIBLE_DEVICES": "0"}},
}


@pytest.mark.parametrize("name", WORKING)
def test_a_host_that_works_has_no_finding(name: str) -> None:
    """Whatever it is, and however it came to work."""
    seen = healthy()
    for path, value in WORKING[name].items():
        put(seen, path, value)
    report = examined(seen)
    assert (report["answer"], report["findings"], report["risks"]) == ("fine", [], [])


def test_two_cards_that_work() -> None:
    """Each has its node and its proof; where CUDA sees one of them only, that is found."""
    seen = healthy()
    cards = seen["machine"]["observation"]["gpus"]
    cards.append({**cards[0], **SECOND})
    seen["machine"]["installed"]["signs"]["nodes"].append("nvidia1")
    one = examined(seen)
    assert [row["check"] for row in one["findings"]] == ["cuda.answers"]
    seen["cuda"] = cuda_answer(seen["machine"]["observation"])
    assert examined(seen)["answer"] == "fine"


def test_what_breaks_nothing_today_is_no_cause_where_cuda_is_proved() -> None:
    """A second source of packages is a risk there, and the first finding where nothing else explains the failure."""
    seen = without_lock(made(VERIFY["D06-vendor-offers-cuda"]))
    report = examined(seen)
    assert (report["answer"], ids({**report, "risks": []}), ids(report)) == ("fine", [], ["D06"])
    seen["cuda"]["devices"][0]["error"] = "cuMemAlloc_v2: 2 (CUDA_ERROR_OUT_OF_MEMORY)"
    report = examined(seen)
    assert (report["answer"], [row["check"] for row in report["findings"]]) == ("not recognised", ["cuda.computes"])
    seen["cuda"] = None
    report = examined(seen)
    assert (report["answer"], ids(report), report["risks"]) == ("found", ["D06"], [])


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        ("cuda/init", {"code": 304, "name": "CUDA_ERROR_OPERATING_SYSTEM", "text": "OS call failed"}, "cuda.answers"),
        ("cuda/ended", "the process that asked CUDA was ended by signal 11", "cuda.computes"),
        ("cuda/count", 0, "cuda.answers"),
    ],
)
def test_what_is_not_recognised_says_so(path: str, value: Any, check: str) -> None:
    """With the lines, and no diagnosis that is not one."""
    seen = healthy()
    put(seen, path, value)
    report = examined(seen)
    assert report["answer"] == "not recognised"
    assert [(row["check"], row["diagnosis"]) for row in report["findings"]] == [(check, None)]
    assert report["findings"][0]["title"].startswith("Not recognised.")


def test_what_could_not_be_read_is_never_green() -> None:
    """No check passes by what was not read, and no cause is made of it."""
    seen = healthy()
    seen["cuda"] = None
    for what in ("/sys/bus/pci/devices", "/proc/modules", "modinfo", "dpkg-query", "/dev"):
        seen["machine"]["observation"]["problems"].append({"what": what, "error": "It cannot be read: Denied."})
    report = examined(seen)
    assert report["answer"] == "unreadable"
    assert not {"gpu.present", "driver.loaded", "driver.module", "driver.nodes", "host.dpkg"} & set(report["passed"])
    assert "/proc/modules could not be read: It cannot be read: Denied." in [row["why"] for row in report["not_judged"]]
    assert not any("sudo" in way for way in report["ways"])
    for problem in seen["machine"]["observation"]["problems"]:
        problem["error"] = "It cannot be read: Permission denied."
    ways = examined(seen)["ways"]
    assert "sudo" in ways[0]
    assert not any("mount" in way for way in ways)


@pytest.mark.parametrize("distribution", ["fedora", "arch", "opensuse-tumbleweed", "linuxmint", "nixos", "debian"])
@pytest.mark.parametrize("name", ["D01-not-rebooted", "D08-no-module", "D10-has-the-card", "D11-unsigned"])
def test_other_distributions_are_judged_by_what_all_have(name: str, distribution: str) -> None:
    """The same cause, and a remedy of that family or none; what it cannot judge it says."""
    seen = without_lock(made(VERIFY[name]))
    names = {"linuxmint": ["linuxmint", "ubuntu", "debian"]}.get(distribution, [distribution])
    seen["surroundings"]["names"] = names
    seen["machine"]["observation"]["platform"].update(id=distribution, distribution=distribution, codename="")
    seen["expected"]["platform"] = None
    report = examined(seen)
    assert ids(report)[:1] == [first(name)]
    assert "host.platform" in [check for row in report["not_judged"] for check in row["checks"]]
    if names[-1] not in ("ubuntu", "debian"):
        assert "apt" not in report["findings"][0]["remedy"]


def test_wsl_is_judged_by_what_windows_gives_it() -> None:
    """No card on the bus and no module, and CUDA works."""
    seen = healthy()
    seen["surroundings"].update(place="wsl2", dxg=True)
    seen["machine"]["observation"]["gpus"] = []
    seen["machine"]["installed"]["driver"].update(module=None, library=None)
    seen["machine"]["observation"]["nvidia"].update(module_loaded=False, module_version=None)
    assert examined(seen)["answer"] == "fine"
    seen["surroundings"]["dxg"] = False
    assert [row["check"] for row in examined(seen)["findings"]] == ["driver.nodes"]


HOSTILE = "x; touch pwned #$(touch y)"


@pytest.mark.parametrize("dkms", [True, False])
@pytest.mark.parametrize("names", [["ubuntu"], ["debian"], ["fedora"], ["arch"], ["opensuse"]])
@pytest.mark.parametrize("name", ["D08-no-module", "D11-unsigned", "D01-library-upgraded"])
def test_a_hosts_words_stay_words_in_a_remedy(name: str, names: List[str], dkms: bool) -> None:
    """What a host calls its kernels and packages is not part of a command that a person types."""
    seen = without_lock(made(VERIFY[name]))
    observation, driver = seen["machine"]["observation"], seen["machine"]["installed"]["driver"]
    observation["platform"]["distribution"] = names[0]
    seen["surroundings"]["names"] = names
    driver["kernel"] = HOSTILE
    driver["dkms"] = ["nvidia/525: added"] if dkms else []
    for package in list(observation["packages"]):
        observation["packages"].pop(package)
    observation["packages"][f"nvidia-driver {HOSTILE}"] = {"version": "1", "state": "installed", "hold": False}
    report = examined(seen)
    assert report["findings"]
    for row in report["findings"]:
        bare = re.sub(r"'(?:[^']|'\"'\"')*'", "", row["remedy"])
        assert "touch" not in bare, row["remedy"]


def test_a_program_sees_one_instance_of_mig_at_most() -> None:
    """Two cards with instances are not one card too few."""
    seen = healthy()
    signs = seen["machine"]["installed"]["signs"]
    signs.update(mig={"0000:01:00.0": 7}, nodes=["nvidia-uvm", "nvidia0", "nvidia1", "nvidiactl"])
    seen["cuda"]["count"] = 1
    seen["machine"]["observation"]["gpus"].append(dict(seen["machine"]["observation"]["gpus"][0]))
    assert examined(seen)["answer"] == "fine"


def test_every_message_points_to_a_diagnosis_of_the_list() -> None:
    """Each diagnosis that users can meet by words has them."""
    without = [one.id for one in diagnoses.TABLE if not one.messages]
    assert set(without) <= {"D02", "D28"}


def test_no_remedy_of_a_foreign_host_is_empty_where_a_command_mends_it() -> None:
    """Diagnoses that no command fixes say so by their fix alone: a card or a library of another kind is needed."""
    without = {
        row["diagnosis"]
        for fault in FAULTS.values()
        for row in examined(changed(fault))["findings"]
        if row["diagnosis"] and not row["remedy"]
    }
    assert without == {"D17", "D18", "D33"}


def test_debians_unstable_is_no_mixture_with_testing() -> None:
    """Both have testing's code name in os-release, so that sid's sources looked like another release's."""
    observation = healthy()["machine"]["observation"]
    observation["platform"].update(distribution="debian", codename="forky", pretty_name="Debian GNU/Linux forky/sid")
    codenames = releases()["codenames"]
    assert platform_row(observation, codenames) is None
    observation["platform"]["pretty_name"] = "Debian GNU/Linux 14 (forky)"
    row = platform_row(observation, codenames)
    assert row is not None and row["codename"] == "forky"


@pytest.mark.parametrize("explained", [True, False])
def test_what_a_found_cause_leaves_unexplained_is_for_the_bundle(explained: bool) -> None:
    """Where a finding beside the cause has no id, the words offer the bundle; else they do not."""
    report = examined(changed(FAULTS["D41-hidden"]))
    other = examined(changed(FAULTS["smi-not-recognised"]))["findings"][0]
    if not explained:
        report["findings"].append(other)
    assert (report["answer"], other["diagnosis"]) == ("found", None)
    assert ("--bundle FILE" in words.told(report, False)) is not explained


def test_evidence_is_what_the_check_rests_on() -> None:
    """The very lines, with their source."""
    seen = without_lock(fresh("gpu"))
    seen["machine"]["installed"]["driver"]["library"] = "535.1"
    seen["machine"]["installed"]["driver"]["module"]["version"] = "535.1"
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.105.17  Tue Mar 28 18:02:59 UTC 2023"
    seen["heard"] = {"/proc/driver/nvidia/version": [line], "dpkg --audit": ["nothing to do with it"]}
    assert examined(seen)["findings"][0]["evidence"] == [{"source": "/proc/driver/nvidia/version", "lines": [line]}]
