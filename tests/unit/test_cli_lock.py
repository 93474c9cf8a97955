"""`gpuhost lock` as a user types it: exit codes, one sentence for an error, JSON, and what it says of two locks."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from gpuhost.planning import contents, lock, lock_diff, lock_files, plan
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.resolve import resolver

from ..locks import of, save, stack
from .typed import Answer, typed

Json = Dict[str, Any]


def planned(platform: str, *cards: str) -> Json:
    """A lock as the resolver makes it."""
    return of(plan.make(resolver(), Request(platform, tuple(parse(shipped(), card) for card in cards))))


CPU, P2000 = planned("debian-12"), planned("ubuntu-18.04", "quadro p2000")


@pytest.fixture
def gpuhost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`gpuhost lock` with some arguments, in a folder of its own: exit status, output, error output."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        return typed(capsys, "lock", *arguments)

    return call


def earlier(value: Json) -> str:
    """The text of a lock as releases before this one wrote it."""
    return json.dumps({lock.KEY: {"schema": 1, **{key: value[key] for key in ("host", "cards", "plan")}}})


def test_a_lock_is_shown(gpuhost: Any) -> None:
    """By its host, its folder or its file; as JSON it is what is in memory."""
    file = save(Path("locks/box/stack.json"), P2000)
    for word in ("box", "locks/box", "locks/box/stack.json"):
        code, out, err = gpuhost("show", word)
        assert (code, err) == (0, "")
        for words in (
            "ubuntu-18.04",
            "Quadro P2000",
            "driver: 525",
            "CUDA 11.8.0 from NVIDIA's installer",
            "dl4cv: Python 3.8",
        ):
            assert words in out, out
    assert json.loads(gpuhost("show", "box", "--json")[1]) == lock.load(file)


def test_what_cannot_be_shown_is_one_sentence(gpuhost: Any) -> None:
    """A lock that is not there, one that is damaged, one of an earlier release."""
    assert gpuhost("show", "nobody")[0] == 8
    file = save(Path("locks/box/stack.json"), CPU)
    file.write_text("{", encoding="utf-8")
    code, out, err = gpuhost("show", "box")
    assert (code, out) == (8, "") and "cannot be read" in " ".join(err.split())
    file.write_text(earlier(CPU), encoding="utf-8")
    for command in (("show", "box"), ("check",), ("diff", "box", "box")):
        code, out, err = gpuhost(*command)
        assert code == 8 and "./run gpuhost lock upgrade locks/box/stack.json" in " ".join(err.split()), err


def test_checking(gpuhost: Any) -> None:
    """Every lock, those of unfinished rebuilds too; a bad one does not hide the next; a pylock file means its lock."""
    assert gpuhost("check")[0] == 2
    good = save(Path("locks/a/stack.json"), CPU)
    save(Path("locks/b/stack.json"), P2000)
    assert gpuhost("check") == (0, "locks/a/stack.json: whole and closed\nlocks/b/stack.json: whole and closed\n", "")
    beside = next(path for path in good.parent.iterdir() if path.name.startswith("pylock.dl4cv"))
    told = json.loads(gpuhost("check", "--json")[1])
    assert told == [{"file": f"locks/{name}/stack.json", "problem": ""} for name in ("a", "b")]
    assert gpuhost("check", str(beside))[:2] == (0, "locks/a/stack.json: whole and closed\n")
    beside.write_bytes(beside.read_bytes() + b"\n")
    code, out, err = gpuhost("check")
    assert code == 8 and out == "locks/b/stack.json: whole and closed\n" and str(beside.name) in err.replace("\n", "")
    save(Path("locks/a/stack.json"), CPU)
    save(Path("locks/b/stack.json.new"), CPU).write_text("{", encoding="utf-8")
    code, out, err = gpuhost("check", "b")
    assert code == 8 and "locks/b/stack.json: whole and closed" in out and "stack.json.new" in err


def test_a_lock_that_lacks_a_part_is_not_closed(gpuhost: Any) -> None:
    """What it lacks is told, and it can still be shown."""
    save(Path("locks/box/stack.json"), {**P2000, "environments": {"opencv_cuda": P2000["environments"]["opencv_cuda"]}})
    code, _, err = gpuhost("check", "box")
    told = " ".join(err.split())
    assert code == 8 and "is not closed" in told and "no environment opencv_build" in told and "dl4cv" in told
    assert "not closed: The lock has no environment dl4cv" in gpuhost("show", "box")[1]


def test_upgrading(gpuhost: Any) -> None:
    """The lock and the one beside it; what is of this release is left alone."""
    folder = Path("locks/box")
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(earlier(CPU), encoding="utf-8")
    (folder / "stack.json.new").write_text(earlier(P2000), encoding="utf-8")
    code, out, _ = gpuhost("upgrade", "box")
    assert code == 0 and out.count(": upgraded") == 2
    assert lock.load(folder / "stack.json") == CPU and lock.load(folder / "stack.json.new") == P2000
    assert gpuhost("upgrade", "box")[1].count(": is of this release") == 2 and gpuhost("check")[0] == 0
    (folder / "stack.json").write_text(earlier(CPU).replace("debian-12", "debian-99"), encoding="utf-8")
    code, out, err = gpuhost("upgrade", "box")
    assert code == 8 and "does not know debian-99" in " ".join(err.split())
    assert gpuhost("upgrade")[0] == 2


def with_package(value: Json, name: str, **change: Any) -> None:
    """Change a package of dl4cv."""
    next(row for row in value["environments"]["dl4cv"]["packages"] if row["name"] == name).update(change)


CARD = {"pci_address": "0000:01:00.0", "pci_id": "10de:2204", "uuid": None}
CHANGES: List[Tuple[Callable[[Json], Any], str]] = [
    (lambda v: v["plan"]["driver"].update(version="525.999"), "Driver goes from 525"),
    (lambda v: v["plan"]["cuda"].update(sha256="0" * 64), "CUDA stays 11.8.0, and is another: sha256 was"),
    (lambda v: v["plan"].update(driver=None), "is no longer there."),
    (lambda v: v.update(host=["a", "b"]), "The host was box and is a, b."),
    (
        lambda v: v.update(cards=[CARD]),
        "The cards: before none",
    ),
    (lambda v: v["plan"].update(asked={"cuda": "11.8"}), "The asked was nothing and is cuda 11.8."),
    (lambda v: with_package(v, "numpy", version="1.0"), "dl4cv: numpy goes from"),
    (lambda v: with_package(v, "numpy", sha256="0" * 64), "dl4cv: numpy stays"),
    (lambda v: v["environments"]["dl4cv"]["packages"].pop(), "is no longer there."),
    (lambda v: v["environments"].pop("opencv_build"), "The environment opencv_build (5 packages) is no longer there."),
    (lambda v: v["environments"]["dl4cv"].update(python="3.9"), "dl4cv goes from Python 3.8 to 3.9."),
    (lambda v: v["contents"]["toolkits"].pop(), "cuDNN 8.6.0.163 from NVIDIA's tarball is no longer there."),
    (lambda v: v["contents"]["toolkits"][0].update(options=["--silent"]), "is another: options was"),
    (lambda v: v["contents"]["pythons"].update({"3.9": ["python3.9"]}), "contents.pythons was"),
    (lambda v: v["contents"]["opencv"]["packages"].append("ccache2"), "contents.opencv was"),
    (lambda v: v["contents"]["opencv"]["build"]["gcc"].update(max=99), "contents.opencv was"),
    (lambda v: v["contents"]["expects"]["cuda"].update(driver_min="1"), "contents.expects was"),
    (lambda v: v["plan"]["notes"].clear(), "plan.notes was"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=[str(number) for number in range(len(CHANGES))])
def test_each_change_has_a_sentence(change: Callable[[Json], Any], words: str) -> None:
    """Whatever differs is named; the same lock has none."""
    value = copy.deepcopy(P2000)
    assert lock_diff.changes(P2000, value) == []
    change(value)
    told = [row.text for row in lock_diff.changes(P2000, value)]
    assert any(words in text for text in told), told
    assert all(len(text) < 600 for text in told)


def test_the_same_card_in_another_slot_is_told() -> None:
    """It is not a difference to a host, and one to a reader."""
    old, new = {**P2000, "cards": [CARD]}, {**P2000, "cards": [{**CARD, "pci_address": "0000:02:00.0"}]}
    assert [row.text[:9] for row in lock_diff.changes(old, new)] == ["The cards"]


def test_each_package_of_a_driver_has_a_sentence() -> None:
    """One that goes, one that comes, and one that is another file of the same version."""
    row = {"name": "nvidia-driver-525", "version": "1", "sha256": "0" * 64}
    was, now = [row, {**row, "name": "a"}], [{**row, "sha256": "1" * 64}, {**row, "name": "b"}]
    old, new = (
        {**P2000, "plan": {**P2000["plan"], "driver": {**P2000["plan"]["driver"], "packages": debs}}}
        for debs in (was, now)
    )
    first, *rest = [change.text for change in lock_diff.changes(old, new)]
    assert first.startswith("Driver: nvidia-driver-525 stays 1, and is another: sha256 was 000")
    assert rest == ["Driver: a 1 is no longer there.", "Driver: b 1 is added."]


def test_no_place_of_a_lock_can_change_without_a_sentence() -> None:
    """Each value, one at a time."""

    def leaves(value: Any, path: Tuple[Any, ...] = ()) -> Any:
        rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        found = [leaf for key, inner in rows for leaf in leaves(inner, (*path, key))]
        return found or [path]

    for path in leaves(P2000):
        value = copy.deepcopy(P2000)
        inner: Any = value
        for key in path[:-1]:
            inner = inner[key]
        if path == ("schema",) or isinstance(inner[path[-1]], (list, dict)):
            continue  # one number for all, and what is empty
        inner[path[-1]] = "x"
        assert lock_diff.changes(P2000, value), path


def test_two_locks_side_by_side(gpuhost: Any) -> None:
    """1 where they differ, 0 where not; as JSON each with what it was and is."""
    save(Path("locks/old/stack.json"), P2000)
    lock_files.write(Path("locks/new/stack.json"), contents.added(P2000, contents.Options(published_weights=True)))
    code, out, _ = gpuhost("diff", "old", "new")
    assert code == 1 and out.splitlines()[0] == "The file yolov3.weights is added." and len(out.splitlines()) == 4
    (first, *_) = json.loads(gpuhost("diff", "old", "new", "--json")[1])
    assert first["part"] == "weights" and first["before"] is None and first["after"]["size"] > 10**8
    assert gpuhost("diff", "old", "old") == (0, "", "")


def test_words_of_a_lock_do_not_reach_the_terminal_as_they_are(gpuhost: Any) -> None:
    """A lock with such words is refused, in printable words."""
    file = save(Path("locks/box/stack.json"), CPU)
    whole = stack(CPU)
    whole[lock.KEY]["plan"]["platform"] = "\x1b[2Jdebian"
    file.write_text(json.dumps(whole), encoding="utf-8")
    for command in (("show", "box"), ("check", "box"), ("diff", "box", "box")):
        code, out, err = gpuhost(*command)
        assert code == 8 and "\x1b" not in out + err
