"""Write each role's README.md from its argument_specs, so that no variable is described twice.

python tools/role_readmes.py           write them
python tools/role_readmes.py --check   only say which are out of date (exit 1)
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"


def plain(text: Any) -> str:
    """Ansible's C(...) marks as Markdown's code, on one line."""
    return re.sub(r"C\(([^)]*)\)", r"`\1`", " ".join(str(text).split()))


def cell(value: Any) -> str:
    """A default as code, or nothing."""
    return "" if value is None else f"`{str(value).replace('|', chr(92) + '|')}`"


def rows(options: Dict[str, Any], prefix: str = "") -> List[str]:
    """The table rows of some options, those of a nested one after it."""
    found = []
    for name, option in options.items():
        need = "required" if option.get("required") else cell(option.get("default"))
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        choices = f" One of {', '.join(map(str, option['choices']))}." if "choices" in option else ""
        found.append(f"| `{prefix}{name}` | {kind} | {need} | {plain(option['description'])}{choices} |")
        found += rows(option.get("options", {}), f"{prefix}{name}.")
    return found


def readme(role: Path) -> str:
    """The README of one role."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    lines = [f"# {role.name}", "", "Written by tools/role_readmes.py from meta/argument_specs.yml."]
    for entry, spec in sorted(specs.items(), key=lambda item: item[0] != "main"):
        if entry != "main":
            lines += ["", f"## tasks_from: {entry}"]
        lines += ["", f"{spec['short_description']}.", ""] + [f"- {plain(text)}" for text in spec["description"]]
        if spec["options"]:
            lines += ["", "| variable | type | default | meaning |", "|---|---|---|---|", *rows(spec["options"])]
        if "examples" in spec:
            lines += ["", "With [the collection](../../docs/how-to/collection.md):", "", "```yaml"]
            lines += [*spec["examples"].splitlines(), "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check all of them."""
    parser = argparse.ArgumentParser(description="Write each role's README.md from its argument_specs.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when one is out of date")
    check = parser.parse_args().check
    stale = []
    for role in sorted(path for path in ROLES.iterdir() if (path / "meta" / "argument_specs.yml").exists()):
        file, text = role / "README.md", readme(role)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(role.name)
            if not check:
                file.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'none'}\n")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main())
