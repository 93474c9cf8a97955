"""Letting the linker and the shells of a host find the toolkit in force: two files that name `current`.

Runs on the target: Python 3.6, standard library. A switch of generations changes neither file, but the linker's cache
knows files, so it is rebuilt whenever the links lead elsewhere than at its last rebuilding.
"""

import json
from pathlib import Path
from typing import Dict, List, Optional

from ...errors import EnvironmentProblem
from ...types import Json
from .. import files, store
from ..commands import run_command

CONF, PROFILE, RECORD = "etc/ld.so.conf.d/gpuhost.conf", "etc/profile.d/gpuhost.sh", "state/linker.json"
FOLDERS = {"cuda": "lib64", "cudnn": "lib"}
TIMEOUT_S = 120.0


def conf(root: Path, links: Dict[str, str]) -> str:
    """The linker's file: the library folders of the links that are there; '' for none."""
    return "".join(f"{root}/current/{name}/{FOLDERS[name]}\n" for name in sorted(links))


def profile(root: Path, links: Dict[str, str]) -> str:
    """The shells' file, in POSIX sh; it may be read twice."""
    if "cuda" not in links:
        return ""
    return (
        "# The CUDA toolkit in force; written by gpuhost.\n"
        f"export CUDA_HOME={root}/current/cuda\n"
        'case ":$PATH:" in\n'
        f"    *:{root}/current/cuda/bin:*) ;;\n"
        f'    *) export PATH="{root}/current/cuda/bin:$PATH" ;;\n'
        "esac\n"
    )


def present(root: Path, more: Dict[str, str]) -> Dict[str, str]:
    """The links of the generation in force, and `more`, that concern the linker: name -> store folder."""
    number = store.current_generation(root)
    links = dict(store.describe(root, number)["links"] if number is not None else {}, **more)
    return {name: to for name, to in links.items() if name in FOLDERS}


def changes(root: Path, top: Path, links: Optional[Dict[str, str]]) -> Json:
    """What is to be done: {"files": {path: [before, after]}, "ldconfig": bool, "links": {...}}; None removes all."""
    wanted = {} if links is None else links
    files = {}
    for name, after in ((CONF, conf(root, wanted)), (PROFILE, profile(root, wanted))):
        path = top / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before != after:
            files[str(path)] = [before, after]
    known = store.read_json(root / RECORD) or {}
    stale = known.get("links", {}) != wanted or str(top / CONF) in files
    return {"files": files, "ldconfig": stale or not listed(root, wanted), "links": wanted}


def listed(root: Path, links: Dict[str, str]) -> bool:
    """Return whether the linker's cache names a library of each link."""
    if not links:
        return True
    code, out, _ = run_command(["ldconfig", "-p"], TIMEOUT_S)
    if code != 0:
        return False
    return all(f" => {root}/current/{name}/{FOLDERS[name]}/" in out for name in links)


def apply(root: Path, top: Path, todo: Json) -> None:
    """Do it: the record is taken down first and written last."""
    try:
        files.remove(root / RECORD)
        for name, (_, after) in sorted(todo["files"].items()):
            if after:
                files.write_whole(Path(name), after)
            else:
                files.remove(Path(name))
        if todo["ldconfig"]:
            code, out, err = run_command(["ldconfig"], TIMEOUT_S)
            if code != 0:
                step = "Run ldconfig as root and correct what it names, then run the same command again."
                raise EnvironmentProblem(f"The linker's cache cannot be rebuilt: {(err or out).strip()}.", step)
        if todo["links"]:
            text = json.dumps({"schema": 1, "links": todo["links"]}, indent=1, sort_keys=True)
            files.write_whole(root / RECORD, text + "\n")
    except OSError as error:
        raise store.unwritable(error, root) from error


def differences(todo: Json) -> List[Json]:
    """The files' changes as Ansible shows them."""
    return [
        {"before": before, "after": after, "before_header": name, "after_header": name}
        for name, (before, after) in sorted(todo["files"].items())
    ]
