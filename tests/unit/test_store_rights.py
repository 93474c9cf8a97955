"""Who may change the store and who may read it: read, judged, and set right by the remedy as printed."""

from __future__ import annotations

import copy
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest

from gpuhost.checks import lock as checks_lock
from gpuhost.checks.base import FAIL, PASS, SKIP
from gpuhost.host import generations, store
from gpuhost.host.probe import rights as probe_rights
from gpuhost.shipping import answers

from .collected import cpu_host, judged, with_status

HEALTHY = cpu_host()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store as a run makes it."""
    if os.geteuid() != 0:
        pytest.skip("the store is root's")
    found = tmp_path / "opt"
    store.write_tree(found / "store" / "cuda-1", {"bin/nvcc": "", "deep/er/still/x": ""}, "1")
    generations.put_in_force(found, lambda: ({}, {"cuda": "store/cuda-1"}))
    return found


def result(rights: Any, root: str = "/opt/gpuhost") -> Any:
    """The check's result on a host that is healthy otherwise."""
    seen = copy.deepcopy(HEALTHY)
    seen["machine"]["installed"].update(rights=rights, root=root)
    return judged(seen)["lock.rights"]


def wrong(root: Path, strip: bool = True) -> Dict[str, List[str]]:
    """What the probe finds below the root, by relative path."""
    found = probe_rights.rights(root)
    assert found is not None and found["whole"]
    inside = [row for row in found["wrong"] if row["path"].startswith(str(root))]
    return {os.path.relpath(row["path"], str(root)): row["what"] for row in inside}


def test_what_a_run_makes_is_right(root: Path) -> None:
    """The lock and the folder for temporary files are closed, and are to be."""
    assert wrong(root) == {}
    assert {name for _, name in probe_rights.entries(root)} >= {"", "lock", "tmp", "store/cuda-1/bin", "state"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "store").chmod(0o777), {"store": ["writable"]}),
        (lambda root: (root / "store" / "cuda-1").chmod(0o775), {"store/cuda-1": ["writable"]}),
        (lambda root: (root / "generations/1/stack.json").chmod(0o666), {"generations/1/stack.json": ["writable"]}),
        (lambda root: (root / "lock").chmod(0o666), {"lock": ["writable"]}),
        (lambda root: root.chmod(0o700), {".": ["closed"]}),
        (lambda root: (root / "store" / "cuda-1" / "bin").chmod(0o750), {"store/cuda-1/bin": ["closed"]}),
        (lambda root: os.chown(str(root / "store/cuda-1"), 65534, 0), {"store/cuda-1": ["foreign"]}),
        (lambda root: os.chown(str(root / "current"), 65534, 0, follow_symlinks=False), {"current": ["foreign"]}),
        (lambda root: (root / "state").chmod(0o700), {}),
    ],
)
def test_a_wrong_right_is_found_and_its_remedy_mends_it(
    root: Path, change: Callable[[Path], Any], expected: Dict[str, List[str]]
) -> None:
    """The command as printed, and nothing but the rights is changed by it."""
    change(root)
    assert wrong(root) == expected
    if expected:
        rows = [{"path": str(root / name), "what": what} for name, what in expected.items()]
        found = result({"wrong": rows, "more": 0, "whole": True}, str(root))
        assert found.status == FAIL
        command = found.remediation.partition("On the host: ")[2]
        subprocess.run(["sh", "-ec", command], check=True, capture_output=True)
    assert wrong(root) == {}
    assert (root / store.LOCK).stat().st_mode & 0o777 == 0o600
    assert (root / store.TEMPORARY).stat().st_mode & 0o777 == 0o700


def test_a_folder_above_that_anybody_may_change(root: Path) -> None:
    """Whoever can rename /opt puts another store in its place; a sticky one, such as /tmp, lets nobody."""
    above = root.parent
    above.chmod(0o777)
    found = probe_rights.rights(root)
    assert found is not None and {"path": str(above), "what": ["writable"]} in found["wrong"]
    told = result({**found, "wrong": [row for row in found["wrong"] if row["path"] == str(above)]}, str(root))
    assert f"chmod o-w {shlex.quote(str(above))}" in told.remediation
    above.chmod(0o1777)
    found = probe_rights.rights(root)
    assert found is not None and str(above) not in [row["path"] for row in found["wrong"]]


def test_a_umask_does_not_reach_the_store(tmp_path: Path) -> None:
    """000 left it open to all, 077 closed to users."""
    if os.geteuid() != 0:
        pytest.skip("the store is root's")
    for mask in (0o000, 0o077):
        root, before = tmp_path / f"{mask:o}", os.umask(mask)
        try:
            store.write_tree(root / "store" / "cuda-1", {"bin/nvcc": ""}, "1")
            generations.put_in_force(root, lambda: ({}, {"venvs/x": "store/cuda-1"}))
            generations.mark_good(root)
        finally:
            os.umask(before)
        assert wrong(root) == {}


@pytest.mark.parametrize(
    ("rights", "status", "words"),
    [
        ({"wrong": [], "more": 0, "whole": True}, PASS, ""),
        (None, SKIP, "were not read"),
        ({"wrong": [], "more": 0, "whole": False}, SKIP, "too many files"),
        (
            {
                "wrong": [{"path": f"/opt/gpuhost/{n}", "what": ["writable", "closed"]} for n in range(5)],
                "more": 7,
                "whole": False,
            },
            FAIL,
            "/opt/gpuhost/0: others may write to it, users cannot read it; ",
        ),
    ],
)
def test_the_claim(rights: Optional[Dict[str, Any]], status: str, words: str) -> None:
    """What was not read is not a pass."""
    found = result(rights)
    assert found.status == status and words in found.actual
    if rights and rights["more"]:
        assert found.actual.endswith("; 9 more")


def test_a_host_that_was_read_by_an_earlier_release_is_still_read() -> None:
    """Its answer has no such field; with one of another form it is not an answer."""
    seen = copy.deepcopy(HEALTHY)
    del seen["machine"]["installed"]["rights"]
    assert "error" not in answers.machine(seen["machine"])
    assert judged(seen)["lock.rights"].status == SKIP
    assert with_status(judged(seen), FAIL) == []
    seen["machine"]["installed"]["rights"] = {"wrong": [{"path": 1, "what": ["x"]}], "more": 0, "whole": True}
    assert "not of the form" in answers.machine(seen["machine"])["error"]


def test_the_walk_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of very many files costs no more than so many looks, and says that not all was seen."""
    monkeypatch.setattr(probe_rights, "MOST", 5)
    found = probe_rights.rights(root)
    assert found is not None and not found["whole"]
    assert probe_rights.rights(root / "none") is None
    assert checks_lock.FEW < probe_rights.NAMED
