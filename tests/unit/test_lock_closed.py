"""A lock holds what is installed: no catalog changes that, no other file passes for its own, no kill damages it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from gpuhost.errors import GpuhostError, LockError
from gpuhost.planning import contents, lock, lock_files, plan, pylocks, specs
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import DATA, shipped
from gpuhost.planning.environments import environment_names, lock_digest
from gpuhost.planning.gpus import parse
from gpuhost.planning.resolve import resolver

from ..locks import of, save, stack

Json = Dict[str, Any]
PACKAGE = DATA.parent
EVERYTHING = contents.Options(cuda_source="wheels", cuda_extra=["13.0.2"], opencv_engines=True, published_weights=True)


def planned(platform: str, *cards: str) -> Json:
    """A lock as the resolver makes it."""
    return of(plan.make(resolver(), Request(platform, tuple(parse(shipped(), card) for card in cards))))


CPU, P2000, RTX = planned("debian-12"), planned("ubuntu-18.04", "quadro p2000"), planned("debian-12", "rtx 2080")
LOCKS = {
    "cpu": contents.added(CPU, contents.Options(opencv_engines=True, published_weights=True)),
    "p2000": contents.added(P2000, contents.Options(cuda_extra=["10.0.130"], published_weights=True)),
    "rtx": contents.added(RTX, EVERYTHING),
}
#: Everything that is fetched, built or expected by a lock, from its file.
PROGRAM = """
import json, sys
from pathlib import Path
from gpuhost.planning import detector, lock, specs
from gpuhost.planning.cost import of
from gpuhost.shipping import tree
from gpuhost.verification import expected
file, held, extra = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
found = lock.load(file) if held is None else held
there = {name: [] for name in ("artifacts", "debs", "wheels", "store")}
there["build_seconds"] = {}
cpu = dict(found, plan=dict(found["plan"], cuda=None, cudnn=None, driver=None))
answer = {
    "specs": [specs.of_lock(found), specs.of_lock(found, extra=extra), specs.of_lock(found, source="wheels")],
    "engines": specs.of_lock(found, engines=True),
    "weights": detector.files(["yolov3"], "/r", "e", "f", 416, 9, "published", found),
    "recipe": tree.program("opencv-builder", found)["files"]["recipe.json"] if found["plan"]["cuda"] else None,
    "environments": expected.environments(found, {}),
    "tested": [expected.tested(found), expected.sonames(found), found["contents"]["expects"]],
    "cost": of(cpu, found, there),
}
print(json.dumps(answer, sort_keys=True))
"""


def asked(package: Path, file: Path, held: Any = None, extra: Any = ()) -> str:
    """What a copy of the package makes of a lock."""
    command = [sys.executable, "-B", "-c", PROGRAM, str(file), json.dumps(held), json.dumps(list(extra))]
    variables = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package whose catalog can be changed."""
    made = tmp_path_factory.mktemp("package") / "gpuhost"
    shutil.copytree(PACKAGE, made, ignore=shutil.ignore_patterns("__pycache__"))
    return made


def catalog_files(package: Path) -> List[Path]:
    """Every file of the catalog: all data but the schemas."""
    found = [path for path in sorted((package / "data").rglob("*.json")) if not path.name.endswith(".schema.json")]
    assert len(found) > 50
    return found


