"""`gpuhost observe` and `gpuhost plan --observation`: what a machine is, apart from the plan for it."""

from __future__ import annotations

import copy
import json
import shutil
import stat
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from gpuhost.cli import main as cli
from gpuhost.cli import observe as cli_observe
from gpuhost.cli import plan as cli_plan

from ..example_hosts import folder_of, observed
from ..offered import offering

Json = Dict[str, Any]
P2000 = observed("ubuntu1804-quadro-p2000")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of a host with a Quadro P2000, and the loader of its programs."""
    root = tmp_path / "root"
    shutil.copytree(str(folder_of("ubuntu1804-quadro-p2000") / "fs"), str(root), symlinks=True)
    (root / "lib64").mkdir(exist_ok=True)
    (root / "lib64/ld-linux-x86-64.so.2").symlink_to("/lib/x86_64-linux-gnu/ld-2.27.so")
    return root


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine cannot be read, so that nothing of it gets into a plan."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError("this machine was read")

    monkeypatch.setattr(cli_plan, "observe", refuse)


def written(folder: Path, observation: Any) -> str:
    """A file with an observation."""
    path = folder / "observation.json"
    path.write_text(json.dumps(observation), encoding="utf-8")
    return str(path)


def test_a_tree_is_observed_and_planned_from(
    tree: Path, tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its card, its platform and its kernel; no command of this machine speaks for it."""
    file = tmp_path / "it.json"
    assert cli.main(["observe", "--root", str(tree), "-o", str(file)]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (found["machine"], found["packages"]) == ("x86_64", {})
    assert "dpkg-query" in [problem["what"] for problem in found["problems"]]
    assert capsys.readouterr().out == ""
    assert cli.main(["plan", "--observation", str(file), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["platform"], made["driver"]["branch"]) == ("ubuntu-18.04", "525")
    assert [card["pci_id"] for card in made["gpus"]] == ["10de:1c30"]


def test_what_is_private_is_taken_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, addresses and a card's uuid; what a plan rests on stays, so that the same stack comes out."""
    machine = copy.deepcopy(offering(P2000))
    machine["hostname"] = "geheim"
    machine["gpus"][0]["uuid"] = "GPU-0b2a5c34-aaaa-bbbb-cccc-0123456789ab"
    machine["problems"].append({"what": "df /", "error": "mount of /home/alice from 192.168.7.9 on geheim"})
    monkeypatch.setattr(cli_observe, "observe", lambda offers: machine)
    assert cli.main(["observe"]) == 0
    text = capsys.readouterr().out
    for word in ("geheim", "alice", "192.168.7.9", "0b2a5c34"):
        assert word not in text
    plans = []
    for observation in (offering(P2000), json.loads(text)):
        assert cli.main(["plan", "--json", "--observation", written(tmp_path, observation)]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    assert plans[0] == plans[1]


def test_a_file_is_never_written_over(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a folder that is none read."""
    (tmp_path / "there").write_text("mine", encoding="utf-8")
    assert cli.main(["observe", "--root", str(tree), "-o", str(tmp_path / "there")]) == 2
    assert (tmp_path / "there").read_text(encoding="utf-8") == "mine"
    assert cli.main(["observe", "--root", str(tmp_path / "there")]) == 2
    assert "is not a folder" in " ".join(capsys.readouterr().err.split())


def test_a_machine_of_unknown_architecture_is_not_planned_for(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tree without a loader does not say what it is for."""
    (tree / "lib64/ld-linux-x86-64.so.2").unlink()
    file = str(tmp_path / "it.json")
    assert cli.main(["observe", "--root", str(tree), "-o", file]) == 0
    assert cli.main(["plan", "--observation", file]) == 4
    assert "architecture" in capsys.readouterr().err


def card(**over: Any) -> Callable[[Json], None]:
    """A change of the card."""
    return lambda found: found["gpus"][0].update(over)


HOSTILE: List[Any] = [
    lambda found: found.update(more=1),
    lambda found: found.pop("gpus"),
    lambda found: found.update(gpus=found["gpus"] * 1 + [{}]),
    lambda found: found["platform"].update(id="../../etc"),
    lambda found: found.update(memory_mib=10**400),
    lambda found: found["kernel"].update(boots=["4.15"]),
    card(pci_id="10de:1c30\u001b[2J"),
    card(pci_id="{{ lookup('pipe', 'id') }}"),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_a_hostile_observation_is_refused_in_one_sentence(
    change: Callable[[Json], None], tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another form, a number without end, a path, a terminal's escape, a template: exit code 4, and nothing planned."""
    found = copy.deepcopy(P2000)
    change(found)
    assert cli.main(["plan", "--observation", written(tmp_path, found)]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    assert "The observation" in said.err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1, "schema": 1}', "[" * 100000, "nul\0"])
def test_what_is_no_observation_is_refused(
    text: str, tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """No JSON, no object, a key twice, and depth without end."""
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["plan", "--observation", str(path)]) == 4
    assert cli.main(["plan", "--observation", str(tmp_path / "missing")]) == 4
    assert cli.main(["plan", "--observation", str(tmp_path)]) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_without_end_is_not_read(tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by its size, and a device is not opened at all."""
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(cli_observe.LARGEST + 1)
    assert cli.main(["plan", "--observation", str(path)]) == 4
    assert cli.main(["plan", "--observation", "/dev/zero"]) == 4
    capsys.readouterr()
    file_name = written(tmp_path, P2000)
    assert cli.main(["plan", "--observation", file_name, "--os", "debian-12", "--gpu", "RTX 3090"]) == 2
    assert "--observation" in capsys.readouterr().err
