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
from typing import Any, Dict, List, Optional

from . import strict_json
from .probe_answer import MARK

PACKAGE = Path(__file__).parent
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
        return importlib.util.spec_from_loader(name, self, origin="sent", is_package=name == "gpuhost")
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], "sent:" + module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
sys.exit(importlib.import_module("gpuhost." + entry).main(arguments))
"""


def imports(source: str) -> List[str]:
    """The modules of this package that a module of it imports relatively, by name."""
    found = []
    # Python 3.11 cannot parse in two threads at once: "AST constructor recursion depth mismatch" (gh-106905).
    with _PARSING:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found += [node.module] if node.module else [alias.name for alias in node.names]
    return found


@functools.lru_cache(maxsize=None)
def sources(entry: str) -> Dict[str, str]:
    """The text of a module of this package and of all that it needs, by full module name."""
    found = {"gpuhost": (PACKAGE / "__init__.py").read_text(encoding="utf-8")}
    wanted = [entry]
    while wanted:
        name = wanted.pop()
        if f"gpuhost.{name}" not in found:
            text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
            found[f"gpuhost.{name}"] = text
            wanted += imports(text)
    return found


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


def answers(output: str) -> List[Dict[str, Any]]:
    """The JSON objects that a program gave on its output; whatever else was printed there is passed over."""
    found = []
    for line in output.splitlines():
        if line.startswith(MARK):
            value = parsed(line[len(MARK) :])
            if value is not None:
                found.append(value)
    return found


def parsed(text: str) -> Optional[Dict[str, Any]]:
    """A JSON object in a text, or None when it is cut off, no object, or not strictly JSON."""
    try:
        value = strict_json.loads(text)
    except strict_json.StrictJsonError:
        return None
    return value if isinstance(value, dict) else None