def other(value: Any) -> Any:
    """A catalog with every checksum, size, package and option changed; the rows and their versions stay."""
    if isinstance(value, dict):
        return {key: other(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [other(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return value[::-1]
    if isinstance(value, str) and re.match(r"lib|python3|g\+\+|--", value):
        return value + "-other"
    return value + 1 if isinstance(value, int) and not isinstance(value, bool) and value > 999 else value


@pytest.mark.parametrize("name", LOCKS)
def test_no_catalog_changes_what_a_lock_installs(package: Path, tmp_path: Path, name: str) -> None:
    """Each file of the catalog is another: the same is fetched, built and expected, from the lock's file."""
    file, extra = save(tmp_path / "stack.json", LOCKS[name]), {"p2000": ["10.0.130"]}.get(name, [])
    before = asked(PACKAGE, file, extra=extra)
    if name == "rtx":
        assert '"problem": ""' in before and "The lock has no" not in json.loads(before)["specs"][2]["cuda"]["problem"]
    for path in catalog_files(package):
        if path.name == "origins.json":
            continue  # from where anything may come at all: whoever tightens that means every lock
        value = json.loads(path.read_text(encoding="utf-8"))
        changed = other(value)
        assert changed != value or path.name == "gpus.json", path
        path.write_text(json.dumps(changed), encoding="utf-8")
    assert asked(package, file, extra=extra) == before
    for path in catalog_files(package):
        shutil.copy(DATA / path.relative_to(package / "data"), path)


@pytest.mark.parametrize("name", LOCKS)
def test_without_a_catalog_a_lock_installs_the_same(package: Path, tmp_path: Path, name: str) -> None:
    """Not one file of it is opened once the lock is read."""
    file = save(tmp_path / "stack.json", LOCKS[name])
    before = asked(PACKAGE, file)
    for path in catalog_files(package):
        path.unlink()
    assert asked(package, file, lock.load(file)) == before
    for path in (PACKAGE / "data").rglob("*.json"):
        shutil.copy(path, package / "data" / path.relative_to(PACKAGE / "data"))


@pytest.mark.parametrize("name", environment_names())
def test_an_environment_is_the_same_in_a_pylock_file(name: str) -> None:
    """Package by package, so that it has the digest, and with it the folder in the store, that it had."""
    made = contents.environment(name)
    text = pylocks.text(made)
    assert pylocks.parsed(text.encode("utf-8")) == made and text.isascii()
    assert len(text) < pylocks.LARGEST / 4
    assert lock_digest(pylocks.parsed(text.encode("utf-8"))) == lock_digest(made)


# What the options of the roles add


def test_an_option_is_added_once_and_changes_nothing_else() -> None:
    """Asked for again it is there; without options the lock is the very same."""
    assert contents.added(RTX, contents.Options()) is RTX
    more = contents.added(RTX, EVERYTHING)
    assert contents.added(more, EVERYTHING) is more and contents.added(more, contents.Options()) is more
    assert more["contents"]["toolkits"][: len(RTX["contents"]["toolkits"])] == RTX["contents"]["toolkits"]
    assert {key: more[key] for key in ("plan", "host", "cards")} == {key: RTX[key] for key in ("plan", "host", "cards")}
    assert lock.check(more, "made") == more


@pytest.mark.parametrize(
    ("held", "options", "words"),
    [
        (P2000, {"cuda_extra": ["10.9"]}, "knows no CUDA 10.9"),
        (P2000, {"cuda_extra": [10.1]}, "cuda_extra has 10.1 without quotes"),
        (P2000, {"cuda_source": "deb"}, "cuda_source is 'deb'"),
        (P2000, {"cuda_extra": ["10.0.130"], "cuda_source": "wheels"}, "No lock of wheels for cuda-10.0.130"),
    ],
)
def test_what_this_release_does_not_have_is_not_added(held: Json, options: Json, words: str) -> None:
    """The user asked for it, so it is an error and not a hole."""
    with pytest.raises(GpuhostError, match=re.escape(words)):
        contents.added(held, contents.options(options))


def test_options_are_those_of_the_roles() -> None:
    """A misspelt one is not passed over."""
    for given in ({"engines": True}, [], "x"):
        with pytest.raises(GpuhostError, match="gpu_stack_options"):
            contents.options(given)


# Files beside a lock that are not its own


def environment(**change: Any) -> Json:
    """A small environment."""
    row = {"name": "pip", "version": "25.0.1", "file": "pip-25.0.1-py3-none-any.whl", "kind": "wheel", "size": 5}
    rows = [{**row, "sha256": "0" * 64, **change}]
    return {"environment": "dl4cv", "version": "2.13.1", "python": "3.8", "packages": rows}


TEXT = pylocks.text(environment())
BAD: List[Any] = [
    ("not TOML", "= ="),
    ("not UTF-8", b"\xff"),
    ("nothing", ""),
    ("a table", "[packages]"),
    ("nested deeply", "a = " + "[" * 90_000),
    ("arrays nested deeply over lines", "a = " + "[\n" * 90_000),
    ("tables nested deeply", "a" + ".a" * 90_000 + " = 1"),
    ("a number of 400 digits", TEXT.replace("size = 5", "size = " + "9" * 400)),
    ("a number of 90,000 digits", TEXT.replace("size = 5", "size = " + "9" * 90_000)),
    ("an address", TEXT.replace('path = "', 'url = "https://files.example/')),
    (
        "an address beside",
        TEXT.replace("size = 5", 'url = "http://files.example/pip-25.0.1-py3-none-any.whl"\nsize = 5'),
    ),
    ("a marker", TEXT.replace('name = "pip"', 'name = "pip"\nmarker = "os_name == \'nt\'"')),
    ("an unknown key", TEXT + 'removal_confirm = "localhost"\n'),
    ("an unknown table", TEXT + "\n[tool.other]\nx = 1\n"),
    ("another hash", TEXT.replace("sha256 =", "md5 =")),
    ("no hash", TEXT.replace('{sha256 = "' + "0" * 64 + '"}', "{}")),
    (
        "a version control system",
        TEXT.replace("[[packages.wheels]]", '[packages.vcs]\ntype = "git"\nurl = "x"\ncommit-id = "1"'),
    ),
    ("a later format", TEXT.replace('"1.0"', '"2.0"')),
    ("another package's file", TEXT.replace("pip-25.0.1-py3", "numpy-25.0.1-py3")),
    (
        "two files",
        TEXT.replace(
            "\n[tool", '\n[[packages.wheels]]\npath = "pip-25.0.1-py2-none-any.whl"\nhashes = {sha256 = "1"}\n\n[tool'
        ),
    ),
]


@pytest.mark.parametrize("text", [row[1] for row in BAD], ids=[row[0] for row in BAD])
def test_a_pylock_of_another_form_is_refused(text: Any) -> None:
    """Whatever stands in it that nobody here would have written, in one short sentence."""
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    assert data != TEXT.encode("utf-8")
    with pytest.raises(pylocks.UnfitPylock) as caught:
        pylocks.parsed(data)
    assert str(caught.value).startswith("It ")


PLACES: List[Any] = [
    ("a path", {"file": "../../x/pip-25.0.1-py3-none-any.whl"}),
    ("an absolute path", {"file": "/etc/pip-25.0.1-py3-none-any.whl"}),
    ("a template", {"file": "pip-25.0.1-{{ x }}-none-any.whl"}),
    ("a checksum cut short", {"sha256": "0" * 63}),
    ("a size of 400 digits", {"size": 10**399}),
    ("a negative size", {"size": -1}),
    ("a version of 400 digits", {"version": "9" * 400, "file": f"pip-{'9' * 400}-py3-none-any.whl"}),
]


@pytest.mark.parametrize("change", [row[1] for row in PLACES], ids=[row[0] for row in PLACES])
def test_a_package_that_no_index_has_is_refused(tmp_path: Path, change: Json) -> None:
    """The file and its sha256 in the lock agree; what it names is checked against the lock's schema."""
    value = copy.deepcopy(CPU)
    value["environments"]["dl4cv"]["packages"].append(environment(**change)["packages"][0])
    try:
        file = save(tmp_path / "stack.json", value)
    except ValueError:
        return  # it cannot even be written as a PEP 751 file
    with pytest.raises(LockError) as caught:
        lock.load(file)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500


def beside(file: Path, start: str = "pylock.dl4cv-") -> Path:
    """The one file beside a lock whose name begins so."""
    (found,) = [path for path in file.parent.iterdir() if path.name.startswith(start)]
    return found


def replaced(make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Put something else in a file's place."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def linked(path: Path) -> None:
    """Put the file elsewhere, and a link to it in its place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def large(path: Path) -> None:
    """Make a file of 100 MB, which takes no room."""
    with path.open("wb") as handle:
        handle.truncate(100_000_000)


IN_ITS_PLACE: Dict[str, Any] = {
    "another byte": (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "Its sha256 is not the one in the lock"),
    "another environment": (lambda path: shutil.copy(beside(path, "pylock.opencv_cuda-"), path), "Its sha256"),
    "nothing": (Path.unlink, "It is not there"),
    "a folder": (replaced(Path.mkdir), "It is a folder"),
    "a named pipe": (replaced(lambda path: os.mkfifo(path)), "It is a named pipe"),
    "a link": (linked, "symbolic link"),
    "100 MB": (replaced(large), "larger than"),
}


@pytest.mark.parametrize("name", IN_ITS_PLACE)
def test_a_file_that_is_not_the_locks_is_refused(tmp_path: Path, name: str) -> None:
    """By the sha256 in the lock, by its kind or by its size; never waited for, and told in one sentence."""
    change, words = IN_ITS_PLACE[name]
    file = save(tmp_path / "stack.json", CPU)
    path = beside(file)
    change(path)
    with pytest.raises(LockError, match=words) as caught:
        lock.load(file)
    assert str(path) in caught.value.message
    assert "git" in caught.value.next_step


NAMED: List[Any] = [None, [], "x", {"../pylock.dl4cv-000000000000.toml": "0" * 64}, {"pylock.toml": "0" * 64}]
NAMED += [{"pylock.dl4cv-000000000000.toml": value} for value in ("1" * 64, None, 7, "0" * 400)]


@pytest.mark.parametrize("named", NAMED)
def test_a_lock_names_its_files_and_no_others(tmp_path: Path, named: Any) -> None:
    """A path, a name without its digest, or no sha256."""
    file = save(tmp_path / "stack.json", CPU)
    whole = stack(CPU)
    whole[lock.KEY]["pylocks"] = named
    file.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(LockError):
        lock.load(file)


def test_a_file_of_another_lock_does_not_fit(tmp_path: Path) -> None:
    """It is complete and its sha256 is right, but it is for another Python, or does not hold the planned file."""
    for name, source in (("dl4cv", P2000), ("opencv_cuda", P2000)):
        value = {**CPU, "environments": {**CPU["environments"], name: source["environments"][name]}}
        with pytest.raises(LockError, match=f"its environment {name} is for Python 3.8, its plan for 3.11"):
            lock.load(save(tmp_path / name / "stack.json", value))
    value = copy.deepcopy(CPU)
    for row in value["environments"]["dl4cv"]["packages"]:
        row["sha256"] = row["sha256"][::-1]
    with pytest.raises(LockError, match="does not hold the planned tensorflow"):
        lock.load(save(tmp_path / "x" / "stack.json", value))


def more(path: Tuple[Any, ...], value: Any) -> Json:
    """A lock with everything in it, one place of which was edited by hand."""
    found = copy.deepcopy(LOCKS["p2000"])
    inner: Any = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return found


EXTRA, WEIGHTS = ("contents", "toolkits", -1), ("contents", "weights", 0)
NVIDIA = "https://developer.download.nvidia.com/compute"
EDITED: Dict[str, Any] = {
    "another origin": ((*EXTRA, "file", "url"), "https://evil.example/cuda_10.0.130_410.48_linux"),
    "no https": ((*EXTRA, "file", "url"), "http://developer.download.nvidia.com/cuda_10.0.130_410.48_linux"),
    "another file's name": ((*EXTRA, "file", "url"), f"{NVIDIA}/other"),
    "a path": ((*EXTRA, "file", "name"), "../x"),
    "another release's checksum": ((*EXTRA, "file", "sha256"), P2000["plan"]["cudnn"]["sha256"]),
    "a file where the plan has it": ((*EXTRA, "version"), "9.9.9"),
    "another option of NVIDIA's installer": ((*EXTRA, "options"), ["--silent", "--driver"]),
    "a shell word": ((*EXTRA, "options", 0), "--silent;id"),
    "a package of the archive": ((*EXTRA, "archive"), ["openssh-server"]),
    "another package of the archive": (("contents", "opencv", "packages"), ["openssh-server"]),
    "a Python's package": (("contents", "pythons"), {"3.8": ["python3.8", "netcat"]}),
    "no Python's package": (("contents", "pythons"), {"3.8;id": ["python3.8"]}),
    "weights from elsewhere": ((*WEIGHTS, "url"), "https://evil.example/yolov3.weights"),
    "other weights": ((*WEIGHTS, "sha256"), P2000["plan"]["cudnn"]["sha256"]),
    "weights of 400 digits": ((*WEIGHTS, "size"), 10**399),
    "a compiler": (("contents", "opencv", "build", "gcc_packages"), ["g++-7 -x"]),
    "no bounds": (("contents", "opencv", "build"), None),
    "an unknown key": (("contents", "removal_confirm"), "localhost"),
    "an unknown environment": (("environments", "evil"), P2000["environments"]["dl4cv"]),
}


@pytest.mark.parametrize("name", EDITED)
def test_contents_that_were_edited_by_hand_are_refused(name: str) -> None:
    """In one sentence, before anything is asked of the host."""
    path, value = EDITED[name]
    edited = more(path, value)
    if name == "a file where the plan has it":
        del edited["contents"]["toolkits"][-1]["file"]
    with pytest.raises(LockError) as caught:
        lock.check(edited, "here")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500


# Writing


def swept(folder: Path, value: Json) -> bool:
    """Return whether a folder holds a lock and its files and nothing else."""
    return sorted(path.name for path in folder.iterdir()) == sorted([*lock.files(value), "stack.json"])


def test_writing_is_done_once(tmp_path: Path) -> None:
    """The same lock again changes nothing, another one takes its files' place, and what others name stays."""
    file = tmp_path / "gpu/stack.json"
    assert lock_files.write(file, CPU) and not lock_files.write(file, CPU)
    assert lock.load(file) == CPU and swept(file.parent, CPU)
    pending = file.with_name("stack.json.new")
    assert lock_files.write(pending, P2000) and lock.load(file) == CPU and lock.load(pending) == P2000
    assert lock_files.write(file, P2000) and lock_files.drop_pending(file) and not lock_files.drop_pending(file)
    assert lock.load(file) == P2000 and swept(file.parent, P2000)
    (tmp_path / "gpu/pylock.toml").write_text("a user's own", encoding="utf-8")
    (tmp_path / "gpu/other.json").write_text(f"names {beside(file).name}", encoding="utf-8")
    kept = beside(file)
    lock_files.write(file, CPU)
    assert kept.exists() and (tmp_path / "gpu/pylock.toml").exists() and lock.load(file) == CPU


def test_a_lock_that_is_not_whole_is_not_written(tmp_path: Path) -> None:
    """Nothing at all is."""
    with pytest.raises(LockError):
        lock_files.write(tmp_path / "gpu/stack.json", {**CPU, "extra": 1})
    assert not (tmp_path / "gpu").exists()


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do some work in a process that dies before its step-th change of a file's name; whether it died."""
    child = os.fork()
    if child == 0:
        left = [step]

        def dying(function: Any) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return function(*args, **more)

            return call

        os.rename, os.unlink, os.fsync = dying(os.rename), dying(os.unlink), dying(os.fsync)
        try:
            work()
        finally:
            os._exit(0)
    return os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9


def steps(
    folder: Path, begin: Callable[[Path], None], work: Callable[[Path], Any], whole: List[Json], pending: List[Any]
) -> int:
    """Kill some work at each of its steps: the lock is complete each time, and the same work again ends well."""
    for step in range(200):
        file = folder / str(step) / "stack.json"
        begin(file)
        died = killed_at(step, lambda file=file: work(file))  # type: ignore[misc]
        assert lock.load(file) in whole, step
        new = file.with_name("stack.json.new")
        assert (lock.load(new) if new.exists() else None) in pending, step
        work(file)
        assert lock.load(file) == whole[-1] and (lock.load(new) if new.exists() else None) == pending[-1], step
        held = [one for one in (whole[-1], pending[-1]) if one]
        names = (
            {name for one in held for name in lock.files(one)} | {"stack.json"} | ({new.name} if pending[-1] else set())
        )
        assert {path.name for path in file.parent.iterdir()} == names, step
        if not died:
            return step
    raise AssertionError("it never ended")


def test_a_kill_anywhere_leaves_a_whole_lock(tmp_path: Path) -> None:
    """A new lock over an old one, a rebuild's lock beside it, and its taking over."""

    def old(file: Path) -> None:
        lock_files.write(file, CPU)

    def both(file: Path) -> None:
        old(file)
        lock_files.write(file.with_name("stack.json.new"), P2000)

    def adopt(file: Path) -> None:
        lock_files.write(file, P2000)
        lock_files.drop_pending(file)

    assert steps(tmp_path / "a", old, lambda file: lock_files.write(file, P2000), [CPU, P2000], [None]) > 10
    pend = steps(
        tmp_path / "b",
        old,
        lambda file: lock_files.write(file.with_name("stack.json.new"), P2000),
        [CPU],
        [None, P2000],
    )
    assert pend > 10 and steps(tmp_path / "c", both, adopt, [CPU, P2000], [P2000, None]) > 5


# Locks of earlier releases


def earlier(value: Json) -> Json:
    """A lock as releases before this one wrote it."""
    return {"schema": 1, **{key: value[key] for key in ("host", "cards", "plan")}}


@pytest.mark.parametrize("name", ["cpu", "p2000", "rtx"])
def test_an_earlier_lock_is_upgraded_to_what_is_made_now(tmp_path: Path, name: str) -> None:
    """Its plan stays; a second time nothing changes; until then every reader names the command."""
    value = {"cpu": CPU, "p2000": P2000, "rtx": RTX}[name]
    file = tmp_path / "stack.json"
    file.write_text(json.dumps({lock.KEY: earlier(value)}, indent=2) + "\n", encoding="utf-8")
    with pytest.raises(LockError, match="of an earlier release") as caught:
        lock.load(file, "box")
    assert caught.value.next_step == f"Upgrade it: ./run gpuhost lock upgrade {file}"
    assert lock_files.upgrade(file)
    assert lock.load(file, "box") == value and swept(tmp_path, value)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not lock_files.upgrade(file)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def other_environment(value: Json) -> None:
    """Name an environment that this release does not have."""
    value["plan"]["tensorflow"]["environment"] = "dl4cv-tensorflow-9.9-cp399"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_environment, "cannot be upgraded. The lock has no environment dl4cv"),
        (lambda value: value["plan"]["tensorflow"].update(sha256="0" * 64), "does not hold the planned tensorflow"),
        (
            lambda value: value["plan"]["cuda"].update(version="11.8.9"),
            "cannot be upgraded. The lock has no CUDA 11.8.9",
        ),
        (lambda value: value["plan"].update(platform="debian-99"), "does not know debian-99"),
        (lambda value: value["plan"]["opencv"].update(version="9.9.9"), "has no OpenCV 9.9.9"),
        (lambda value: value["plan"].pop("asked"), "is damaged"),
        (lambda value: value["plan"].update(cuda=None), "has no cuda"),
        (lambda value: value.update(more=1), "is damaged"),
        (lambda value: value.update(schema=7), "is damaged"),
        (lambda value: value.update(plan=None), "is damaged"),
    ],
)
def test_what_cannot_be_upgraded_is_refused(tmp_path: Path, change: Callable[[Json], Any], words: str) -> None:
    """In a sentence that names the lock, and the file stays as it is."""
    value = copy.deepcopy(earlier(P2000))
    change(value)
    file = tmp_path / "stack.json"
    file.write_text(json.dumps({lock.KEY: value}), encoding="utf-8")
    before = file.read_bytes()
    with pytest.raises(LockError, match=re.escape(words)) as caught:
        lock_files.upgrade(file)
    assert str(file) in caught.value.message and file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


def test_a_lock_without_a_part_says_so() -> None:
    """A hole that the catalog had when the lock was made is one sentence of each part that needs it."""
    assert [specs.problems(value) for value in (CPU, P2000, RTX)] == [[], [], []]
    cut = {**RTX, "environments": {}}
    assert len(specs.problems(cut)) == 2 and all("The lock has no environment" in text for text in specs.problems(cut))
