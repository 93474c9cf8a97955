"""./run with stub interpreters: what it makes, when it makes it anew, and what it says when it cannot.

The stubs stand for Python and pip, so nothing is downloaded; test_frontdoor_real.py uses the real ones.
"""

import errno
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "run"
TOOLS = ["sh", "env", "cat", "cksum", "cp", "dirname", "flock", "grep", "id", "mkdir", "mv", "rm", "rmdir", "sed"]
TOOLS += ["sleep", "tail", "tee", "echo", "true"]

# Records each call. Asked who it is, it says what `identify` prints; as pip, it waits at the gate when there is one
# and fails with the text of `pip-fails` when that is there. It reads its input to the end, which a real one might do.
STUB = """#!/bin/sh
bed='{bed}'
case "$*" in
*' -c '*) printf '%s\\n' '{version} '"$bed/bin/{name}"; exit 0 ;;
*'-m venv '*)
    echo '{name} venv' >>"$bed/calls"
    for last in "$@"; do :; done
    mkdir -p "$last/bin"
    cp "$0" "$last/bin/python" ;;
*'-m pip '*)
    cat >/dev/null
    for last in "$@"; do :; done
    echo "pip ${{last##*/}}" >>"$bed/calls"
    if [ -p "$bed/gate" ]; then cat "$bed/gate" >/dev/null; rm "$bed/gate"; fi
    if [ -e "$bed/pip-fails" ]; then cat "$bed/pip-fails"; exit 1; fi ;;
esac
"""

# An archive that knows no package before its lists are fetched, as on a new machine. It installs the stub.
APT_GET = """#!/bin/sh
bed='{bed}'
case " $* " in
*' update '*) echo update >>"$bed/calls"; : >"$bed/lists" ;;
*' install '*)
    [ -e "$bed/lists" ] || {{ echo 'E: Unable to locate package'; exit 100; }}
    echo "install $DEBIAN_FRONTEND" >>"$bed/calls"
    cp "$bed/bin/stub" "$bed/bin/python3" ;;
esac
"""


