"""A bare Debian host becomes a provisioned one, and stays told apart from one that is not in order.

One bed serves the tests of a class in the order they stand: provisioning takes minutes, and what follows needs exactly
the host that the README's commands leave.
"""

from __future__ import annotations

import json
import re
from typing import Iterator, List, Sequence, Tuple

import pytest

from . import healed
from .beds import Bed
from .beds.bed import CLONE, PROJECT
from .beds.settings import CODENAME
from .readme import start_commands
from .walk import timed

#: How long a command that hangs is waited for. No test is about time, and a loaded machine is not a failure.
COMMAND_SECONDS = 3600
PLAYBOOK = ["./run", "ansible-playbook", "site.yml"]
VERIFY = ["./run", "pytest", "verify/", "--no-benchmark"]
ENGINES = {"cpu", "onnxruntime", "openvino"}
SOURCES = "/etc/apt/sources.list.d/debian.sources"
CLOUD = PROJECT / "tests/field/kind-03-debian-cloud-mirror-file/debian.sources"
LOCK = f"{CLONE}/locks/localhost/stack.json"
#: Is there when a run that is to be cut has come to its end.
ENDED = "/root/cut.ended"
#: Adds a note to a lock: a change that its schema allows.
EDIT = (
    "import json, sys; lock = json.load(open(sys.argv[1]));"
    "lock['gpuhost_lock']['plan']['notes'].append({'about': 'driver', 'unverified': False, 'text': 'edited'});"
    "json.dump(lock, open(sys.argv[1], 'w'))"
)


#: Starts a command as a terminal does, presses Ctrl-C as soon as a shell's test holds, and ends as the command does.
CTRL_C = """
import os, signal, subprocess, sys, time
moment, log, *command = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)
with open(log, "wb") as out:
    run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
while run.poll() is None and subprocess.call(["sh", "-c", moment]):
    time.sleep(0.05)
if run.poll() is None:
    os.killpg(run.pid, signal.SIGINT)
sys.exit(run.wait())
"""


def said(environment: str, step: str) -> str:
    """The shell's test for an environment being at a step."""
    return f"grep -qs '{step}' /opt/gpuhost/log/{environment}-*.progress"


DL4CV = "/opt/gpuhost/current/venvs/dl4cv/bin/python"
#: What a person can do to a host, by the check that then fails; its remedy is typed as it is printed.
BROKEN = {
    "host.dpkg": "cd /root && apt-get -qq download hello && dpkg --unpack hello_*.deb",
    "lock.rights": "chmod o+w /opt/gpuhost/store && chown daemon /opt/gpuhost/cache",
    "tensorflow.packages": (
        f"{DL4CV} -m pip install --quiet --no-deps \"wrapt<$({DL4CV} -c 'import wrapt; print(wrapt.__version__)')\""
    ),
}
#: Moments of an installation, as the shell's tests that hold from then on.
MOMENTS = (
    said("opencv_cuda", "making the environment"),
    said("opencv_cuda", "installing 2 packages"),
    said("dl4cv", "making the environment"),
    said("dl4cv", "installing 3"),
    said("dl4cv", "checking"),
    "test -e /opt/gpuhost/store/yolo-*",
    "test -e /opt/gpuhost/generations/1",
)
#: One in each kind of work, where all would take five minutes: an environment half filled, one whole, the switch.
FEW = (MOMENTS[3], MOMENTS[6])
#: The shell's test for the benchmark being under way, which does not find itself.
MEASURING = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q '[g]puhost.yolo.* bench '"
#: When each phase of site.yml has begun.
PHASES = {
    "plan": f"test -e {LOCK}",
    "opencv": said("opencv_cuda", "making the environment"),
    "tensorflow": "grep -qs 's  dl4cv: installing 3' /root/cut.log",  # told while it goes on
    "detector": "test -e /opt/gpuhost/store/yolo-*",
    "generation": "test -e /opt/gpuhost/generations/1",
    "verify": MEASURING,
}


def recap(output: str) -> Tuple[int, int]:
    """The figures `changed` and `failed` of Ansible's last line about localhost."""
    found = re.findall(r"^localhost\s*:.*changed=(\d+).*failed=(\d+)", output, re.MULTILINE)
    assert found, output[-2000:]
    return int(found[-1][0]), int(found[-1][1])


