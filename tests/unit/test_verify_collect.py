"""What travels to a host and what comes back: the bundle under old and new Pythons, crashes told by name."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.checks import cuda as checks_cuda
from gpuhost.diagnoses import verdict
from gpuhost.host import store
from gpuhost.host.answer import MARK, read_answers
from gpuhost.host.commands import run_command
from gpuhost.host.edges import Edges
from gpuhost.host.probe import environment as probe_environment
from gpuhost.host.probe import installed as probe_installed
from gpuhost.host.probe.machine import observe
from gpuhost.report import report
from gpuhost.report.benchmark import rows
from gpuhost.shipping import bundle
from gpuhost.verification import collect as checks_collect
from gpuhost.verification.collect import Host, Options

from ..locks import save
from ..old_python import old_python
from .collected import bench_report, cpu_host, cuda_answer, gpu_host

Json = Dict[str, Any]
VOLATILE = ("disk", "memory_mib")


def shell(command: str) -> Tuple[int, str, str]:
    """Run a shell command as testinfra's local backend does."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def observed_by(python: str, root: Path) -> Json:
    """What the sent program says of this machine."""
    code, out, err = shell(bundle.command(python, "host.probe.installed", {"root": str(root)}))
    assert code == 0, err
    (answer,) = read_answers(out)
    return answer


def steady(observation: Json) -> Json:
    """An observation without what changes from one second to the next."""
    return {name: value for name, value in observation.items() if name not in VOLATILE}


@pytest.mark.skipif(not Path("/sys/bus/pci/devices").is_dir(), reason="this machine shows no PCI devices in sysfs")
@pytest.mark.parametrize("which", ["this", "old"])
def test_the_sent_program_observes_as_the_package_does(which: str, tmp_path: Path) -> None:
    """Under the Python that runs the tests and under 3.6; nothing of gpuhost is on the path there."""
    python = sys.executable if which == "this" else old_python()
    answer = observed_by(python, tmp_path)
    assert steady(answer["observation"]) == steady(json.loads(json.dumps(observe())))
    assert answer["installed"]["generation"] is None
    assert list(tmp_path.iterdir()) == []


def test_the_sent_program_is_short_enough_for_one_argument() -> None:
    """Twice quoted, as a remote shell and sudo need it, it stays below the kernel's 128 KiB."""
    for entry, arguments in (
        ("host.probe.installed", {"root": "/opt/it's"}),
        ("host.probe.environment", {"kind": "opencv"}),
    ):
        command = bundle.command("python3", entry, arguments)
        assert len(shlex.quote(shlex.quote(command))) < 128 * 1024


def test_a_program_that_has_grown_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell would only say "Argument list too long"."""
    monkeypatch.setattr(bundle, "LARGEST", 100)
    with pytest.raises(ValueError, match="one argument takes"):
        bundle.command("python3", "host.probe.installed")


def test_answers_are_found_between_other_output() -> None:
    """A login banner, a cut line and foreign JSON are passed over."""
    output = 'Welcome!\n{"a": 1}\ngpuhost-answer: {"b": 2}\ngpuhost-answer: {"c"\ngpuhost-answer: [3]\n'
    assert read_answers(output) == [{"b": 2}]


FAKE_CV2 = """
import os, sys
os.write(1, b"a library that talks on standard output, and does not end its line")
__version__ = "9.9"
INTER_LINEAR = 1
def GaussianBlur(picture, size, sigma):
    from gpuhost.host.probe import environment as probe
    {effect}
    return probe.blurred(picture, size[0], sigma)
def resize(picture, size, fx, fy, interpolation):
    return (picture[0::2, 0::2] + picture[1::2, 0::2] + picture[0::2, 1::2] + picture[1::2, 1::2]) / 4
def getBuildInformation():
    return "General\\n  NVIDIA CUDA:   YES (ver 11.8)\\n  cuDNN:    YES\\n"
