"""./run with stub interpreters: what it makes, when it makes it again, and what it says when it cannot.

The stubs stand for Python and pip, so nothing is downloaded; test_frontdoor_real.py uses the real ones.
"""

import errno
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gpuhost

RUN = Path(__file__).parents[2] / "run"
STACK = "/opt/gpuhost/current/venvs/opencv_cuda/bin/python"
TOOLS = ["sh", "env", "cat", "chmod", "cksum", "cp", "dd", "dirname", "flock", "grep", "id", "ln", "mkdir", "mv", "rm"]
TOOLS += ["date", "uname", "rmdir", "sed", "sleep", "tail", "tee", "tr", "echo", "true"]

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
    env | grep -e '^PIP_' -e '^PYTHON' >>"$bed/settings" || true
    echo "$TMPDIR $(pwd)" >>"$bed/places"
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
        for name in ("pip", "lint", "service", "py38", "py311", "py313", "user-py38", "user-py311", "user-py313"):
            (self.project / "requirements" / (name + ".txt")).write_text("# " + name + "\n")
        (self.project / "pyproject.toml").write_text("[project]\n")
        shutil.copy(str(RUN), str(self.project / "run"))

    @property
    def venv(self):
        return self.project / ".venv"

    def slot(self, number=1):
        """An environment; `.venv` leads to the one in force."""
        return self.project / f".venvs/main-{number}"

    def renew(self):
        """What a pull does that brings other requirements."""
        pins = self.project / "requirements/pip.txt"
        pins.write_text(pins.read_text() + "# newer\n")

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
        # Where the suite itself runs in the background of a shell, Ctrl-C is ignored, and so it would be here.
        kept_signal = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
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
        finally:
            signal.signal(signal.SIGINT, kept_signal)
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