def failed_checks(bed: Bed) -> List[str]:
    """The ids of the checks that `pytest verify/` fails now."""
    done = bed.run(VERIFY, cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
    report = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))
    failed = [check["id"] for check in report["checks"] if check["status"] == "fail"]
    assert (done.returncode == 0) == (not failed), done.stdout[-3000:]
    return failed


def remedy(bed: Bed, check: str) -> str:
    """What the last report says against a failed check."""
    rows = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))["checks"]
    return next(str(row["remediation"]) for row in rows if row["id"] == check)


def as_in_the_cloud(bed: Bed) -> None:
    """Give apt the sources of Debian's cloud images, with the mirrors of its own sources in files."""
    own = re.findall(r"^URIs: (.*)\nSuites: (\S+)", bed.read(SOURCES), re.MULTILINE)
    mirrors = {"debian-security" if suite.endswith("security") else "debian": uris.split() for uris, suite in own}
    for name, uris in mirrors.items():
        write = 'mkdir -p /etc/apt/mirrors && printf "%s\\n" "$@" > "/etc/apt/mirrors/$0.list"'
        bed.run(["sh", "-c", write, name, *uris])
    bed.push(CLOUD, SOURCES)
    bed.run(["sed", "-i", f"s/{CODENAME}/{bed.codename}/g", SOURCES])