"""


def environment_with(tmp_path: Path, effect: str) -> Json:
    """What an environment says whose cv2 is a stand-in with this effect."""
    folder = tmp_path / "current" / "venvs" / "opencv_cuda" / "bin"
    folder.mkdir(parents=True)
    (tmp_path / "cv2.py").write_text(FAKE_CV2.replace("{effect}", effect), encoding="utf-8")
    wrapper = folder / "python"
    # -I would hide the stand-in, so this Python puts its folder back before the program runs.
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); exec(sys.argv[1])"
    wrapper.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} -B -c {shlex.quote(start)} "$1"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    return checks_collect.environment(shell, str(tmp_path), "opencv_cuda")


def test_an_environment_tells_packages_and_what_it_computed(tmp_path: Path) -> None:
    """The reference arithmetic agrees with itself, and a talking library does not spoil the answer."""
    found = environment_with(tmp_path, "pass")
    assert found["computed"]["blur_error"] == 0.0
    assert found["computed"]["halve_error"] == 0.0
    assert found["computed"]["build"] == ["NVIDIA CUDA:   YES (ver 11.8)", "cuDNN:    YES"]
    assert found["packages"]["numpy"]
    assert "error" not in found


@pytest.mark.parametrize(
    ("effect", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("raise OSError('libGL.so.1: cannot open shared object file')", "libGL.so.1"),
        ("sys.exit(3)", "status 3"),
        ("return picture * float('nan')", None),
    ],
)
def test_a_crash_is_a_named_result(tmp_path: Path, effect: str, told: str | None) -> None:
    """By its signal, its own words or its status; the packages are known all the same. A wrong number is no
    crash.
    """
    found = environment_with(tmp_path, effect)
    assert found["packages"]["numpy"]
    if told is None:
        assert found["computed"]["blur_error"] == 1e300
    else:
        assert "computed" not in found
        assert told in found["error"]


def test_the_reference_blur_is_opencvs() -> None:
    """The arithmetic that OpenCV is checked against, checked against OpenCV."""
    import cv2

    picture = probe_environment.made_picture()
    theirs = cv2.GaussianBlur(picture, (5, 5), 1.2)
    assert probe_environment.farthest(theirs, probe_environment.blurred(picture, 5, 1.2)) < 1e-3
    wrong = cv2.GaussianBlur(picture, (5, 5), 1.3)
    assert probe_environment.farthest(wrong, probe_environment.blurred(picture, 5, 1.2)) > 1.0


def test_the_reference_convolution_by_hand() -> None:
    """One image, two kernels, no padding: numbers that can be counted."""
    import numpy as np

    image = np.arange(16.0).reshape(1, 4, 4, 1)
    kernel = np.zeros((3, 3, 1, 2))
    kernel[0, 1, 0, 0], kernel[2, 2, 0, 1] = 1.0, 2.0
    found = probe_environment.convolved(image, kernel)
    assert found[0, :, :, 0].tolist() == [[1, 2], [5, 6]]
    assert found[0, :, :, 1].tolist() == [[20, 22], [28, 30]]


def test_the_store_is_read_back(tmp_path: Path) -> None:
    """A generation made by the store, with a toolkit and cuDNN in it."""
    for name in ("cuda-11.8", "cudnn-8.6", "yolo-1"):
        (tmp_path / "store" / name / "include").mkdir(parents=True)
    (tmp_path / "store/cuda-11.8/version.json").write_text('{"cuda": {"version": "11.8.0"}}', encoding="utf-8")
    header = "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 6\n#define CUDNN_PATCHLEVEL 0\n"
    (tmp_path / "store/cudnn-8.6/include/cudnn_version.h").write_text(header, encoding="utf-8")
    (tmp_path / "store/cuda-11.8/bin").mkdir()
    (tmp_path / "store/cuda-11.8/bin/nvcc").touch()
    for name in ("cuda-11.8", "cudnn-8.6", "yolo-1"):
        store.seal(tmp_path / "store" / name, {"digest": name})
    links = {"cuda": "store/cuda-11.8", "cudnn": "store/cudnn-8.6", "yolo": "store/yolo-1"}
    store.switch(tmp_path, {"a": 1}, links)
    (tmp_path / "store/yolo-1" / store.MARKER).unlink()
    said = (0, "Cuda compilation tools, release 11.8, V11.8", "")
    found = probe_installed.installed(Edges("/", lambda argv, limit: said), str(tmp_path))
    assert (found["cuda"], found["nvcc"], found["cudnn"]) == ("11.8.0", "11.8", "8.6.0")
    assert (found["generation"], found["stack"]) == (1, {"a": 1})
    assert found["links"]["yolo"] == {"target": "store/yolo-1", "digest": None}
    assert found["links"]["cuda"]["digest"] == "cuda-11.8"


@pytest.mark.parametrize(("content", "version"), [("CUDA Version 10.0.130\n", "10.0.130"), ("odd", None)])
def test_an_old_toolkits_version(tmp_path: Path, content: str, version: str | None) -> None:
    """Before 11.1 it is one line of text."""
    (tmp_path / "version.txt").write_text(content, encoding="utf-8")
    assert probe_installed.toolkit_version(Edges(str(tmp_path), run_command), "/") == version


class FakeHost:
    """Answers verify/'s commands from what a healthy host gave, and counts them."""

    def __init__(self, seen: Json) -> None:
        """Keep the healthy host."""
        self.seen = seen
        self.asked: List[str] = []

    def __call__(self, command: str) -> Tuple[int, str, str]:
        """The answer to a command, told by what runs in it."""
        if "gpuhost.yolo bench" in command:
            model = command.split("--model ")[1].split()[0]
            self.asked.append(model)
            return 0, json.dumps(bench_report(model, "cpu")), ""
        for name in ("opencv_cuda", "dl4cv"):
            if f"venvs/{name}/" in command:
                self.asked.append(name)
                return 0, MARK + json.dumps(self.seen["environments"][name]), ""
        if command == bundle.command("python3", "host.probe.cuda", {}, checks_collect.PROBE_LIMIT_S):
            self.asked.append("cuda")
            return 0, MARK + json.dumps(cuda_answer(self.seen["machine"]["observation"])), ""
        self.asked.append("machine")
        return 0, MARK + json.dumps(self.seen["machine"]), ""


