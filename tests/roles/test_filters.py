"""The filters by themselves: the package's errors become one sentence of Ansible's, and the small ones' values."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from ansible.errors import AnsibleFilterError

from ..example_hosts import observed
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
        filters["gpuhost_plan"](observed("debian12-no-gpu"), asked)
    if words != "'>>3' is not a version":
        (difference,) = filters["gpuhost_lock_differences"]({}, observed("debian12-no-gpu"), asked)
        assert words in difference


def test_errors_of_the_package_carry_their_next_step(filters: Dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    """A damaged lock and an environment that no lock is there for."""
    file = tmp_path / "stack.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(AnsibleFilterError, match=r"cannot be read.*git"):
        filters["gpuhost_lock_read"](str(file), "box")
    with pytest.raises(AnsibleFilterError, match="no environment lock named 'x'"):
        filters["gpuhost_environment_lock"]("x")


def test_a_lock_is_read_unless_a_new_one_is_wanted(filters: Dict[str, Callable[..., Any]], tmp_path: Path) -> None:
    """No file, and a file that is to be replaced (even a damaged one), are both no lock."""
    file = tmp_path / "stack.json"
    assert filters["gpuhost_lock_read"](str(file), "box") == {}
    file.write_text("{", encoding="utf-8")
    assert filters["gpuhost_lock_read"](str(file), "box", None, True) == {}


def test_a_newer_core_is_refused_for_the_old_target_only(filters: Dict[str, Callable[..., Any]]) -> None:
    """What the entry point `controller` asks before any module runs."""
    bionic = 'ID=ubuntu\r\nVERSION_ID="18.04"\r\n'
    assert "GPUHOST_PYTHON=python3.11" in filters["gpuhost_controller_problem"](bionic, "2.20.0")
    assert filters["gpuhost_controller_problem"](bionic, "2.16.19") == ""
    assert filters["gpuhost_controller_problem"]('ID=debian\nVERSION_ID="12"\n', "2.20.0") == ""


def test_missing_packages(filters: Dict[str, Callable[..., Any]]) -> None:
    """Removed but configured, half installed, and never heard of are all missing; only `installed` is not."""
    said = "python3 installed\nlibgl1 config-files\npython3-venv half-configured\nlibglib2.0-0 not-installed\n"
    wanted = ["python3", "python3-venv", "libgl1", "libglib2.0-0", "never"]
    assert filters["gpuhost_missing_packages"](said, wanted) == wanted[1:]
    assert filters["gpuhost_missing_packages"]("", ["python3"]) == ["python3"]


def test_the_packages_of_a_python(filters: Dict[str, Callable[..., Any]]) -> None:
    """With the venv module, and what is asked for besides."""
    assert filters["gpuhost_python_packages"]("ubuntu-18.04", "3.8") == ["python3.8", "python3.8-venv"]
    assert filters["gpuhost_python_packages"]("debian-12", "3.11", ["libgl1"]) == ["python3", "python3-venv", "libgl1"]


def test_the_preparing_command_says_what_changes_it(filters: Dict[str, Callable[..., Any]]) -> None:
    """The marker of what was prepared is named after it: sizes, models and weights must all be in it."""
    base = ("python", "/opt/gpuhost/store/yolo", "/opt/gpuhost", ["yolov4-tiny"], 416, 192, "synthetic")
    command = filters["gpuhost_yolo_prepare"](*base)
    others = [
        ("python", "/opt/gpuhost/store/yolo", "/opt/gpuhost", ["yolov3"], 416, 192, "synthetic"),
        ("python", "/opt/gpuhost/store/yolo", "/opt/gpuhost", ["yolov4-tiny"], 320, 192, "synthetic"),
        ("python", "/opt/gpuhost/store/yolo", "/opt/gpuhost", ["yolov4-tiny"], 416, 10, "synthetic"),
        ("python", "/opt/gpuhost/store/yolo", "/opt/gpuhost", ["yolov4-tiny"], 416, 192, "published"),
    ]
    digests = {filters["gpuhost_short_digest"](filters["gpuhost_yolo_prepare"](*other)) for other in [base, *others]}
    assert len(digests) == 5
    assert all(isinstance(word, str) for word in command)
    assert filters["gpuhost_short_digest"](command, "a") != filters["gpuhost_short_digest"](command, "b")


def test_published_weights_come_over_https_with_a_checksum(filters: Dict[str, Callable[..., Any]]) -> None:
    """As the role artifact demands."""
    row = filters["gpuhost_yolo_weights"]("yolov4-tiny")
    assert row["url"].startswith("https://")
    assert len(row["sha256"]) == 64
    assert row["size"] > 10**7


def test_two_hosts_never_share_a_folder_of_reports(filters: Dict[str, Callable[..., Any]]) -> None:
    """`gpu:1` and `gpu_1` once did; and no playbook puts a host's bare name into a path."""
    name = filters["gpuhost_folder_name"]
    assert (name("gpu:1"), name("gpu_1"), name("../x")) == ("gpu%3A1", "gpu_1", "%2E.%2Fx")
    with pytest.raises(AnsibleFilterError, match="alias"):
        name("")
    bare = re.compile(
        r"/\{\{ *inventory_hostname *\}\}|\{\{ *inventory_hostname *\}\}/|[/~] *inventory_hostname\b(?! *\|)"
    )
    for playbook in (ROOT / "site.yml", *(ROOT / "playbooks").rglob("*.yml")):
        assert not bare.search(playbook.read_text(encoding="utf-8")), playbook


def test_the_drivers_installer_comes_with_the_size_of_the_lock(filters: Dict[str, Callable[..., Any]]) -> None:
    """The size is the cap of what is fetched; one that the catalog does not know is left out."""
    driver = {"url": "https://a.example/x/N-1.run", "sha256": "0" * 64, "size": 5, "version": "1"}
    file = {"name": "N-1.run", "url": driver["url"], "sha256": "0" * 64}
    assert filters["gpuhost_driver_file"](driver) == {**file, "size": 5}
    assert filters["gpuhost_driver_file"]({**driver, "size": None}) == file
