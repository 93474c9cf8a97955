"""A public function of the pure rooms names the shape of what it takes and returns: no bare Dict[str, Any].

Where there is no shape (a row of the catalog, a value of any form), the line of the annotation says so:
`# Json: the reason`. `python tests/unit/test_bare_types.py` counts.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import FrozenSet, Iterator, List, NamedTuple, Set, Tuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "gpuhost"
ROOMS = ("planning", "checks", "report", "verification")
DICTIONARIES = ("Dict", "dict", "Mapping", "MutableMapping")
#: The same in an annotation that is a text, for the type checker alone.
BARE = re.compile(rf"\b({'|'.join(DICTIONARIES)})\[str, (Any|object)\]")
REASON = re.compile(r"# Json: \S.{9,}")


class Bare(NamedTuple):
    """A public function with an annotation that says no more than Dict[str, Any]."""

    file: str
    line: int
    name: str
    reasons: bool


def is_bare(node: ast.AST, aliases: FrozenSet[str]) -> bool:
    """Return whether an annotation names a dictionary of anything, by itself or by one of its aliases."""
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and one.id in aliases:
            return True
        text = one.value if isinstance(one, ast.Constant) else None
        if isinstance(text, str) and (BARE.search(text) or aliases & set(re.findall(r"\w+", text))):
            return True
        if isinstance(one, ast.Subscript) and getattr(one.value, "id", "") in DICTIONARIES:
            kinds = [inner.id for inner in ast.walk(one.slice) if isinstance(inner, ast.Name)]
            if len(kinds) == 2 and set(kinds) & {"Any", "object"}:
                return True
    return False


@functools.lru_cache(maxsize=None)
def parsed(path: Path) -> ast.Module:
    """Return a module's syntax."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=None)
def aliases_of(path: Path) -> FrozenSet[str]:
    """Return the names of a module that stand for a dictionary of anything, its own and those that it imports."""
    found: Set[str] = set()
    for node in parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            module = folder.joinpath(*(node.module or "").split(".")).with_suffix(".py")
            if module.is_file() and module != path:
                found |= {one.asname or one.name for one in node.names if one.name in aliases_of(module)}
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, (ast.Subscript, ast.Name))
            and is_bare(node.value, frozenset(found))
        ):
            found.add(node.targets[0].id)
    return frozenset(found)


def functions(body: List[ast.stmt]) -> Iterator[Tuple[str, ast.FunctionDef]]:
    """Name the public functions of a module, and the public methods of its public classes."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from functions(node.body)
            else:
                yield node.name, node


def bare(path: Path) -> Iterator[Bare]:
    """Name the public functions of a module that take or return a bare dictionary, and whether each line says why."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for name, node in functions(parsed(path).body):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        kinds = [one.annotation for one in given if one is not None and one.annotation is not None]
        kinds += [node.returns] if node.returns is not None else []
        found = [kind for kind in kinds if is_bare(kind, aliases_of(path))]
        if found:
            reasons = all(REASON.search(lines[(kind.end_lineno or kind.lineno) - 1]) for kind in found)
            yield Bare(path.relative_to(PACKAGE).as_posix(), node.lineno, name, reasons)


def every() -> List[Bare]:
    """Return what the rooms have."""
    return [row for room in ROOMS for path in sorted((PACKAGE / room).rglob("*.py")) for row in bare(path)]


def test_every_bare_dictionary_has_a_reason() -> None:
    """Whoever adds one names its shape (gpuhost.shapes), or says on its line why there is none."""
    assert [f"{row.file}:{row.line} {row.name}" for row in every() if not row.reasons] == []


def test_a_bare_dictionary_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, in another type, by an alias and as text; not in a private function, and not with a reason."""
    module = tmp_path / "x.py"
    module.write_text(
        "Row = Dict[str, Any]\n"
        "def a(x: Dict[str, Any]) -> int: ...\n"
        "def b() -> Optional[List[Mapping[str, Any]]]: ...\n"
        "def c(x: Sequence[Row]) -> int: ...\n"
        "def d(x: 'Callable[[Row], int]') -> int: ...\n"
        "class E:\n    def f(self) -> Row: ...\n"
        "def _g(x: Row) -> Row: ...\n"
        "def h(x: Dict[str, str]) -> int: ...\n"
        "def i(x: Row) -> int: ...  # Json: a row of the catalog\n",
        encoding="utf-8",
    )
    text = module.read_text(encoding="utf-8")
    names = [
        name
        for name, node in functions(ast.parse(text).body)
        if any(
            is_bare(kind, aliases_of(module))
            for kind in [*(a.annotation for a in node.args.args), node.returns]
            if kind
        )
    ]
    assert names == ["a", "b", "c", "d", "f", "i"]


if __name__ == "__main__":
    for room in ROOMS:
        rows = [row for row in every() if row.file.startswith(room + "/")]
        print(f"{room}: {len(rows)} functions with a bare dictionary, {sum(row.reasons for row in rows)} with a reason")