WHOLE = ["python3.11 venv", "pip pip.txt", "pip user-py311.txt", "pip a project"]
FULL = ["python3.11 venv", "pip pip.txt", "pip py311.txt", "pip a project"]


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
def test_help_lists_the_commands_of_the_readme_and_makes_nothing(bed, arguments):
    code, out, err = bed.run(*arguments)
    assert (code, err) == (0, "")
    typed = re.findall(r"^\|.*?`(\./run [^`]*)`", (RUN.parent / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(typed) > 12
    for command in typed:
        assert " ".join(command.split()[:3]).replace("inventory/YOURS.yml", "") in out
    assert not bed.venv.exists()


def test_version_is_that_of_the_package_and_makes_nothing(bed):
    (bed.project / "src/gpuhost").mkdir(parents=True)
    shutil.copy(str(RUN.parent / "src/gpuhost/__init__.py"), str(bed.project / "src/gpuhost"))
    assert bed.run("--version") == (0, f"gpuhost {gpuhost.__version__}\n", "")
    assert not bed.venv.exists()


def test_an_option_is_no_command(bed):
    code, out, err = bed.run("--foo")
    assert (code, out) == (2, "") and "There is no option --foo." in err
    assert not bed.venv.exists()


@pytest.mark.parametrize("locale", ["C", "en_US.UTF-8", "xx_XX.UTF-8", None])
def test_commands_speak_utf8_whatever_the_locale(ready, locale):
    """en_US.UTF-8 may or may not have been generated here; the command gets one that is."""
    (ready.bin / "locale").symlink_to(shutil.which("locale"))
    (ready.bin / "python-now").symlink_to(sys.executable)
    show = "import locale, sys; print(locale.nl_langinfo(locale.CODESET), sys.flags.utf8_mode, sys.stdout.encoding)"
    show = f"import locale; locale.setlocale(locale.LC_ALL, '')\n{show}"
    code, out, err = ready.run("python-now", "-c", show, env={"LC_ALL": locale} if locale else {})
    assert (code, out.lower(), err) == (0, "utf-8 1 utf-8\n", "")


def test_the_projects_files_are_found_from_elsewhere_and_own_ones_come_first(ready):
    """The call is made in the folder above the project's."""
    (ready.project / "playbooks").mkdir()
    (ready.project / "verify").mkdir()
    for name in ("site.yml", "playbooks/a b.yml"):
        (ready.project / name).write_text("")
    words = ["site.yml", "playbooks/a b.yml", "verify/", "playbooks/other.yml", "--x", "*"]
    _, out, _ = ready.run("sh", "-c", 'printf "%s|" "$@"; echo "$ANSIBLE_CONFIG"', "x", *words)
    at = ready.project
    assert out == f"{at}/site.yml|{at}/playbooks/a b.yml|{at}/verify/|playbooks/other.yml|--x|*|{at}/ansible.cfg\n"
    (ready.folder / "site.yml").write_text("")
    _, out, _ = ready.run("echo", "site.yml", env={"ANSIBLE_CONFIG": "mine"})
    assert out == "site.yml\n"


def test_a_command_that_is_called_like_a_folder_is_the_command(ready):
    """`gpuhost verify`, called in the folder above the project's."""
    (ready.project / "verify").mkdir()
    (ready.bin / "gpuhost").write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    (ready.bin / "gpuhost").chmod(0o755)
    assert ready.run("gpuhost", "verify", "verify/test_host.py")[1] == "verify|verify/test_host.py|"


DF = "#!/bin/sh\necho Filesystem; echo '/dev/sda1 10000000 8500000 {free}  85% /a 3 b'\n"


def test_what_would_end_it_halfway_is_told_at_once(bed):
    """A small disk, a clock of the past and a CPU without packages; nothing is made."""
    bed.python()
    bed.script("df", DF.format(free=300000))
    bed.script("date", "#!/bin/sh\ncase $1 in +%Y%m%d) echo 20200101 ;; *) echo 2020-01-01 ;; esac\n")
    bed.script("uname", "#!/bin/sh\necho riscv64\n")
    code, out, err = bed.run("true")
    assert (code, out) == (7, "")
    told = (
        "292 MB are free",
        "400 are needed",
        "df -h",
        "The clock says 2020-01-01",
        "timedatectl set-ntp true",
        "The CPU is riscv64",
    )
    assert [words for words in told if words not in err] == []
    assert bed.calls() == [] and not bed.venv.exists()


def test_first_call_makes_the_environment_and_only_the_command_speaks_on_standard_output(bed):
    bed.python()
    script = 'printf "%s|" "$@"; cat; echo "$VIRTUAL_ENV"; echo "${PATH%%:*}"; pwd; exit 5'
    code, out, err = bed.run("sh", "-c", script, "x", "two words", "*", typed="typed\n")
    assert (code, out) == (5, f"two words|*|typed\n{bed.slot()}\n{bed.slot()}/bin\n{bed.folder}\n")
    assert os.readlink(str(bed.venv)) == ".venvs/main-1"
    assert "making" in err and "ready" in err
    assert bed.calls() == WHOLE


@pytest.mark.parametrize(
    ("typed", "calls"),
    [
        ("ansible-playbook site.yml", WHOLE),
        ("gpuhost plan --gpu detect", WHOLE),
        ("gpuhost detect --help", WHOLE),
        ("gpuhost verify", WHOLE),
        ("pytest verify/", WHOLE),
        ("pytest -x ./verify/test_host.py --hosts=h", WHOLE),
        ("python -m pytest /a/verify", WHOLE),
        ("python", WHOLE),
        ("gpuhost detect photo.jpg", FULL),
        ("gpuhost bench", FULL),
        ("gpuhost devices", FULL),
        ("gpuhost bench compare A B", FULL),
        ("pytest", FULL),
        ("pytest tests/unit -k verify", FULL),
        ("pytest -k verify", FULL),
        ("pytest tests/unit/test_x.py verify", FULL),
        ("python3 -m pytest", FULL),
        ("python -m gpuhost.yolo devices", FULL),
        ("vermin -t=3.6- x", FULL),
    ],
)
def test_a_command_gets_the_packages_that_it_needs(bed, typed, calls):
    """A user's have no engines and nothing of the tests'. It does not matter here that there is no such command."""
    if Path(STACK).exists() and "gpuhost" in typed and calls is FULL:
        pytest.skip(f"a stack is installed here: {STACK} detects")
    bed.python()
    assert bed.run(*typed.split())[0] in (0, 127)
    assert bed.calls() == calls


def test_packages_are_added_when_they_are_asked_for_and_stay(ready):
    """`.venv` then leads to the full set, for a user's commands too, and when it is made again."""
    code, _, err = ready.run("vermin")
    assert code == 127 and "needs more packages than" in err
    assert ready.calls() == FULL and os.readlink(str(ready.venv)) == ".venvs/main-2"
    assert ready.run("true") == (0, "", "")
    ready.renew()
    assert ready.run("true")[0] == 0
    assert ready.calls() == FULL


def test_a_users_packages_outlive_a_failure_to_add_others(ready):
    """Without a network, or with a full disk, verify/ still runs."""
    (ready.folder / "pip-fails").write_text("[Errno -3] Temporary failure in name resolution\n")
    assert ready.run("vermin")[0] == 7
    assert ready.run("true") == (0, "", "") and not ready.slot(2).exists()


def test_all_packages_can_be_asked_for_and_no_others(bed):
    bed.python()
    bed.script("df", DF.format(free=1500000))
    code, _, err = bed.run("true", env={"GPUHOST_SET": "full"})
    assert (code, "1464 MB are free" in err, "2000 are needed" in err) == (7, True, True)
    (bed.bin / "df").unlink()
    assert bed.run("true", env={"GPUHOST_SET": "full"})[0] == 0
    assert bed.calls() == FULL
    assert bed.run("true", env={"GPUHOST_SET": "Full"})[0] == 2
    assert bed.run("true", env={"GPUHOST_SET": "user"}) == (0, "", "")


def test_second_call_asks_nobody(ready):
    assert ready.run("echo", "hi") == (0, "hi\n", "")
    assert ready.calls() == []


@pytest.mark.parametrize("name", ["requirements/pip.txt", "requirements/user-py311.txt"])
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
    for name in ("user-py313", "py311"):
        (ready.project / f"requirements/{name}.txt").write_text("# other\n")
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
        shutil.rmtree(str(ready.slot()))
        ready.slot().mkdir()
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
    assert bed.slot().exists() and not bed.venv.exists()
    bed.calls()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["python3.11 venv", "pip pip.txt", "pip user-py311.txt", "pip a project"])
def test_interrupted_in_each_phase_nothing_half_made_is_left_or_believed(bed, phase, end, locking):
    """Ctrl-C goes to all of the terminal's processes; what pip had made by then is taken away, and that is said."""
    if locking == "mkdir":
        (bed.bin / "flock").unlink()
    stub = bed.python()
    text, gate = stub.read_text(), bed.folder / "halt"
    wait = f"    case $(tail -n 1 \"$bed/calls\") in '{phase}') cat '{gate}' >/dev/null ;; esac\n"
    halted = text.replace('    cp "$0"', wait + '    cp "$0"').replace("    env | grep", wait + "    env | grep")
    stub.write_text(halted)
    os.mkfifo(str(gate))
    process = bed.start("true")
    with open_when_read(gate, process):
        assert bed.slot().exists()
        os.killpg(process.pid, end)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), err
    assert "Interrupted. Nothing half made is left. Type the same command again." in err
    assert not bed.slot().exists() and not bed.venv.exists() and not (bed.project / ".venvs/lock.d").exists()
    stub.write_text(text)
    bed.calls()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
