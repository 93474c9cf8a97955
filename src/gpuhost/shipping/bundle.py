"""One program text from modules of this package, to be run by a Python on a target that has nothing of
gpuhost.

The modules travel inside the text and are imported from memory: no file is written there. What is sent must
keep to Python 3.6 and the standard library, as every target-side module does.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import shlex
import threading
import zlib
from pathlib import Path
from typing import Any, Dict, List

PACKAGE = Path(__file__).parents[1]
#: Linux takes no single argument of 128 KiB or more (MAX_ARG_STRLEN), and a whole remote command is one
#: argument of sh -c.
LARGEST = 120 * 1024
_PARSING = threading.Lock()

_START = """\
import base64, importlib, importlib.abc, importlib.util, json, sys, zlib
sys.dont_write_bytecode = True
sources, entry, arguments = json.loads(zlib.decompress(base64.b64decode("{payload}")).decode("utf-8"))
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name not in sources:
            return None
        is_package = any(other.startswith(name + ".") for other in sources)
        return importlib.util.spec_from_loader(name, self, origin="sent", is_package=is_package)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], "sent:" + module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
sys.exit(importlib.import_module("gpuhost." + entry).main(arguments))
"""


def file_of(name: str) -> Path:
    """Return the file of a module or a package by its dotted name below gpuhost ("" for gpuhost itself)."""
    path = PACKAGE.joinpath(*name.split(".")) if name else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


def imports(name: str, source: str) -> List[str]:
    """Return the modules of this package that one of its modules imports relatively, by dotted name below gpuhost.

    What it imports for a type checker alone does not count: nothing of that is imported where it runs.
    """
    found = []
    # Python 3.11 cannot parse in two threads at once: "AST constructor recursion depth mismatch" (gh-106905).
    with _PARSING:
        tree = ast.parse(source)
    package = name.split(".") if file_of(name).name == "__init__.py" else name.split(".")[:-1]
    unused = {inner for node in ast.walk(tree) if is_for_types(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and node not in unused:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            start = ".".join(part for part in base if part)
            inner = [f"{start}.{alias.name}".lstrip(".") for alias in node.names]
            found += [one if file_of(one).is_file() else start for one in inner]
    return found


def is_for_types(node: ast.AST) -> bool:
    """Return whether a statement is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@functools.lru_cache(maxsize=None)
def sources(*entries: str) -> Dict[str, str]:
    """Return the text of modules of this package (dotted, below gpuhost) and of all that they need, by full name."""
    found: Dict[str, str] = {}
    wanted = list(entries)
    while wanted:
        name = wanted.pop()
        full = f"gpuhost.{name}" if name else "gpuhost"
        if full not in found:
            found[full] = file_of(name).read_text(encoding="utf-8")
            wanted += imports(name, found[full])
            if name:
                wanted.append(name.rpartition(".")[0])  # a module is imported through its packages
    return found


def files(*entries: str) -> Dict[str, str]:
    """Return the same as text by the path of its file below the folder that holds gpuhost."""
    found = {}
    for full, text in sources(*entries).items():
        path = file_of(full.partition(".")[2]).relative_to(PACKAGE.parent)
        found[path.as_posix()] = text
    return found


def modules(room: str) -> List[str]:
    """Return the modules of a room, by dotted name below gpuhost."""
    folder = PACKAGE / room
    return [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(folder.rglob("[!_]*.py"))]


def program(entry: str, arguments: Any = None) -> str:
    """A program that calls `main(arguments)` of the module `entry`, with everything it needs in itself."""
    content = json.dumps([sources(entry), entry, arguments], sort_keys=True).encode("utf-8")
    return _START.format(payload=base64.b64encode(zlib.compress(content, 9)).decode("ascii"))


def command(python: str, entry: str, arguments: Any = None, limit_s: int = 300) -> str:
    """The shell command that runs the program with a target's Python, isolated from its environment variables
    and user site.

    Ends with status 124 after `limit_s` seconds. Raises ValueError when the program has grown too long for
    one argument.
    """
    line = f"timeout -k 5 {int(limit_s)} {shlex.quote(python)} -I -B -c {shlex.quote(program(entry, arguments))}"
    if len(line) > LARGEST:
        raise ValueError(f"the program {entry} has {len(line)} bytes, one argument takes {LARGEST}")
    return line