def verified(tmp_path: Path, run: Any, **options: Any) -> Host:
    """A host whose lock stands in a file."""
    lock = tmp_path / "stack.json"
    save(lock, cpu_host()["lock"])
    return Host("box", run, lock, Options(**options))


def test_everything_is_asked_of_a_host_once(tmp_path: Path) -> None:
    """One call for the machine, one an environment, one a model; a repeated question asks nothing."""
    fake, said = FakeHost(cpu_host()), []  # type: ignore[var-annotated]
    host = verified(tmp_path, fake)
    for _ in range(2):
        for name in (
            "benchmark.yolov3",
            "tensorflow.gpu",
            "tensorflow.computes",
            "host.dpkg",
            "benchmark.yolov4-tiny",
        ):
            host.result(name, said.append)
    assert sorted(fake.asked) == ["dl4cv", "machine", "opencv_cuda", "yolov3", "yolov4-tiny"]
    assert len(said) == 5
    assert {r.status for r in host.results.values()} == {"pass", "skip"}


def without_lock(tmp_path: Path, place: str, value: Any) -> Tuple[Host, FakeHost]:
    """A host with a card, a driver and no lock, with one thing that is otherwise."""
    seen = gpu_host()
    seen["machine"]["installed"].update(generation=None, stack=None, links={}, cuda=None, nvcc=None, cudnn=None)
    seen["machine"]["installed"]["driver"]["record"] = seen["machine"]["installed"]["guard"]["record"] = None
    part, _, key = place.partition("/")
    {**seen["machine"], **seen["machine"]["installed"]}[part][key] = value
    fake = FakeHost(seen)
    host = Host("box", fake, tmp_path / "stack.json", Options())
    for check in verdict.CHECKS:
        host.result(check.id, lambda _: None)
    return host, fake


#: What is said of a host without a lock, by subject.
SAID_WITHOUT = ("host", "gpu", "kernel", "driver")


