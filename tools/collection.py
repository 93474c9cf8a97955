"""Build the Ansible collection gpuhost.gpuhost: one archive that `ansible-galaxy collection install` takes.

python tools/collection.py [FOLDER]   default: dist

In a checkout, roles, modules and filters are called by short names, and plugins import the package gpuhost from src/.
A collection knows neither, so both are rewritten on the way into it; docs/decisions/0024-collection.md says why.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Dict, List

from gpuhost import __version__

ROOT = Path(__file__).resolve().parent.parent
NAME = "gpuhost.gpuhost"
PACKAGE = f"ansible_collections.{NAME}.plugins.module_utils.gpuhost"
DESCRIPTION = "A lockfile for GPU hosts: one pinned, mutually compatible stack for the card that is really there"
#: The kinds of plugins that roles use. Callbacks only shape the output of a checkout's playbooks.
KINDS = ("action", "filter", "modules")
#: It runs verify/, which stays in the checkout.
LEFT_OUT = "gpuhost_verify"
GALAXY = {
    "namespace": NAME.partition(".")[0],
    "name": NAME.partition(".")[2],
    "version": __version__,
    "readme": "README.md",
    "authors": ["The gpuhost project"],
    "description": DESCRIPTION,
    "license_file": "LICENSE",
    "tags": ["linux", "nvidia", "cuda", "gpu"],
}
README = f"""\
# {NAME}

{DESCRIPTION}. Each role's README.md has an example playbook.

The Python that runs Ansible needs the packages of requirements.txt.
"""
RUNTIME = 'requires_ansible: ">=2.13.0"\n'
EXECUTION_ENVIRONMENT = "version: 3\ndependencies:\n  python: requirements.txt\n"
_IMPORT = re.compile(r"^(\s*from )(?:ansible\.module_utils\.)?gpuhost(?=[. ])", re.M)
_ROLE = re.compile(r"(\.(?:include|import)_role:\n\s+name: )(\w+)$", re.M)
_FILTER = re.compile(r"(\| *)(gpuhost_\w+)")


def plugins(kind: str) -> List[Path]:
    """Return the files of one kind of plugin."""
    return sorted(path for path in (ROOT / "plugins" / kind).glob("*.py") if path.stem != LEFT_OUT)


def of_plugin(text: str) -> str:
    """Return a plugin's text, importing the package gpuhost from the collection."""
    return _IMPORT.sub(rf"\g<1>{PACKAGE}", text)


def of_role(text: str) -> str:
    """Return YAML of a role with the full names of modules, filters and roles."""
    modules = "|".join(sorted({path.stem for kind in ("action", "modules") for path in plugins(kind)}))
    text = re.sub(rf"^( +(?:- )?)({modules}):", rf"\g<1>{NAME}.\g<2>:", text, flags=re.M)
    text = _FILTER.sub(rf"\g<1>{NAME}.\g<2>", text)
    # What gpu_stack imports to see whether it is there: in a collection the package always is.
    text = text.replace('"import gpuhost, ', '"import ')
    return _ROLE.sub(rf"\g<1>{NAME}.\g<2>", text)


def files() -> Dict[str, str]:
    """Return what the collection holds, as text by path."""
    found = {
        "galaxy.yml": json.dumps(GALAXY, indent=2) + "\n",
        "README.md": README,
        "requirements.txt": "".join(f"{line}\n" for line in metadata.requires("gpuhost") or ()),
        "meta/runtime.yml": RUNTIME,
        "meta/execution-environment.yml": EXECUTION_ENVIRONMENT,
    }
    for name in ("LICENSE", "CHANGELOG.md", "docs/how-to/collection.md"):
        found[name] = (ROOT / name).read_text(encoding="utf-8")
    for path in [path for kind in KINDS for path in plugins(kind)]:
        found[str(path.relative_to(ROOT))] = of_plugin(path.read_text(encoding="utf-8"))
    for path in (path for path in (ROOT / "roles").rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8")
        found[str(path.relative_to(ROOT))] = of_role(text) if path.suffix == ".yml" else text
    package = ROOT / "src" / "gpuhost"
    for path in (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        place = f"plugins/module_utils/gpuhost/{path.relative_to(package)}"
        found[place] = path.read_text(encoding="utf-8")
    return found


def build(folder: Path) -> Path:
    """Write the collection's archive into a folder; its path."""
    with tempfile.TemporaryDirectory() as work:
        for name, text in files().items():
            file = Path(work, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection", "build", "--force"]
        command = [*galaxy, "--output-path", str(folder.resolve())]
        subprocess.run(command, cwd=work, stdout=subprocess.PIPE, check=True)  # noqa: S603 - a list, made here
    return folder / f"{NAME.replace('.', '-')}-{__version__}.tar.gz"


def main() -> None:
    """Build it and say where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("dist"))
    built = build(parser.parse_args().folder)
    print(f"written: {built} ({built.stat().st_size} bytes)\ninstall: ansible-galaxy collection install {built}")


if __name__ == "__main__":
    main()
