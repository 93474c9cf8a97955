"""Lock the wheels that a CUDA toolkit or a cuDNN is assembled from: every file by version, sha256 and size.

A maintainer's script. Which wheels make up a toolkit is what NVIDIA's own package `cuda-toolkit` of that version says;
where that is wrong, `--instead` replaces a package's version and the lock keeps a note of it. Every file is downloaded
once, so that pip checks its hash and its bytes and contents can be counted.
"""

from __future__ import annotations

import argparse
import datetime
import email.parser
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from packaging.requirements import Requirement

#: The pip that fetches them on a target: the newest for the oldest Python that a platform has for it (3.8).
PIP = "pip==25.0.1"
#: Debuggers of device code; nothing is built or run with them.
LEFT_OUT = ("sanitizer-api",)


class LockingError(Exception):
    """The lock cannot be made; the text says what the maintainer can do."""


def pip(*arguments: str) -> str:
    """Run pip against the public index alone; a machine's own settings may add files that are not the public ones."""
    env = {key: value for key, value in os.environ.items() if key not in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")}
    env.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = [sys.executable, "-I", "-m", "pip", *arguments]
    done = subprocess.run(  # noqa: S603 - a list; names and versions come from the maintainer
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise LockingError(f"{' '.join(command)} ended with {done.returncode}.\n{done.stdout[-2000:]}")
    return done.stdout


def components(metadata: str) -> List[str]:
    """The requirements of everything in `cuda-toolkit`, from its METADATA, without what is left out."""
    said = email.parser.Parser().parsestr(metadata).get_all("Requires-Dist") or []
    found = []
    for text in said:
        one = Requirement(text)
        there = one.marker is not None and one.marker.evaluate({"extra": "all", "sys_platform": "linux"})
        if there and not any(word in one.name for word in LEFT_OUT):
            found.append(f"{one.name}{one.specifier}")
    return sorted(set(found))


def replaced(wanted: Sequence[str], instead: Sequence[str]) -> List[str]:
    """The requirements with those in `instead` in place of theirs; one that replaces nothing is an error."""
    by_name = {Requirement(text).name: text for text in wanted}
    for text in instead:
        if Requirement(text).name not in by_name:
            raise LockingError(f"--instead {text} replaces nothing.")
        by_name[Requirement(text).name] = text
    return [by_name[name] for name in sorted(by_name)]


def read_member(wheel: Path, pattern: str) -> str:
    """The text of the first member whose name matches."""
    with zipfile.ZipFile(wheel) as packed:
        name = next(name for name in packed.namelist() if re.search(pattern, name))
        return packed.read(name).decode("utf-8")


def rows(report: Dict[str, Any], files: Path) -> List[Dict[str, Any]]:
    """pip's report as the lock's rows, with the sizes of the downloaded files."""
    found = []
    for item in report["install"]:
        download = item["download_info"]
        name = download["url"].rsplit("/", 1)[-1]
        found.append(
            {
                "name": item["metadata"]["name"].lower(),
                "version": item["metadata"]["version"],
                "file": name,
                "sha256": download["archive_info"]["hashes"]["sha256"],
                "size": (files / name).stat().st_size,
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def unpacked(files: Sequence[Path]) -> int:
    """How many bytes the files hold."""
    total = 0
    for file in files:
        with zipfile.ZipFile(file) as packed:
            total += sum(member.file_size for member in packed.infolist())
    return total


def holds_nvcc(files: Sequence[Path]) -> bool:
    """Return whether the compiler is in one of the files."""
    return any(name.endswith("/bin/nvcc") for file in files for name in zipfile.ZipFile(file).namelist())


def make(options: argparse.Namespace, files: Path) -> Dict[str, Any]:
    """Resolve, download and describe."""
    if options.component == "cuda":
        pip("download", "--quiet", "--no-deps", "-d", str(files), f"cuda-toolkit=={options.version}")
        meta = next(files.glob(f"cuda_toolkit-{options.version}-*.whl"))
        wanted = replaced(components(read_member(meta, r"\.dist-info/METADATA$")), options.instead)
    else:
        wanted = [f"nvidia-cudnn-cu{options.cuda}=={options.version}"]
    wanted = [*wanted, PIP]
    report = json.loads(
        pip("install", "--dry-run", "--ignore-installed", "--quiet", "--no-deps", "--report", "-", *wanted)
    )
    exact = [f"{item['metadata']['name']}=={item['metadata']['version']}" for item in report["install"]]
    pip("download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(files), *exact)
    packages = rows(report, files)
    there = [files / row["file"] for row in packages if row["name"] != "pip"]
    return {
        "schema": 1,
        "component": options.component,
        "version": options.version,
        "cuda": options.cuda,
        "compiler": holds_nvcc(there),
        "unpacked": unpacked(there),
        "packages": packages,
        "made": {
            "date": datetime.date.today().isoformat(),
            "with": f"pip {report['pip_version']}",
            "instead": sorted(options.instead),
            "why": options.why,
        },
    }


def parse(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    add = parser.add_argument
    add("component", choices=["cuda", "cudnn"])
    add("version", help="the release, as the catalog has it: 12.5.1")
    add("--cuda", help="the CUDA generation (11, 12 or 13) that a cuDNN is for")
    add("--instead", action="append", default=[], help="name==version in place of what cuda-toolkit says; repeatable")
    add("--why", default="", help="why --instead is right, with its source")
    add("--wheelhouse", type=Path, help="keep the downloaded files here (default: removed afterwards)")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="write the lock into this folder")
    options = parser.parse_args(arguments)
    options.cuda = options.cuda or (options.version.split(".")[0] if options.component == "cuda" else None)
    if options.cuda is None:
        parser.error("a cuDNN needs --cuda")
    if bool(options.instead) != bool(options.why):
        parser.error("--instead needs --why, and --why is for --instead")
    if not options.output.is_dir():
        parser.error(f"--output {options.output} is not a folder")
    return options


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Make one lock and write it."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as work:
        files = options.wheelhouse or Path(work)
        files.mkdir(parents=True, exist_ok=True)
        try:
            lock = make(options, files)
        except LockingError as error:
            print(error, file=sys.stderr)
            return 1
    suffix = f"-cu{options.cuda}" if options.component == "cudnn" else ""
    path = options.output / f"{options.component}-{options.version}{suffix}.json"
    path.write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
    print(f"{path}: {len(lock['packages'])} packages, nvcc {'is' if lock['compiler'] else 'is not'} among them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