def test_without_a_lock_a_host_with_a_card_is_judged_as_found(tmp_path: Path) -> None:
    """Sources, driver, kernel, nouveau and Secure Boot; what only a lock can say says so, and is not collected."""
    host, fake = without_lock(tmp_path, "observation/secure_boot", "enabled")
    results = host.results
    assert [name for name, found in results.items() if found.status == "fail"] == ["lock.present"]
    assert results["lock.present"].remediation == "./run ansible-playbook site.yml"
    passed = {name for name, found in results.items() if found.status == "pass"}
    assert {"host.sources-foreign", "driver.module", "driver.signed", "driver.nouveau", "driver.cards"} <= passed
    assert {check.id for check in checks_cuda.CHECKS} <= passed
    rest = {name: found.actual for name, found in results.items() if name.partition(".")[0] not in SAID_WITHOUT}
    rest = {name: actual for name, actual in rest.items() if verdict.BY_ID[name].part != checks_cuda.PART}
    del rest["lock.present"]
    guard = {rest.pop(name) for name in list(rest) if name.startswith("guard.")}
    assert (guard, set(rest.values())) == (
        {"gpuhost has not installed this driver"},
        {"only a lock says what it should be"},
    )
    assert fake.asked == ["machine", "cuda"]
    assert report.make(host)["verdict"] == "not provisioned"


def test_a_fault_of_a_host_without_a_lock_is_named(tmp_path: Path) -> None:
    """With what fixes it on a host that gpuhost has not provisioned."""
    module = {**gpu_host()["machine"]["installed"]["driver"]["module"], "version": "525.85.12"}
    host, _ = without_lock(tmp_path, "driver/module", module)
    failed = [found for found in host.results.values() if found.status == "fail"]
    assert [(found.id, found.diagnosis) for found in failed] == [("lock.present", None), ("driver.module", "D08")]
    assert "./run" not in failed[1].remediation


def test_without_a_lock_and_a_card_nothing_is_judged_but_the_host(tmp_path: Path) -> None:
    """There is no driver to be judged."""
    fake = FakeHost(cpu_host())
    host = Host("box", fake, tmp_path / "stack.json", Options())
    assert host.result("driver.module", lambda _: None).actual == "not reached because of lock.present"


def test_what_is_not_reached_is_not_collected(tmp_path: Path) -> None:
    """Without a generation there is no environment to start."""
    seen = cpu_host()
    seen["machine"]["installed"].update(generation=None, stack=None, links={})
    fake = FakeHost(seen)
    host = verified(tmp_path, fake)
    assert host.result("benchmark.yolov3", lambda _: None).actual == "not reached because of lock.provisioned"
    assert fake.asked == ["machine"]


def test_checks_that_were_left_out_are_no_passes(tmp_path: Path) -> None:
    """Running one file of verify/ never gives the verdict ok."""
    host = verified(tmp_path, FakeHost(cpu_host()))
    host.result("host.dpkg", lambda _: None)
    left = [r for r in host.all_results() if r.actual == "not part of this run"]
    assert len(left) == len(host.all_results()) - 2
    assert {r.status for r in left} == {"skip"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((127, "", "sh: 1: python3: not found"), "There is no python3"),
        ((255, "", "ssh: connect to host box port 22: Connection refused"), "Connection refused"),
        ((124, "", ""), "no answer in time"),
        ((-9, "", ""), "SIGKILL"),
        ((0, "motd only\n", ""), "status 0"),
    ],
)
def test_a_host_that_cannot_be_read_says_why(tmp_path: Path, answer: Tuple[int, str, str], told: str) -> None:
    """In one sentence, on the one check that is about it."""
    host = verified(tmp_path, lambda command: answer)
    found = host.result("opencv.computes", lambda _: None)
    assert found.actual == "not reached because of host.observed"
    assert host.results["host.observed"].status == "fail"
    assert told in host.results["host.observed"].actual


def test_a_missing_and_a_damaged_lock_are_told_apart(tmp_path: Path) -> None:
    """The first is a host that is not provisioned, the second a broken one."""
    file = tmp_path / "stack.json"
    missing = checks_collect.read_lock(file)["lock_error"]
    assert (missing["missing"], missing["next_step"]) == (True, "./run ansible-playbook site.yml")
    file.write_text("{", encoding="utf-8")
    assert checks_collect.read_lock(file)["lock_error"]["missing"] is False


