"""Print the files that run on a target, under its Python 3.6: the modules, and all of the package that they lead to.

    ./run python tools/target_files.py

Found by their imports, from plugins/modules and from the programs that verify/ sends, so that no list has to be kept.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Iterator, Set

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/gpuhost"
#: What verify/ sends to a host (gpuhost.checks_collect), and what the detector's folder takes along (gpuhost.tree).
SENT = ("__init__", "errors", "strict_json", "probe_installed", "probe_environment")


def named(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports: relatively, or as Ansible's module_utils."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module or ""
        if node.level == 1 or module == "ansible.module_utils.gpuhost":
            yield from [module] if node.level == 1 and module else [alias.name for alias in node.names]
        elif module.startswith("ansible.module_utils.gpuhost."):
            yield module.rpartition(".")[2]


def target_files() -> Set[Path]:
    """All files, absolute."""
    modules = set((ROOT / "plugins/modules").glob("*.py"))
    found = modules | set((PACKAGE / "yolo").rglob("*.py"))
    wanted = set(SENT).union(*(named(path) for path in modules))
    while wanted:
        path = PACKAGE / f"{wanted.pop()}.py"
        if path.is_file() and path not in found:
            found.add(path)
            wanted |= set(named(path))
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path.relative_to(ROOT)}\n" for path in sorted(target_files())))
