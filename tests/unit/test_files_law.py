"""The law of writing: everything that the project changes on a disk of a host goes through `gpuhost.host.files`."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, Set, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "gpuhost"
#: Methods and functions by which something on a disk is made, changed, renamed or deleted.
CHANGING = {
    "write_text", "write_bytes", "chmod", "fchmod", "lchmod", "chown", "rename", "renames", "symlink_to", "symlink",
    "hardlink_to", "link_to", "touch", "mkdir", "makedirs", "unlink", "rmdir", "rmtree", "copy2", "copyfile",
    "copytree", "move", "mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "truncate",
    "ftruncate",
    "umask", "extract", "extractall", "flock", "lockf",
}  # fmt: skip
#: What may, with the reason.
EXCEPTIONS: Dict[str, Tuple[Set[str], str]] = {
    "host/store.py": ({"umask"}, "the one place that sets the umask of what changes a host"),
    "host/download.py": (
        {"truncate", "unlink", "rmdir"},
        "a download begins again, or is given up, in the file that `files` has opened",
    ),
    "cvbuild/cli.py": ({"umask", "TemporaryDirectory"}, "the builder is started by itself too; a wheel is looked into"),
    "cvbuild/install.py": ({"extract"}, "one library of a wheel of ours, into the temporary folder it is given"),
    "cvbuild/sources.py": ({"rmtree"}, "half-unpacked sources, away from a full disk"),
    "cvbuild/make.py": ({"rmtree"}, "a stale build tree"),
    "reading.py": ({"open"}, "only reads, and never what is not a regular file"),
    "host/watch/run.py": ({"open"}, "only asks whether a lock is held, and does not wait for a pipe"),
    "cli/main.py": ({"open"}, "/dev/null in the place of an output that nobody reads any more"),
    "doctor/run.py": ({"open"}, "a bundle where the user wants it, and /dev/null as in cli/main.py"),
    "cli/doctor.py": ({"TemporaryFile"}, "on the controller, a program's text on its way to ssh, without a name"),
    "cli/bench.py": ({"TemporaryDirectory"}, "on the controller, for what one command draws"),
    "host/service/site.py": ({"copytree"}, "a copy of nginx's configuration, into the temporary folder it is given"),
    "yolo/native.py": ({"TemporaryFile"}, "a file without a name"),
    "report/history.py": ({"open", "mkdir", "unlink"}, "reports on the controller, as the user who wants them"),
}


def sources() -> Iterator[Tuple[str, Path]]:
    """Every module that the law is about, by its name in `EXCEPTIONS`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != PACKAGE / "host" / "files.py":
            yield path.relative_to(PACKAGE).as_posix(), path
    for path in sorted((ROOT / "plugins" / "modules").glob("*.py")):
        yield f"plugins/modules/{path.name}", path


def changes(tree: ast.AST) -> Iterator[Tuple[str, int]]:
    """Each call of a source by which something on a disk changes, with its line."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = (
            function.value.id if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) else ""
        )
        words = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        if owner == "files":
            continue
        method = isinstance(function, ast.Attribute)
        found = {
            "open": owner == "os" or any(isinstance(w, str) and len(w) < 4 and set(w) & set("wax+") for w in words),
            "replace": owner == "os" or (method and len(node.args) == 1 and not node.keywords),
            "copy": owner == "shutil",
        }
        if owner != "tarfile" and found.get(name, name in CHANGING and method):
            yield name, node.lineno


@pytest.mark.parametrize(("name", "path"), list(sources()), ids=lambda value: value if isinstance(value, str) else "")
def test_only_files_changes_a_disk(name: str, path: Path) -> None:
    """Another way to write would have its own idea of links, modes, locks and power cuts."""
    allowed = EXCEPTIONS.get(name, (set(), ""))[0]
    found = list(changes(ast.parse(path.read_text(encoding="utf-8"))))
    assert [(what, line) for what, line in found if what not in allowed] == []
    assert allowed <= {what for what, _ in found}, "an exception that nothing needs any more"


@pytest.mark.parametrize(
    "line",
    [
        'open(p, "w")', 'p.open("ab")', 'p.open(mode="x")', "os.open(p, 1)", "p.write_text(t)", "os.chmod(p, 1)",
        "p.chmod(1)", "p.rename(q)", "p.replace(q)", "os.replace(p, q)", "shutil.copy(p, q)", "p.symlink_to(q)",
        "tempfile.mkdtemp()", "fcntl.flock(h, 2)",
    ],
)  # fmt: skip
def test_the_law_sees_it(line: str) -> None:
    """Else it would hold because it sees nothing."""
    assert len(list(changes(ast.parse(line)))) == 1


@pytest.mark.parametrize("line", ['t.replace("a", "b")', 'p.open("rb")', "p.open()", "dataclasses.replace(a, b=1)"])
def test_the_law_lets_it_be(line: str) -> None:
    """Reading, and text."""
    assert list(changes(ast.parse(line))) == []
