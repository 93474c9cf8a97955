"""The filters by themselves: the package's errors become one sentence of Ansible's, and the small ones' values."""

from __future__ import annotations

import importlib.util
import re
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from ansible.errors import AnsibleFilterError

from gpuhost.planning import lock

from ..example_hosts import observed
from ..offered import offering
from .conftest import ROOT


@pytest.fixture(scope="module")
def filters() -> Dict[str, Callable[..., Any]]:
    """The filters by name, loaded as Ansible loads them: from the file."""
    spec = importlib.util.spec_from_file_location("gpuhost_filters", str(ROOT / "plugins" / "filter" / "gpuhost.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Dict[str, Callable[..., Any]] = module.FilterModule().filters()
    return found


def test_every_filter_is_used_and_every_use_is_of_one(filters: Dict[str, Callable[..., Any]]) -> None:
    """Ansible looks a filter up only when its task runs, so a mistyped name passes --syntax-check."""
    files = [ROOT / "site.yml", *(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").rglob("*.yml")]
    used = {name for file in files for name in re.findall(r"\| *(gpuhost_\w+)", file.read_text(encoding="utf-8"))}
    assert used == set(filters)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cuda": ">>3"}, "'>>3' is not a version"),
        ({"tensorflow": 2.1}, "without quotes"),
        ({"cuda": None}, "without quotes"),
        ({"kuda": "11"}, "gpu_stack_wanted names kuda"),
        ([], "not a mapping"),
        ("2.13", "not a mapping"),
    ],
)
def test_a_wrong_wish_is_one_sentence(filters: Dict[str, Callable[..., Any]], asked: Any, words: str) -> None:
    """When a plan is made; compared with a lock it is the difference that stops the run, the specifier's form aside."""
    with pytest.raises(AnsibleFilterError, match=words):
        filters["gpuhost_plan"](observed("debian12-no-gpu"), "box", asked)
    if words != "'>>3' is not a version":
        (difference,) = filters["gpuhost_lock_differences"]({}, observed("debian12-no-gpu"), asked)
        assert words in difference


def test_a_plan_brings_its_lock_and_a_refusal_none(filters: Dict[str, Callable[..., Any]]) -> None:
    """Both say why in lines."""
    made = filters["gpuhost_plan"](offering(observed("ubuntu1804-quadro-p2000")), "box", {})
    assert lock.check(made["lock"], "made", "box")["plan"]["gpus"] and len(made["lines"]) > 5
    without = filters["gpuhost_plan"](observed("ubuntu1804-quadro-p2000"), "box", {}, True)
    assert without["lock"]["plan"]["gpus"] == []
    refused = filters["gpuhost_plan"](offering(observed("ubuntu1804-quadro-p2000")), "box", {"tensorflow": "1.0"})
    assert refused["lock"] is None and any("refused" in line for line in refused["lines"])


def test_errors_of_the_package_carry_their_next_step(filters: Dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    """A damaged lock, and a removal that names nothing."""
    file = tmp_path / "stack.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(AnsibleFilterError, match=r"cannot be read.*git"):
        filters["gpuhost_lock"](str(file), "box")
    with pytest.raises(AnsibleFilterError, match=r"Nothing is named to be removed.*cuda_remove="):
        filters["gpuhost_specs"]({}, remove="")


def test_a_lock_is_read_unless_a_new_one_is_wanted(filters: Dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    """No file, and a file that is to be replaced (even a damaged one), are both no lock."""
    file = tmp_path / "stack.json"
    assert filters["gpuhost_lock"](str(file), "box") == {}
    file.write_text("{", encoding="utf-8")
    assert filters["gpuhost_lock"](str(file), "box", None, True) == {}


def test_a_newer_core_is_refused_for_the_old_target_only(filters: Dict[str, Callable[..., Any]]) -> None:
    """What the entry point `controller` asks before any module runs."""
    bionic = 'ID=ubuntu\r\nVERSION_ID="18.04"\r\n'
    problems = filters["gpuhost_problems"]
    (told,) = problems("box", os_release=bionic, core="2.20.0")["problems"]
    assert "GPUHOST_PYTHON=python3.11" in told
    assert problems("box", os_release=bionic, core="2.16.19")["problems"] == []
    assert problems("box", os_release='ID=debian\nVERSION_ID="12"\n', core="2.20.0")["problems"] == []


def test_a_lock_in_a_folder_that_ansible_loads_is_a_problem(
    filters: Dict[str, Callable[..., Any]], tmp_path: Path
) -> None:
    """Whatever else is asked; a host that was typed on the command line has no such folder."""
    former = tmp_path / "inventory/host_vars/box/stack.json"
    former.parent.mkdir(parents=True)
    former.touch()
    (told,) = filters["gpuhost_problems"]("box", str(tmp_path / "inventory"))["problems"]
    assert "a folder that Ansible loads by itself" in told and f"mv {former}" in told
    assert filters["gpuhost_problems"]("box", None) == {"problems": [], "remarks": [], "busy": False}


def test_what_is_observed_is_judged(filters: Dict[str, Callable[..., Any]]) -> None:
    """What forbids a run, what is worth a word, and that dpkg is at work."""
    seen = filters["gpuhost_problems"]("box", observation=observed("ubuntu1804-foreign-sources"))
    assert any("cuda.list" in text for text in seen["problems"]) and not seen["busy"]
    busy = {**observed("debian12-no-gpu"), "dpkg_audit": ["another process has locked the database"]}
    assert filters["gpuhost_problems"]("box", observation=busy)["busy"]


def test_two_hosts_never_share_a_folder_of_reports(filters: Dict[str, Callable[..., Any]]) -> None:
    """`gpu:1` and `gpu_1` once did; and no playbook puts a host's bare name into a path."""
    benchmark = partial(filters["gpuhost_benchmark"], root="/r", device="cpu", models=["yolov3"], photos=1, passes=1)
    folders = [benchmark({}, host)["folder"] for host in ("gpu:1", "gpu_1", "../x")]
    assert folders == ["gpu%3A1", "gpu_1", "%2E.%2Fx"]
    with pytest.raises(AnsibleFilterError, match="alias"):
        benchmark({}, "")
    bare = re.compile(
        r"/\{\{ *inventory_hostname *\}\}|\{\{ *inventory_hostname *\}\}/|[/~] *inventory_hostname\b(?! *\|)"
    )
    for playbook in (ROOT / "site.yml", *(ROOT / "playbooks").rglob("*.yml")):
        assert not bare.search(playbook.read_text(encoding="utf-8")), playbook


def test_a_benchmark_runs_where_the_lock_says(filters: Dict[str, Callable[..., Any]]) -> None:
    """On the card where it has one; another device only when it is asked for. The report names its file."""
    plan = {"plan": {"gpus": [{}]}}
    benchmark = partial(filters["gpuhost_benchmark"], plan, "box", "/r", models=["yolov3"], photos=1, passes=1)
    assert benchmark(device="")["device"] == "cuda" and benchmark(device="")["name"] == ""
    assert "cpu" in benchmark(device="cpu")["command"]
    report = '{"started": "2024-01-02T03:04:05Z"}'
    assert benchmark(device="", report=report, current="generations/7")["name"] == "0007-20240102T030405Z.json"


def test_what_is_to_come_is_known_by_its_lock_and_its_kernel(filters: Dict[str, Callable[..., Any]]) -> None:
    """A rebuild and an update know it; the host's own lock is not read, and no plan is made."""
    host = offering(observed("ubuntu1804-quadro-p2000"))
    made = filters["gpuhost_plan"](host, "box", {})["lock"]
    none = filters["gpuhost_plan"](host, "box", {}, True)["lock"]
    lists: Dict[str, Any] = {key: [] for key in ("generations", "artifacts", "debs", "wheels", "store")}
    there = {"current": None, "build_seconds": {}, **lists}
    kernel = {"linux-image-5.4.0-999-generic": "5.4.0-999.1"}
    bare = {**host, "packages": {}}
    asked = (bare, "box", "/no/such/stack.json", there, "/opt/gpuhost", ["driver"], {}, False, [], {}, False)
    needs = filters["gpuhost_needs"]
    assert needs(*asked, {"lock": made, "kernel": kernel})["packages"] == list(kernel)
    assert needs(*asked, {"lock": made})["packages"] == [] and needs(*asked)["boot"]
    assert needs(*asked, {"lock": none})["debs"] == [] and not needs(*asked, {"lock": none})["boot"]
