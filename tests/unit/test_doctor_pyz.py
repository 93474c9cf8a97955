"""gpuhost-doctor.pyz as a person runs it: any Python from 3.6 on, any user, and roots where much is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List

import doctor_pyz
import fastjsonschema
import pytest

from gpuhost import strict_json
from gpuhost.planning.catalog import DATA

MOST = 300 << 10
Json = Dict[str, Any]


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
    """This Python, and every other one of this machine from 3.6 on."""
    found = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))
    return [sys.executable, *(str(path) for path in found)]


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