class Bed:
    """A copy of ./run with small requirement files, and a PATH on which only known tools are."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (self.bin / tool).symlink_to(found)
        self.project = folder / "a project"
        (self.project / "requirements").mkdir(parents=True)
        for name in ("pip", "lint", "py38", "py311", "py313"):
            (self.project / "requirements" / (name + ".txt")).write_text("# " + name + "\n")
        (self.project / "pyproject.toml").write_text("[project]\n")
        shutil.copy(str(RUN), str(self.project / "run"))

    @property
    def venv(self):
        return self.project / ".venv"

    def script(self, name, text):
        path = self.bin / name
        if path.is_symlink():  # else the real tool would be written to
            path.unlink()
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python(self, name="python3.11", version="3.11"):
        return self.script(name, STUB.format(bed=self.folder, name=name, version=version))

    def calls(self):
        """What the stubs were asked since the last time, one line a call."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines

    def start(self, *arguments, env=None):
        environment = {"PATH": str(self.bin), "HOME": str(self.folder), **(env or {})}
        process = subprocess.Popen(
            [str(self.project / "run"), *arguments],
            env=environment,
            cwd=str(self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments, env=None, typed=""):
        """(exit code, standard output, standard error)"""
        process = self.start(*arguments, env=env)
        out, err = process.communicate(typed, timeout=30)
        return process.returncode, out, err

    def end(self):
        """End what a failed test has left running, and close the pipes."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
            process.wait(timeout=30)


WHOLE = ["python3.11 venv", "pip pip.txt", "pip py311.txt", "pip a project"]


@pytest.fixture
def bed(tmp_path):
    made = Bed(tmp_path)
    yield made
    made.end()


@pytest.fixture
def ready(bed):
    """A bed whose first call is over."""
    bed.python()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE
    return bed


@pytest.fixture
def at_the_gate(bed):
    """A bed with a first call that stands still inside pip, as (bed, process, gate held open)."""
    bed.python()
    os.mkfifo(str(bed.folder / "gate"))
    process = bed.start("true")
    with open_when_read(bed.folder / "gate", process) as gate:
        yield bed, process, gate


def open_when_read(fifo, process):
    """The fifo's writing end, as soon as the other end is open; a process that ends without that is an error."""
    while process.poll() is None:
        try:
            return os.fdopen(os.open(str(fifo), os.O_WRONLY | os.O_NONBLOCK), "w")
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(0.01)
    raise AssertionError("it ended before it came to the gate: " + process.stderr.read())


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_the_commands_and_makes_nothing(bed, arguments):
    code, out, err = bed.run(*arguments)
    assert (code, err) == (0, "")
    for command in ("site.yml", "pytest verify/", "playbooks/rebuild.yml", "gpuhost plan --gpu", "./run pytest"):
        assert command in out
    assert not bed.venv.exists()


def test_first_call_makes_the_environment_and_only_the_command_speaks_on_standard_output(bed):
    bed.python()
    script = 'printf "%s|" "$@"; cat; echo "$VIRTUAL_ENV"; echo "${PATH%%:*}"; pwd; exit 5'
    code, out, err = bed.run("sh", "-c", script, "x", "two words", "*", typed="typed\n")
    assert (code, out) == (5, f"two words|*|typed\n{bed.venv}\n{bed.venv}/bin\n{bed.folder}\n")
    assert "making" in err and "ready" in err
    assert bed.calls() == WHOLE


def test_second_call_asks_nobody(ready):
    assert ready.run("echo", "hi") == (0, "hi\n", "")
    assert ready.calls() == []


@pytest.mark.parametrize("name", ["requirements/pip.txt", "requirements/py311.txt"])
def test_changed_requirements_make_it_anew(ready, name):
    (ready.project / name).write_text("# other\n")
    assert ready.run("true")[0] == 0
    assert ready.calls() == WHOLE


def test_changed_pyproject_only_installs_the_project_again(ready):
    (ready.project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert ready.run("true")[0] == 0
    assert ready.calls() == ["pip a project"]
    assert ready.run("true") == (0, "", "")


def test_another_pythons_requirements_do_not_matter(ready):
    (ready.project / "requirements/py313.txt").write_text("# other\n")
    assert ready.run("true") == (0, "", "")


def test_moved_folder_makes_it_anew(ready):
    ready.project = ready.project.rename(ready.folder / "elsewhere")
    assert ready.run("true")[0] == 0
    assert ready.calls() == [*WHOLE[:-1], "pip elsewhere"]


@pytest.mark.parametrize("damage", ["no interpreter", "no stamp", "cut stamp", "empty stamp", "empty folder"])
def test_damage_is_repaired(ready, damage):
    stamp = ready.venv / ".gpuhost-stamp"
    if damage == "no interpreter":
        (ready.venv / "bin/python").unlink()
    elif damage == "no stamp":
        stamp.unlink()
    elif damage == "empty folder":
        shutil.rmtree(str(ready.venv))
        ready.venv.mkdir()
    else:
        stamp.write_text("" if damage == "empty stamp" else stamp.read_text()[:6])
    code, out, err = ready.run("true")
    assert (code, out) == (0, "")
    assert all(line.startswith("run: ") for line in err.splitlines()), err
    assert ready.calls() == WHOLE


def test_killed_first_call_is_repaired_by_the_next(at_the_gate):
    bed, process, gate = at_the_gate
    os.killpg(process.pid, signal.SIGKILL)
    gate.close()
    (bed.folder / "gate").unlink()
    process.wait(timeout=30)
    assert bed.venv.exists()
    bed.calls()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
def test_two_first_calls_at_once_make_one_environment(bed, locking, request):
    if locking == "mkdir":
        (bed.bin / "flock").unlink()
    bed, first, gate = request.getfixturevalue("at_the_gate")
    second = bed.start("echo", "second")
    assert "waiting" in second.stderr.readline()
    gate.close()
    assert second.communicate(timeout=30)[0] == "second\n"
    assert second.returncode == 0
    first.communicate(timeout=30)
    assert first.returncode == 0
    assert bed.calls() == WHOLE
    assert not (bed.project / ".venv.lock.d").exists()


def test_folder_lock_of_a_dead_call_is_broken(bed):
    bed.python()
    (bed.bin / "flock").unlink()
    with subprocess.Popen(["true"]) as dead:
        pass
    (bed.project / ".venv.lock.d").mkdir()
    (bed.project / ".venv.lock.d/pid").write_text(f"{dead.pid}\n")
    assert bed.run("true")[0] == 0
    assert not (bed.project / ".venv.lock.d").exists()


def test_lock_is_not_passed_on_to_the_command(bed):
    bed.python()
    (bed.bin / "ls").symlink_to(shutil.which("ls"))
    assert bed.run("ls", "/proc/self/fd/9")[0] != 0


def test_prefers_a_python_whose_ansible_manages_old_hosts(bed):
    bed.python("python3.13", "3.13")
    bed.python("python3.8", "3.8")
    assert bed.run("true")[0] == 0
    assert bed.calls()[0] == "python3.8 venv"


def test_shim_that_fails_is_passed_over(bed):
    bed.script("python3.12", "#!/bin/sh\necho 'shim: no such version' >&2\nexit 127\n")
    bed.python()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


def test_named_python_is_used_kept_and_changed(bed):
    bed.python()
    other = str(bed.python("other", "3.8"))
    assert bed.run("true", env={"GPUHOST_PYTHON": other})[0] == 0
    assert bed.calls()[0] == "other venv"
    assert bed.run("true") == (0, "", "")
    assert bed.run("true", env={"GPUHOST_PYTHON": str(bed.bin / "python3.11")})[0] == 0
    assert bed.calls() == WHOLE


def test_named_python_that_is_not_there(bed):
    bed.python()
    code, out, err = bed.run("true", env={"GPUHOST_PYTHON": "/no/such/python"})
    assert (code, out) == (7, "")
    assert "GPUHOST_PYTHON=/no/such/python cannot be used" in err and "unset it" in err
    assert not bed.venv.exists()


def test_no_python_and_no_apt(bed):
    code, _, err = bed.run("true")
    assert code == 7
    assert "There is no Python from 3.8 to 3.14" in err


def test_no_python_and_no_root_says_the_command(bed):
    bed.script("apt-get", f"#!/bin/sh\necho called >>'{bed.folder}/calls'\n")
    bed.script("id", "#!/bin/sh\necho 1000\n")
    code, _, err = bed.run("true")
    assert code == 7
    assert "Type: sudo apt-get install python3" in err
    assert bed.calls() == []


def test_root_installs_python_and_refreshes_empty_lists_once(bed):
    bed.python("stub")
    bed.script("id", "#!/bin/sh\necho 0\n")
    bed.script("apt-get", APT_GET.format(bed=bed.folder))
    code, _, err = bed.run("true")
    assert code == 0, err
    assert bed.calls() == ["update", "install noninteractive", "stub venv", *WHOLE[1:]]


def test_root_without_network_is_told(bed):
    bed.script("id", "#!/bin/sh\necho 0\n")
    bed.script("apt-get", "#!/bin/sh\necho \"E: Temporary failure resolving 'archive'\"\nexit 100\n")
    code, _, err = bed.run("true")
    assert code == 7
    assert "The network does not answer" in err


@pytest.mark.parametrize(
    ("said", "code", "told"),
    [
        ("OSError: [Errno 28] No space left on device", 7, "The disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", 6, "checksum"),
        ("ERROR: Could not install packages: [Errno 13] Permission denied", 7, "Writing is not permitted"),
        ("[Errno -3] Temporary failure in name resolution", 7, "The network does not answer"),
        ("ERROR: something else", 7, "something else"),
    ],
)
def test_failed_pip_is_told_in_one_paragraph_and_leaves_nothing(bed, said, code, told):
    bed.python()
    (bed.folder / "pip-fails").write_text(said + "\n")
    got, out, err = bed.run("true")
    assert (got, out) == (code, "")
    assert told in err and "type the same command again" in err
    assert not bed.venv.exists()
    assert said in (bed.project / ".venv-setup.log").read_text()
    (bed.folder / "pip-fails").unlink()
    bed.calls()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


def test_unknown_command(ready):
    code, _, err = ready.run("no-such-command")
    assert code == 127
    assert "There is no command no-such-command" in err


def test_missing_requirements_file(bed):
    bed.python("python3.12", "3.12")
    code, _, err = bed.run("true")
    assert code == 7
    assert "requirements/py312.txt is missing" in err


def test_linters_have_an_environment_of_their_own(ready):
    assert ready.run("true", env={"GPUHOST_SET": "lint"})[0] == 0
    assert ready.calls() == ["python3.11 venv", "pip pip.txt", "pip lint.txt"]
    assert (ready.project / ".venv-lint").exists()
    assert ready.run("true") == (0, "", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(bed):
    bed.python()
    bed.project.chmod(0o555)
    code, _, err = bed.run("true")
    bed.project.chmod(0o755)
    assert code == 7
    assert "is not writable" in err
