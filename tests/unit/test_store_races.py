"""Two runs at once on one host: each change is complete, none is lost, and whoever waits is told for whom."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from gpuhost.host import files, generations, store

SOURCE = Path(__file__).resolve().parents[2] / "src"
#: Carries out one change a line, at the moment that a gate opens, and answers how it ended. A `Busy` is tried again, as
#: the controller does.
WORKER = """
import json, os, sys
from pathlib import Path
from gpuhost.host import files, generations, store
from gpuhost.errors import GpuhostError

def put(root, name):
    store.write_tree(root / "store" / ("cuda-" + name), {"f": name}, name)
    return generations.put_in_force(root, lambda: ({"who": name}, {"cuda": "store/cuda-" + name}))

ACTS = {
    "put": put,
    "back": lambda root, name: generations.go_back(root, 1),
    "collect": lambda root, name: generations.collect(root, 1).generations,
    "seal": lambda root, name: store.write_tree(root / "store" / "cuda-same", {"f": "same"}, "same"),
    "good": lambda root, name: generations.mark_good(root),
}
for line in sys.stdin:
    root, act, name, gate = json.loads(line)
    print("ready", flush=True)
    while not os.path.exists(gate):
        pass
    told = []
    while True:
        try:
            answer = {"ended": ACTS[act](Path(root), name)}
            break
        except files.Busy as busy:
            told = [busy.holder]
        except GpuhostError as error:
            answer = {"error": str(error)}
            break
    print(json.dumps(dict(answer, told=told)), flush=True)
"""
PAIRS: List[Tuple[str, str]] = [
    ("put", "put"),
    ("put", "back"),
    ("put", "collect"),
    ("seal", "seal"),
    ("back", "collect"),
    ("put", "good"),
    ("seal", "collect"),
    ("back", "good"),
]


@contextlib.contextmanager
def workers() -> Iterator[List[subprocess.Popen[str]]]:
    """Two processes that wait for work."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", WORKER],
                    env={**os.environ, "PYTHONPATH": str(SOURCE)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]


def host(root: Path) -> None:
    """A host with three generations, the second in force by going back."""
    for name in ("1", "2", "3"):
        store.write_tree(root / "store" / f"cuda-{name}", {"f": name}, name)
        generations.put_in_force(root, lambda name=name: ({"who": name}, {"cuda": f"store/cuda-{name}"}))  # type: ignore[misc]
    generations.go_back(root, 2)


def race(pair: List[subprocess.Popen[str]], acts: Tuple[str, str], root: Path) -> List[Dict[str, Any]]:
    """Both at once; how each ended."""
    gate = root.parent / f"{root.name}.gate"
    for name, act, process in zip("ab", acts, pair):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([str(root), act, name, str(gate)]) + "\n")
        process.stdin.flush()
    for process in pair:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    gate.touch()
    return [json.loads(process.stdout.readline()) for process in pair if process.stdout is not None]


def check(root: Path, acts: Tuple[str, str], ended: List[Dict[str, Any]]) -> None:
    """What must hold, whoever came first."""
    record = [row["generation"] for row in (store.read_json(root / generations.RECORD) or {})["in_force"]]
    current = store.current_generation(root)
    assert current == record[-1], "the record and what is in force differ"
    puts = [(name, one["ended"]) for name, act, one in zip("ab", acts, ended) if act == "put" and "ended" in one]
    assert len({number for _, number in puts}) == len(puts), "two runs made the same generation"
    for name, number in puts:
        assert number in record, "a generation that was reported is not in the record"
        if number in store.generations(root):
            found = store.describe(root, number)
            assert found == {"stack": {"who": name}, "links": {"cuda": f"store/cuda-{name}"}}, "half a generation"
    for number in store.generations(root):
        for to in store.describe(root, number)["links"].values():
            assert (root / to / store.MARKER).exists() and (root / to / "f").read_text(encoding="utf-8") == to[11:]
    assert [p.name for p in root.rglob("*.new")] == []
    assert list((root / store.TEMPORARY).iterdir()) == []
    for one in ended:
        assert "ended" in one or "is not complete" in one["error"] or "no generation 1" in one["error"], one
        for sentence in one["told"]:
            assert sentence.startswith("Another run is changing this host"), sentence


@pytest.mark.parametrize("races", [16, pytest.param(300, marks=pytest.mark.full)])
def test_two_runs_at_once(tmp_path: Path, races: int) -> None:
    """No half generation is in force or reported, and no entry of the record is lost."""
    with workers() as pair:
        for number in range(races):
            root = tmp_path / str(number)
            host(root)
            acts = PAIRS[number % len(PAIRS)]
            check(root, acts, race(pair, acts, root))


def test_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    """Process, time and what it does; told to the one that can wait, an error for the one that cannot."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom gpuhost.host import store\n"
        "with store.changing(Path(sys.argv[1]), 'building \\x1b[2JOpenCV'):\n    print('in', flush=True)\n    input()\n"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as first:
        assert first.stdin is not None and first.stdout is not None and first.stdout.readline() == "in\n"
        with pytest.raises(files.Busy) as caught, store.changing(tmp_path, "going back"):
            pass
        sentence = caught.value.holder
        assert (
            f"building \N{REPLACEMENT CHARACTER}[2JOpenCV (process {first.pid}), since {time.strftime('%Y')}"
            in sentence
        )
        assert caught.value.exit_code == 7 and "run the same command again" in caught.value.next_step
        said: List[str] = []

        def say(text: str) -> None:
            said.append(text)
            assert first.stdin is not None
            first.stdin.write("\n")
            first.stdin.close()

        with store.changing(tmp_path, "going back", say):
            assert said == [sentence]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "since": 1e400, "what": ""}', "\0" * 5000])
def test_a_damaged_note_is_no_traceback(tmp_path: Path, note: str) -> None:
    """Whoever holds it without a word."""
    (tmp_path / "lock").write_text(note, encoding="utf-8")
    with (tmp_path / "lock").open("rb") as handle:
        assert files.holder(handle.fileno()) == "Another run is changing this host."


def test_what_changes_a_host_has_a_umask_and_a_temporary_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children inherit both, whatever they were before; the folder is empty afterwards."""
    monkeypatch.setenv("TMPDIR", "/noexec")
    ask = [sys.executable, "-c", "import os, tempfile; print(tempfile.gettempdir(), oct(os.umask(0)))"]
    before = os.umask(0o077)
    try:
        with store.changing(tmp_path, "testing"), store.changing(tmp_path, "again"):
            said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
            (tmp_path / store.TEMPORARY / "left").touch()
            assert (tmp_path / store.TEMPORARY).stat().st_mode & 0o777 == 0o700
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert said == f"{tmp_path}/{store.TEMPORARY} 0o22\n"
    assert os.environ["TMPDIR"] == "/noexec"
    assert list((tmp_path / store.TEMPORARY).iterdir()) == []