@pytest.mark.parametrize("step", ["-m venv ", "pip.txt", "user-py311.txt", "a project", "after the link"])
def test_killed_anywhere_the_next_call_makes_one_whole_environment(bed, step, locking):
    if locking == "mkdir":
        (bed.bin / "flock").unlink()
    stub = bed.python()
    text = stub.read_text()
    if step == "after the link":
        real = os.path.realpath(str(bed.bin / "ln"))
        bed.script("ln", f'#!/bin/sh\n"{real}" "$@"\nkill -9 0\n')
    else:
        stub.write_text(text.replace('case "$*" in', f'case "$*" in *"{step}"*) kill -9 0 ;; esac\ncase "$*" in', 1))
    assert bed.run("true")[0] == -signal.SIGKILL
    stub.write_text(text)
    bed.calls()
    code, out, err = bed.run("sh", "-c", "echo $VIRTUAL_ENV")
    assert (code, out) == (0, f"{bed.slot()}\n"), err
    assert bed.calls() == ([] if step == "after the link" else WHOLE)
    assert bed.run("true") == (0, "", "")
    assert not bed.slot(2).exists()


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
def test_two_first_calls_at_once_make_one_environment(bed, locking, request):
    if locking == "mkdir":
        (bed.bin / "flock").unlink()
    bed, first, gate = request.getfixturevalue("at_the_gate")
    second = bed.start("echo", "second")
    assert f"another ./run (process {first.pid}) is making an environment here; waiting" in second.stderr.readline()
    gate.close()
    assert second.communicate(timeout=30)[0] == "second\n"
    assert second.returncode == 0
    first.communicate(timeout=30)
    assert first.returncode == 0
    assert bed.calls() == WHOLE
    assert not (bed.project / ".venvs/lock.d").exists()