@pytest.fixture(scope="module", params=[CODENAME, pytest.param("trixie", marks=pytest.mark.full)])
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A bare Debian 12, and in the full form a bare 13, with the sources of a cloud image and a fresh clone."""
    with Bed.fresh(logs=tmp_path_factory.mktemp("site"), codename=request.param) as made:
        as_in_the_cloud(made)
        made.clone_project()
        yield made


class TestBareHost:
    """The README's first commands, and what holds after them."""

    def test_a_dry_run_changes_nothing(self, bed: Bed) -> None:
        """`--check --diff` works on a host where nothing is installed yet, and leaves it as it is."""
        with timed(bed.codename, "./run true"):  # the controller's own environment
            bed.run(["./run", "true"], cwd=CLONE, timeout=COMMAND_SECONDS)
        before = bed.snapshot(["/etc", "/usr", "/opt", "/var/lib/dpkg"])
        done = bed.run([*PLAYBOOK, "--check", "--diff"], cwd=CLONE, timeout=COMMAND_SECONDS)
        changed, failed = recap(done.stdout)
        assert changed > 0 and failed == 0
        # What apt would install, and the room that it all takes.
        assert re.search(r"^\+libgl1 1\.", done.stdout, re.MULTILINE), done.stdout[-4000:]
        assert re.search(r"Room while it is installed: .*/opt/gpuhost.*: at most [1-9]", done.stdout)
        assert before.changes_to(bed.snapshot(["/etc", "/usr", "/opt", "/var/lib/dpkg"])) == []
        assert bed.run(["test", "-e", LOCK], check=False).returncode != 0

    def test_the_readmes_first_commands(self, bed: Bed) -> None:
        """Each line of the block exits with 0, in order, on a machine with nothing but apt and git."""
        for command in start_commands((PROJECT / "README.md").read_text()):
            with timed(bed.codename, command):
                done = bed.run(["sh", "-c", command], cwd=CLONE, timeout=COMMAND_SECONDS)
            if "ansible-playbook" in command:
                assert re.search(r"\[INFO\] [0-9]+ photos in .* yolov3 at 416 on cpu", done.stdout)
                assert "report.html" in done.stdout
        checks = json.loads(bed.read(f"{CLONE}/reports/localhost/report.json"))["checks"]
        measured = [check["actual"] for check in checks if check["id"].startswith("benchmark.")]
        # site.yml has measured, so that verify/ by itself does not.
        assert len(measured) == 2 and all("in this generation" in actual for actual in measured)

    def test_the_second_run_changes_nothing(self, bed: Bed) -> None:
        """The same command again: changed=0."""
        with timed(bed.codename, "the second run, without verify/"):
            done = bed.run([*PLAYBOOK, "--skip-tags", "verify"], cwd=CLONE, timeout=COMMAND_SECONDS)
        assert recap(done.stdout) == (0, 0)

    def test_verify_is_green_and_changes_nothing(self, bed: Bed) -> None:
        """A host as it was provisioned passes, and verify/ leaves no trace on it."""
        before = bed.snapshot(["/etc", "/opt", "/usr", "/var/lib/dpkg"])
        assert failed_checks(bed) == []
        assert before.changes_to(bed.snapshot(["/etc", "/opt", "/usr", "/var/lib/dpkg"])) == []

    @pytest.mark.full
    def test_require_gpu_is_red(self, bed: Bed) -> None:
        """Where a GPU was asked for, its absence is a failure."""
        done = bed.run([*VERIFY, "--require-gpu"], cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
        assert done.returncode == 1 and "gpu.present" in done.stdout

    @pytest.mark.full
    def test_a_downgraded_package(self, bed: Bed) -> None:
        """A package of an environment that is not the locked one: that check, and no other."""
        python = "/opt/gpuhost/current/venvs/dl4cv/bin/python"
        locked = bed.run([python, "-c", "import wrapt; print(wrapt.__version__)"]).stdout.strip()
        bed.run([python, "-m", "pip", "install", "--quiet", "--no-deps", f"wrapt<{locked}"], timeout=COMMAND_SECONDS)
        assert failed_checks(bed) == ["tensorflow.packages"]
        wheels = "/opt/gpuhost/cache/wheels"
        back = ["install", "--quiet", "--no-deps", "--no-index", "--find-links", wheels, f"wrapt=={locked}"]
        bed.run([python, "-m", "pip", *back], timeout=COMMAND_SECONDS)
        assert failed_checks(bed) == []

    @pytest.mark.full
    def test_an_edited_lock(self, bed: Bed) -> None:
        """A lock that is not what the host carries out: that check, and no other."""
        bed.run(["cp", LOCK, "/root/lock"])
        bed.run(["python3", "-c", EDIT, LOCK])
        assert failed_checks(bed) == ["lock.generation"]
        bed.run(["cp", "/root/lock", LOCK])
        assert failed_checks(bed) == []

    @pytest.mark.full
    def test_a_foreign_apt_source(self, bed: Bed) -> None:
        """A source of another release: that check, and no other; and site.yml refuses before it changes anything."""
        file = "/etc/apt/sources.list.d/foreign.list"
        bed.run(["sh", "-c", f"echo 'deb http://192.0.2.1/ubuntu focal main' > {file}"])
        assert failed_checks(bed) == ["host.sources-release"]
        refused = bed.run([*PLAYBOOK, "--skip-tags", "verify"], cwd=CLONE, check=False, timeout=COMMAND_SECONDS)
        assert refused.returncode != 0 and "focal" in refused.stdout and f"rm {file}" in refused.stdout
        assert recap(refused.stdout)[0] == 0
        bed.run(["rm", file])
        assert failed_checks(bed) == []

    @pytest.mark.full
    @pytest.mark.parametrize("check", BROKEN)
    def test_a_remedy_is_typed_as_printed(self, bed: Bed, check: str) -> None:
        """On the host, and then in the project's folder: the check is green again, and so is all else."""
        bed.run(["sh", "-c", BROKEN[check]], timeout=COMMAND_SECONDS)
        assert failed_checks(bed) == [check]
        on_host, here = healed.places(remedy(bed, check))
        bed.run(["sh", "-c", healed.answered(on_host)], cwd="/", timeout=COMMAND_SECONDS)
        if here:
            bed.run(["sh", "-c", here], cwd=CLONE, timeout=COMMAND_SECONDS)
        assert failed_checks(bed) == []

    @pytest.mark.full
    @pytest.mark.parametrize("moments", [pytest.param(FEW, id="few"), pytest.param(MOMENTS, id="all")])
    def test_a_power_cut(self, bed: Bed, moments: Sequence[str]) -> None:
        """SIGKILL of everything in the host, at moments of an installation in turn; the next run finishes it."""
        bed.run(["rm", "-rf", "/opt/gpuhost/store", "/opt/gpuhost/generations", "/opt/gpuhost/current"])
        for moment in moments:
            cut_at(bed, moment)
        done = bed.run([*PLAYBOOK, "--skip-tags", "verify"], cwd=CLONE, timeout=COMMAND_SECONDS)
        assert recap(done.stdout)[1] == 0
        assert failed_checks(bed) == []
        assert recap(bed.run([*PLAYBOOK, "--skip-tags", "verify"], cwd=CLONE, timeout=COMMAND_SECONDS).stdout) == (0, 0)

    @pytest.mark.full
    def test_ctrl_c(self, bed: Bed) -> None:
        """In each phase: what is left to do is said, with no traceback; no benchmark runs on; the next run goes on."""
        bed.run(["rm", "-rf", LOCK, *(f"/opt/gpuhost/{name}" for name in ("store", "generations", "current"))])
        for phase, moment in PHASES.items():
            bed.run(["sh", "-c", "rm -f /opt/gpuhost/log/*.progress"])
            run = ["python3", "-c", CTRL_C, moment, "/root/cut.log", *PLAYBOOK, "-e", "verify_benchmark=again"]
            code = bed.run(run, cwd=CLONE, check=False, timeout=COMMAND_SECONDS).returncode
            told = " ".join(bed.read("/root/cut.log").split())
            assert code == 130, (phase, told[-2000:])
            assert "Interrupted. Nothing more is begun." in told and "Traceback" not in told, (phase, told[-2000:])
            ends = f"for _ in $(seq 600); do {MEASURING} || exit 0; sleep 0.1; done; exit 1"
            assert bed.run(["sh", "-c", ends], check=False).returncode == 0, phase
        done = bed.run([*PLAYBOOK, "--skip-tags", "verify"], cwd=CLONE, timeout=COMMAND_SECONDS)
        assert recap(done.stdout)[1] == 0
        assert failed_checks(bed) == []

    @pytest.mark.full
    def test_the_engines(self, bed: Bed) -> None:
        """ONNX Runtime and OpenVINO through Ansible, on a bare host too: both are offered, and `auto` measures."""
        playbook = ["./run", "ansible-playbook", "playbooks/opencv.yml", "-e", "opencv_engines=true"]
        changed, failed = recap(bed.run(playbook, cwd=CLONE, timeout=COMMAND_SECONDS).stdout)
        assert changed > 0 and failed == 0
        assert recap(bed.run(playbook, cwd=CLONE, timeout=COMMAND_SECONDS).stdout) == (0, 0)
        devices = ["/opt/gpuhost/current/venvs/opencv_cuda/bin/python", "-B", "-m", "gpuhost.yolo", "devices", "--json"]
        rows = json.loads(bed.run(devices, env={"PYTHONPATH": f"{CLONE}/src"}, timeout=COMMAND_SECONDS).stdout)[
            "devices"
        ]
        assert {row["name"] for row in rows if row["available"]} == ENGINES
        bench = ["./run", "gpuhost", "bench", "--device", "auto", "--model", "yolov4-tiny", "--size", "64"]
        bed.run([*bench, "--count", "4", "--json", "/root/bench.json"], cwd=CLONE, timeout=COMMAND_SECONDS)
        entry = json.loads(bed.read("/root/bench.json"))["models"][0]
        assert entry["complete"] and entry["device"] in ENGINES
        assert {line["device"] for line in entry["trials"] if line["median_s"] is not None} == ENGINES


def cut_at(bed: Bed, moment: str) -> None:
    """Start the playbook in the bed, kill the whole machine as soon as the shell's test `moment` holds, and boot it.

    A run that ends before the moment came is a failure at once; while it lives, it is waited for. Whatever happens,
    nothing of it is left for the next test.
    """
    run = f"{' '.join(PLAYBOOK)} --skip-tags verify > /root/cut.log 2>&1; touch {ENDED}"
    bed.run(["sh", "-c", f"rm -f /opt/gpuhost/log/*.progress {ENDED}; setsid sh -c '{run}' &"], cwd=CLONE)
    # Looked at once more after the end, since the last moment may come just before that.
    wait = f"until {moment}; do test ! -e {ENDED} || {{ {moment}; exit; }}; sleep 0.05; done"
    try:
        held = bed.run(["sh", "-c", wait], check=False, timeout=COMMAND_SECONDS).returncode == 0
    finally:
        bed.kill()
        bed.boot()
    assert held, f"the run ended, and '{moment}' never held: {bed.read('/root/cut.log')[-2000:]}"
