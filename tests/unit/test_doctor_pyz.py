"""gpuhost-doctor.pyz as a person runs it: any Python from 3.6 on, any user, and roots where much is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator, List

import doctor_pyz
import fastjsonschema
import pytest

from gpuhost import strict_json
from gpuhost.planning.catalog import DATA
from gpuhost.types import Json

MOST = 300 << 10


@pytest.fixture(scope="module")
def pyz() -> Iterator[Path]:
    """The program, in a folder that everybody may read, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "gpuhost-doctor.pyz"
        path.write_bytes(doctor_pyz.built())
        path.chmod(0o755)
        yield path


def pythons() -> List[Any]:
    """This Python, the oldest and the newest of this machine from 3.6 on, and in the full form all between."""

    def version(path: Path) -> List[int]:
        return [int(part) for part in path.parts[-3].split(".") if part.isdigit()]

    found = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"), key=version)
    between = [pytest.param(str(path), marks=pytest.mark.full) for path in found[1:-1]]
    return [sys.executable, *map(str, found[:1] + found[1:][-1:]), *between]


def asked(argv: List[str], **more: Any) -> Json:
    """Run the doctor with --json; its report, which fits the schema, and the exit status that it promises."""
    done = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False, timeout=120, **more)
    assert "Traceback" not in done.stderr, done.stderr
    report: Json = strict_json.loads(done.stdout)
    fastjsonschema.compile(strict_json.load(DATA / "doctor.schema.json"))(report)
    assert done.returncode == {"fine": 0, "found": 1, "not recognised": 3, "unreadable": 4}[report["answer"]]
    return report


def test_it_is_small_and_always_the_same(pyz: Path) -> None:
    """So that it can be copied by hand and compared by its checksum."""
    assert len(pyz.read_bytes()) < MOST
    assert doctor_pyz.built() == pyz.read_bytes()


@pytest.mark.parametrize("python", pythons())
def test_it_runs_on_any_python(python: str, pyz: Path) -> None:
    """With the standard library alone, and with warnings as errors."""
    assert asked([python, "-W", "error", "-I", "-S", str(pyz)])["schema"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_needs_no_more(pyz: Path) -> None:
    """What it may not read is said."""
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", str(pyz)]
    assert asked(argv, env={"PATH": os.environ["PATH"]}, cwd="/")["schema"] == 1


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make such a root")
#: A root of its own: the files of this one, read-only, a /proc, and neither /sys nor /dev nor /tmp.
BARE = """\
set -e
mount --bind / "$1" && mount -o remount,ro,bind "$1" && mount -t proc proc "$1/proc"
exec chroot "$1" /usr/bin/python3 "$2" --json
"""


@needs_root
def test_a_read_only_root_without_a_pci_bus(pyz: Path) -> None:
    """Nothing is written, and what is missing is said."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        copy = Path(folder) / "doctor.pyz"
        copy.write_bytes(pyz.read_bytes())
        root = Path(folder) / "root"
        root.mkdir()
        report = asked(["unshare", "--mount", "sh", "-c", BARE, "sh", str(root), str(copy)])
    told = " ".join(row["why"] for row in report["not_judged"])
    assert "/sys/bus/pci/devices" in told
    assert "gpu.present" not in report["passed"]


def test_an_error_message_and_a_mistake(pyz: Path) -> None:
    """Words point to a diagnosis, an unknown option is a usage error, and an existing file is not overwritten."""
    run = [sys.executable, "-I", "-S", str(pyz)]
    pasted = b"modprobe: Required key\nnot available \xff"
    done = subprocess.run([*run, "--message", "-"], input=pasted, capture_output=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (1, b"D11")
    assert subprocess.run([*run, "--message", "nothing known"], capture_output=True, check=False).returncode == 3
    for wrong in (["--nonsense"], ["--python", "/no/such\x1b[31m/python"]):
        done = subprocess.run([*run, *wrong], capture_output=True, check=False)
        assert (done.returncode, b"Traceback" in done.stderr, b"\x1b" in done.stderr) == (2, False, False)


def test_an_output_that_takes_no_more(pyz: Path) -> None:
    """A full disk is a mistake that is told; a reader that has left is none."""
    run = [sys.executable, "-I", "-S", str(pyz), "--message", "Required key not available"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(run, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (2, b"error: The report could not be written: No space left on device.\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(run, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_the_bundle_tells_no_names(pyz: Path, tmp_path: Path) -> None:
    """It is for the owner's eyes, and holds neither the machine's name nor its addresses."""
    target = tmp_path / "bundle.json"
    run = [sys.executable, "-I", "-S", str(pyz), "--bundle", str(target)]
    assert subprocess.run(run, capture_output=True, check=False).returncode != 2
    assert target.stat().st_mode & 0o777 == 0o600
    bundle = strict_json.load(target)
    assert set(bundle) >= {"about", "report", "machine", "cuda", "heard", "taken_out"}
    assert bundle["report"]["host"] in ("host-1", "localhost", "this machine")
    assert subprocess.run(run, capture_output=True, check=False).returncode == 2


def test_an_environment_is_asked_by_its_own_python(pyz: Path, tmp_path: Path) -> None:
    """Stand-ins for PyTorch, which is there, and for OpenCV, which crashes at its import."""
    site = tmp_path / "site"
    (site / "torch").mkdir(parents=True)
    (site / "torch" / "__init__.py").write_text("__version__ = '2.4.0+cpu'\nclass version: cuda = None\n")
    (site / "cv2.py").write_text("import os\nprint('noise')\nos.abort()\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = asked([sys.executable, "-I", "-S", str(pyz), "--python", str(python)])["python"]
    rows = {row["name"]: row for row in found["frameworks"]}
    assert (rows["torch"]["version"], rows["torch"]["cuda"], rows["torch"]["cards"]) == ("2.4.0+cpu", "", 0)
    assert (rows["opencv"]["version"], rows["opencv"]["module"]) == ("", str((site / "cv2.py").resolve()))
    assert list(site.rglob("*.pyc")) == []