@pytest.mark.parametrize("locking", ["flock", "mkdir"])
def test_another_set_does_not_wait(bed, locking, request):
    """The linters' environment is made while the main one is: each has its own lock and its own log."""
    if locking == "mkdir":
        (bed.bin / "flock").unlink()
    bed, first, gate = request.getfixturevalue("at_the_gate")
    (bed.folder / "gate").unlink()  # the first one stands in it; the second one is not to
    code, out, err = bed.run("echo", "second", env={"GPUHOST_SET": "lint"})
    assert (code, out) == (0, "second\n") and "waiting" not in err, err
    gate.close()
    first.communicate(timeout=30)
    assert first.returncode == 0
    assert {path.name for path in bed.project.glob(".venv-setup*")} == {".venv-setup.log", ".venv-setup-lint.log"}


def test_folder_lock_of_a_dead_call_is_broken(bed):
    bed.python()
    (bed.bin / "flock").unlink()
    with subprocess.Popen(["true"]) as dead:
        pass
    (bed.project / ".venvs/lock.d").mkdir(parents=True)
    (bed.project / ".venvs/lock.d/pid").write_text(f"{dead.pid}\n")
    assert bed.run("true")[0] == 0
    assert not (bed.project / ".venvs/lock.d").exists()


def test_lock_of_the_making_is_not_passed_on_to_the_command(bed):
    bed.python()
    (bed.bin / "ls").symlink_to(shutil.which("ls"))
    assert bed.run("ls", "/proc/self/fd/9")[0] != 0


@pytest.fixture
def at_work(ready):
    """A ready bed with a command that runs until its input ends, as (bed, process)."""
    process = ready.start("sh", "-c", 'echo begun; cat; cat "$VIRTUAL_ENV/bin/python" >&2 && echo ended')
    assert process.stdout.readline() == "begun\n"
    return ready, process