def test_the_benchmarks_own_error_is_passed_on(tmp_path: Path) -> None:
    """The detector says in one line what is wrong; that line is the failure."""
    error = "error: This OpenCV has no CUDA. Build it."
    options = asdict(Options())
    found = checks_collect.benchmark(lambda command: (7, "", f"words\n{error}\n"), "/r", options, "yolov3", "cuda")
    assert found == {"error": "This OpenCV has no CUDA. Build it."}


def test_the_benchmark_command_is_safe_and_reads_only() -> None:
    """What a user types is one word to the shell, whatever it holds."""
    options = asdict(Options(photos=5, images="/photos; rm -rf /"))
    command = checks_benchmark.command("/opt/gpuhost", "yolov3", "cpu", options)
    assert "'/photos; rm -rf /'" in command
    assert "--read-only --json -" in command
    code, _, err = shell(command.replace("/opt/gpuhost", "/nonexistent"))
    assert code != 0
    assert "/nonexistent/current/venvs/opencv_cuda/bin/python" in err


@pytest.mark.parametrize(
    ("options", "device", "told"),
    [
        (Options(), "cpu", " --budget 30 "),
        (Options(), "cuda", None),
        (Options(seconds=7.5), "cuda", " --budget 7.5 "),
        (Options(full=True), "cpu", None),
    ],
)
def test_a_processor_measures_for_half_a_minute(options: Options, device: str, told: Optional[str]) -> None:
    """And a card all photos, unless another time, or all of them, is asked for."""
    command = checks_benchmark.command("/r", "yolov3", device, asdict(options))
    assert (told in command) if told else ("--budget" not in command)


def test_a_generation_that_has_a_benchmark_is_not_measured_again(tmp_path: Path) -> None:
    """What a kept report of it measured counts, with its time, with --no-benchmark too; --benchmark asks again."""
    seen = cpu_host()
    earlier = {"models": [row for one in seen["benchmark"].values() for row in rows(one, "2026-11-01T00:00:00Z")]}
    file = save(tmp_path / "stack.json", seen["lock"])
    measured: List[str] = []

    def run(command: str) -> Tuple[int, str, str]:
        measured.append(command)
        return 1, "", ""

    for options, commands in ((Options(), 0), (Options(again=True), 1), (Options(benchmark=False), 0)):
        host = Host("box", run, file, options)
        kept = {name: seen[name] for name in ("machine", "expected", "environments", "lock", "lock_error")}
        host.seen.update(copy.deepcopy(kept), earlier=earlier)
        measured.clear()
        found = host.result("benchmark.yolov3", lambda line: None)
        assert sum("yolov3" in command for command in measured) == commands
        if not options.again:
            assert found.status == "pass" and "measured 2026-11-01T00:00:00Z in this generation" in found.actual
        else:
            assert found.status == "fail"


PRINT = (
    "import sys, json; sys.path.insert(0, sys.argv[1]);"
    " from gpuhost.host.probe import environment as probe_environment;"
    " sys.path[:] = sys.argv[2:] + [p for p in sys.path if 'site-packages' in p or 'lib/python' in p];"
    " print(json.dumps(probe_environment.distributions().get('twice')))"
)


@pytest.mark.parametrize("which", ["this", "old"])
@pytest.mark.parametrize("versions", [("1.0", "1.0"), ("1.0", "2.0")])
def test_a_distribution_that_is_there_twice_is_listed_twice(
    tmp_path: Path, versions: Tuple[str, str], which: str
) -> None:
    """Two folders of one distribution, which an interrupted pip leaves behind; a folder linked twice counts once."""
    for number, version in enumerate(versions):
        info = tmp_path / str(number) / f"twice-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: twice\nVersion: {version}\n", encoding="utf-8")
    (tmp_path / "again").symlink_to("0")
    python = sys.executable if which == "this" else old_python()
    folders = [str(Path(bundle.PACKAGE).parent), *(str(tmp_path / name) for name in ("0", "1", "again"))]
    code, out, err = shell(shlex.join([python, "-B", "-c", PRINT, *folders]))
    assert code == 0, err
    assert json.loads(out) == list(versions)
