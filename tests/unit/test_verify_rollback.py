"""verify/ while the host goes back to another generation: what is collected is of one of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from gpuhost.host import generations, store
from gpuhost.host.commands import run_command
from gpuhost.host.edges import Edges
from gpuhost.host.probe import installed as probe_installed
from gpuhost.verification import collect as checks_collect
from gpuhost.verification.collect import Host, Options

from ..locks import save
from .collected import cpu_host

Json = Dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two generations with another toolkit each, the second in force."""
    for name in ("1", "2"):
        files = {"version.json": f'{{"cuda": {{"version": "{name}.0"}}}}', "include/cudnn_version.h": ""}
        store.write_tree(tmp_path / "store" / f"cuda-{name}", files, name)
        generations.put_in_force(tmp_path, lambda name=name: ({"who": name}, {"cuda": f"store/cuda-{name}"}))  # type: ignore[misc]
    return tmp_path


def test_the_probe_reads_one_generation(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone back between the lock that is in force and the versions of what is linked."""
    real = store.describe

    def meanwhile(top: Path, number: int) -> Json:
        found = real(top, number)
        monkeypatch.setattr(store, "describe", real)
        generations.go_back(top, 1)
        return found

    monkeypatch.setattr(store, "describe", meanwhile)
    found = probe_installed.installed(Edges("/", run_command), str(root))
    assert store.current_generation(root) == 1
    assert (found["generation"], found["stack"], found["cuda"]) == (2, {"who": "2"}, "2.0")
    assert found["links"] == {"cuda": {"target": "store/cuda-2", "digest": "2"}}


def test_a_generation_that_is_deleted_meanwhile_is_no_traceback(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads as one without a record, which is a failure that the next run of verify/ no longer sees."""
    real = store.current_generation

    def meanwhile(top: Path) -> Any:
        number = real(top)
        shutil.rmtree(str(top / "generations" / str(number)))
        return number

    monkeypatch.setattr(store, "current_generation", meanwhile)
    found = probe_installed.installed(Edges("/", run_command), str(root))
    assert (found["generation"], found["stack"], found["links"], found["cuda"]) == (2, None, {}, None)


def test_all_parts_are_asked_of_the_generation_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments and benchmark run for minutes; `current` may lead elsewhere by then."""
    seen, asked = cpu_host(), []  # type: Json, List[str]
    file = tmp_path / "stack.json"
    save(file, seen["lock"])
    monkeypatch.setattr(checks_collect, "machine", lambda run, root: seen["machine"])

    def run(command: str) -> Tuple[int, str, str]:
        asked.append(command)
        return 1, "", ""

    host = Host("box", run, file, Options())
    for check in ("opencv.computes", "tensorflow.computes"):
        host.result(check, lambda line: None)
    at = checks_collect.generation(host.seen)
    checks_collect.benchmark(run, "/opt/gpuhost", asdict(Options()), "yolov3", "cpu", at)
    assert len(asked) >= 3
    assert all("/opt/gpuhost/generations/3/venvs/" in command and "/current/" not in command for command in asked)
