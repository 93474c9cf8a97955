"""./run with the real Python, venv and pip: a wheel made here, its hash, and a project with a backend of its own."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.install
RUN = Path(__file__).parents[2] / "run"

# The smallest backend that pip can make an editable installation with: one wheel that holds one .pth file.
BACKEND = """
import zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "door-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.writestr("door.pth", "")
        wheel.writestr("door-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: door\\nVersion: 1\\n")
        wheel.writestr("door-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("door-1.dist-info/RECORD", "")
    return name
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that needs one wheel, `knob`, which lies in a folder beside it."""
    folder = tmp_path_factory.mktemp("frontdoor")
    wheels = folder / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(str(wheels / "knob-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("knob.py", "turns = True\n")
        wheel.writestr("knob-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: knob\nVersion: 1\n")
        wheel.writestr("knob-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("knob-1.dist-info/RECORD", "")
    digest = hashlib.sha256((wheels / "knob-1-py3-none-any.whl").read_bytes()).hexdigest()
    home = folder / "project"
    (home / "requirements").mkdir(parents=True)
    shutil.copy(str(RUN), str(home / "run"))
    pins = f"requirements/user-py3{sys.version_info[1]}.txt"
    for name in ("requirements/pip.txt", pins):
        (home / name).write_text(f"knob==1 --hash=sha256:{digest}\n")
    (home / "backend.py").write_text(BACKEND)
    (home / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    return home


@pytest.fixture(scope="module")
def shadows(tmp_path_factory):
    """A folder whose modules stop whatever imports them, and whose setup.cfg sends packages elsewhere."""
    folder = tmp_path_factory.mktemp("shadows")
    for name in ("pip", "venv", "ensurepip", "json", "zipfile", "backend", "sitecustomize", "usercustomize"):
        (folder / (name + ".py")).write_text(f"import os\nos.write(2, b'{name} is shadowed')\nos._exit(9)\n")
    (folder / "setup.cfg").write_text(f"[install]\nprefix = {folder}/away\n")
    return folder


def call(project, *arguments, cwd=None, **more):
    """Run it with this interpreter; pip may look nowhere but into the folder of wheels."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(project),
        "GPUHOST_PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
        "PYTHONHOME": "",
        **more,
    }
    return subprocess.run(
        [str(project / "run"), *arguments],
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_first_call_installs_and_a_wrong_hash_is_refused(project, shadows, tmp_path):
    """One test, because an environment takes seconds to make: the second half starts where the first ends.

    The first call is typed where other modules lie about, by a user who has set up a Python and a pip of his own.
    """
    script = "import sys, knob; print(knob.turns, sys.version_info[:2], sys.prefix)"
    settings = {
        "PYTHONPATH": str(shadows), "PYTHONSTARTUP": str(shadows / "json.py"), "PYTHONWARNINGS": "error",
        "PIP_TARGET": str(tmp_path / "t"), "PIP_PREFIX": str(tmp_path / "p"), "PIP_ROOT": str(tmp_path / "r"),
        "PIP_PYTHON": "/bin/false", "PIP_DRY_RUN": "1", "PIP_NO_BINARY": ":all:", "TMPDIR": "/no/such/folder",
    }  # fmt: skip
    first = call(project, "python", "-I", "-c", script, cwd=str(shadows), **settings)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"True {sys.version_info[:2]} {project / '.venvs/main-1'}\n"
    stamp = (project / ".venv/.gpuhost-stamp").stat()
    second = call(project, "python", "-c", script)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert (project / ".venv/.gpuhost-stamp").stat().st_mtime_ns == stamp.st_mtime_ns

    (project / "requirements/pip.txt").write_text(f"knob==1 --hash=sha256:{'0' * 64}\n")
    refused = call(project, "python", "-c", script)
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "not the one its checksum promises" in refused.stderr
    assert not (project / ".venv").exists()


def test_pip_conf_that_sends_packages_elsewhere_is_named(project, tmp_path):
    conf = tmp_path / "pip.conf"
    conf.write_text(f"[install]\ntarget = {tmp_path / 'away'}\n")
    for name in ("pip.txt", f"user-py3{sys.version_info[1]}.txt"):
        digest = hashlib.sha256((project.parent / "wheels/knob-1-py3-none-any.whl").read_bytes()).hexdigest()
        (project / "requirements" / name).write_text(f"knob==1 --hash=sha256:{digest}\n")
    done = call(project, "true", PIP_CONFIG_FILE=str(conf))
    assert (done.returncode, done.stdout) == (7, "")
    assert "a pip.conf sends them elsewhere" in done.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize(
    ("pretence", "told"),
    [
        ("sys.modules['ensurepip'] = None", "it lacks a module"),
        ("sys.version_info = (3, 7, 16, 'final', 0)", "it is Python 3.7."),
        ("sys.version_info = (3, 15, 0, 'final', 0)", "it is Python 3.15."),
    ],
)
def test_unfit_python_is_named(tmp_path, pretence, told):
    """The real question, answered by this interpreter while it pretends to be another."""
    shutil.copy(str(RUN), str(tmp_path / "run"))
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -c "import sys; {pretence}; exec(sys.argv[1])" "$3"\n')
    wrapper.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "GPUHOST_PYTHON": str(wrapper)}
    done = subprocess.run([str(tmp_path / "run"), "true"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert told in done.stderr
    assert not (tmp_path / ".venv").exists()