def test_running_command_keeps_its_files_while_a_pull_brings_others(at_work):
    bed, process = at_work
    bed.renew()
    assert bed.run("sh", "-c", "echo $VIRTUAL_ENV")[:2] == (0, f"{bed.slot(2)}\n")
    assert bed.calls() == WHOLE
    bed.renew()  # and once more: the first is still in use
    assert bed.run("sh", "-c", "echo $VIRTUAL_ENV")[:2] == (0, f"{bed.slot(2)}\n")
    (bed.project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert bed.run("true")[0] == 0
    out, err = process.communicate("", timeout=30)
    assert (process.returncode, out) == (0, "ended\n"), err
    assert bed.run("true") == (0, "", "")  # nobody uses it any more
    assert not bed.slot(1).exists() and bed.slot(2).exists()


def test_running_command_keeps_its_files_when_no_python_is_left_to_make_others(at_work):
    bed, process = at_work
    bed.renew()
    (bed.bin / "python3.11").unlink()
    bed.script("id", "#!/bin/sh\necho 0\n")
    bed.script("apt-get", "#!/bin/sh\necho 'E: Unable to locate package'\nexit 100\n")
    assert bed.run("true")[0] == 7
    assert process.communicate("", timeout=30)[0] == "ended\n"


def test_changed_pyproject_does_not_touch_what_is_in_use(at_work):
    bed, process = at_work
    (bed.project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert bed.run("true")[0] == 0
    assert bed.calls() == [*WHOLE]
    assert os.readlink(str(bed.venv)) == ".venvs/main-2"
    assert process.communicate("", timeout=30)[0] == "ended\n"


def test_command_that_calls_run_again_after_a_pull_does_not_wait_for_itself(ready):
    pins, run = ready.project / "requirements/pip.txt", ready.project / "run"
    script = f"echo '# other' >'{pins}'; '{run}' sh -c 'echo $VIRTUAL_ENV'; echo $VIRTUAL_ENV"
    code, out, err = ready.run("sh", "-c", script)
    assert (code, out) == (0, f"{ready.slot(2)}\n{ready.slot(1)}\n"), err


def test_without_flock_an_old_environment_is_kept_and_that_is_said(at_work):
    bed, process = at_work
    (bed.bin / "flock").unlink()
    bed.renew()
    code, _, err = bed.run("true")
    assert code == 0
    assert "without flock nobody knows who uses the other environments" in err
    assert process.communicate("", timeout=30)[0] == "ended\n"
    assert bed.slot(1).exists() and bed.slot(2).exists()
    assert bed.run("true") == (0, "", "")


def test_environment_of_an_older_release_is_replaced(ready):
    """It was a plain folder."""
    ready.venv.unlink()
    ready.slot().rename(ready.venv)
    assert ready.run("true")[0] == 0
    assert ready.venv.is_symlink() and ready.slot().exists()


def test_pull_while_an_environment_is_made_is_seen_by_the_next_call(at_the_gate):
    """The first pip has read its file already."""
    bed, first, gate = at_the_gate
    bed.renew()
    gate.close()
    assert first.wait(timeout=30) == 0
    bed.calls()
    assert bed.run("true")[0] == 0
    assert bed.calls() == WHOLE


def modes(folder):
    """The permissions of all that is below a folder, links left out."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
    }


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o027])
def test_rights_do_not_depend_on_the_callers_umask(bed, mask):
    bed.python()
    before = os.umask(mask)
    try:
        code, out, err = bed.run("sh", "-c", "umask")
    finally:
        os.umask(before)
    assert (code, int(out, 8)) == (0, mask), err
    found = modes(bed.project / ".venvs")
    assert {found.pop("lock"), found.pop("main-1.lock")} == {0o600}
    for path, mode in found.items():
        assert mode & 0o022 == 0 and mode & 0o044 == 0o044, (path, oct(mode))
    assert modes(bed.project)[".venv-setup.log"] == 0o644


def test_locks_that_were_open_to_others_are_closed(bed):
    bed.python()
    (bed.project / ".venvs").mkdir()
    for name in ("lock", "main-1.lock"):
        (bed.project / ".venvs" / name).write_text("")
        (bed.project / ".venvs" / name).chmod(0o666)
    assert bed.run("true")[0] == 0
    found = modes(bed.project / ".venvs")
    assert (found["lock"], found["main-1.lock"]) == (0o600, 0o600)


def test_unknown_holder_of_the_lock_is_waited_for(bed):
    bed.python()
    (bed.project / ".venvs").mkdir()
    with (bed.project / ".venvs/lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = bed.start("true")
        assert "another ./run (process unknown) is making" in process.stderr.readline()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_settings_of_other_pythons_do_not_reach_pip_but_where_to_fetch_from_does(bed):
    bed.python()
    elsewhere = {
        "PIP_TARGET": "/elsewhere", "PIP_PREFIX": "/elsewhere", "PIP_ROOT": "/elsewhere", "PIP_PYTHON": "/bin/false",
        "PIP_DRY_RUN": "1", "PIP_REQUIREMENT": "more.txt", "PIP_CONSTRAINT": "c.txt", "PIP_NO_BINARY": ":all:",
        "PIP_USER": "1", "pip_target": "/elsewhere", "PIP_Target": "/elsewhere", "PYTHONPATH": "/elsewhere",
        "PYTHONSTARTUP": "x.py", "PYTHONHOME": "/elsewhere", "PYTHONWARNINGS": "error",
    }  # fmt: skip
    own = {
        "PIP_INDEX_URL": "https://mirror/simple", "PIP_CERT": "/ca.pem", "PIP_PROXY": "http://proxy:1",
        "PIP_FIND_LINKS": "/wheels", "PIP_CONFIG_FILE": "/etc/own.conf",
    }  # fmt: skip
    script = 'echo "${PYTHONPATH-none} ${PYTHONHOME-none} $PYTHONSTARTUP $PIP_TARGET"'
    code, out, err = bed.run("sh", "-c", script, env={**elsewhere, **own})
    assert (code, out) == (0, "none none x.py /elsewhere\n"), err
    seen = set((bed.folder / "settings").read_text().splitlines())
    assert seen == {"PIP_USER=0"} | {f"{name}={value}" for name, value in own.items()}


@pytest.mark.parametrize("scratch", ["/no/such/folder", "/proc"])
def test_scratch_space_is_beside_the_environment(bed, scratch):
    """So a TMPDIR that is full, not there or mounted noexec does not matter."""
    bed.python()
    code, out, err = bed.run("sh", "-c", 'echo "$TMPDIR"', env={"TMPDIR": scratch})
    assert (code, out) == (0, f"{scratch}\n"), err
    used = str(bed.slot() / "tmp")
    assert set((bed.folder / "places").read_text().splitlines()) == {f"{used} {bed.project}"}
    assert not (bed.slot() / "tmp").exists()


def mounted(bed, mounts, *arguments):
    """(exit code, output, errors) of ./run in a mount namespace of its own, in which `mounts` was run first."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "x", "/mnt"], check=False).returncode:
        pytest.skip("this machine lets nobody mount in a namespace of his own")
    script = f'set -e; cd "$1"; {mounts}; shift; PATH="$0"; exec ./run "$@"'
    done = subprocess.run(
        [unshare, "-rm", "sh", "-c", script, str(bed.bin), str(bed.project), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(bed.folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


READ_ONLY = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD"'


def test_read_only_checkout_says_what_to_do(bed):
    bed.python()
    code, out, err = mounted(bed, READ_ONLY, "true")
    assert (code, out) == (7, "")
    assert "is not writable" in err and "clone it elsewhere" in err and err.count("\n") == 1


def test_ready_environment_in_a_read_only_checkout_works(ready):
    ready.slot(2).mkdir()  # something that would be tidied up
    assert mounted(ready, READ_ONLY, "echo", "hi") == (0, "hi\n", "")
    (ready.project / "requirements/pip.txt").write_text("# other\n")
    assert mounted(ready, READ_ONLY, "echo", "hi")[0] == 7


@pytest.mark.parametrize("log", ["elsewhere", "on the full disk"])
@pytest.mark.parametrize(
    ("room", "greedy", "told"),
    [
        (40, "", "The virtual environment could not be made."),
        (100, "", "The pinned pip could not be installed."),
        (160, "", "The packages that requirements/user-py311.txt pins could not be installed."),
        (220, "", "gpuhost itself could not be installed."),
        (320, "project", "The environment could not be finished."),
        (320, "", ""),
    ],
)
def test_full_disk_in_each_phase_is_named_and_leaves_nothing(bed, room, greedy, told, log):
    """A disk of `room` kilobytes, of which each step takes 60; `greedy` takes all and calls it success."""
    bed.python()
    stub = bed.bin / "python3.11"
    text = stub.read_text().replace(
        '    cp "$0" "$last/bin/python" ;;',
        '    cp "$0" "$last/bin/python"\n    dd if=/dev/zero of="$last/fill" bs=1024 count=60 2>&1 || exit 1 ;;',
    )
    fill = 'dd if=/dev/zero of="${0%/bin/python}/fill-${last##*/}" bs=1024 count=60 2>&1 || exit 1\n    '
    if greedy:
        fill += f'case "$last" in *{greedy}) dd if=/dev/zero of="${{0%/bin/python}}/all" bs=64 2>&1 ;; esac\n    '
    stub.write_text(text.replace("if [ -p", fill + "if [ -p"))
    if log == "on the full disk":
        (bed.project / ".venv-setup.log").symlink_to(".venvs/log.txt")
    code, out, err = mounted(bed, f"mkdir .venvs && mount -t tmpfs -o size={room}k x .venvs", "true")
    if not told:
        assert code == 0, err
        return
    assert (code, out) == (7, ""), err
    assert f"{told} The disk is full. Free about 1 GB in" in err and "type the same command again" in err
    assert not bed.venv.exists()


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


@pytest.mark.parametrize("verbose", ["", "1"])
def test_what_a_mirror_says_cannot_steer_the_terminal(bed, verbose):
    bed.python()
    hostile = "ERROR: HTTP error 404 \x1b[2J\x1b]0;title\x07\x9b31m\r\x08run: .venv is ready"
    (bed.folder / "pip-fails").write_text(hostile + "\n", encoding="latin-1")
    code, out, err = bed.run("true", env={"GPUHOST_VERBOSE": verbose})
    assert (code, out) == (7, "")
    assert "ERROR: HTTP error 404 [2J]0;title31mrun: .venv is ready" in err
    assert [char for char in err if not (char.isprintable() or char == "\n")] == []
    assert "\x1b[2J" in (bed.project / ".venv-setup.log").read_text(encoding="latin-1")


def test_unknown_command(ready):
    code, _, err = ready.run("no-such-command")
    assert code == 127
    assert "There is no command no-such-command" in err


def test_missing_requirements_file(bed):
    bed.python("python3.12", "3.12")
    code, _, err = bed.run("true")
    assert code == 7
    assert "requirements/user-py312.txt is missing" in err


@pytest.mark.parametrize("name", ["lint", "service"])
def test_linters_and_the_service_have_environments_of_their_own(ready, name):
    assert ready.run("true", env={"GPUHOST_SET": name})[0] == 0
    assert ready.calls() == ["python3.11 venv", "pip pip.txt", f"pip {name}.txt"]
    assert (ready.project / f".venv-{name}").exists()
    assert ready.run("true") == (0, "", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written(bed):
    bed.python()
    bed.project.chmod(0o555)
    code, _, err = bed.run("true")
    bed.project.chmod(0o755)
    assert code == 7
    assert "is not writable" in err
