"""What `pytest verify/` adds to pytest: its options, one verification per host, all hosts at once, and the report.

    ./run pytest verify/                                    this machine
    ./run pytest verify/ --hosts=NAME                       a host, or a group, of the inventory
    ./run pytest verify/ --hosts=ssh://root@NAME            a host by ssh

Nothing is changed on a host, and it needs nothing but Python 3.6. The checks are in gpuhost.checks; here is only
pytest.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import testinfra
from testinfra.backend.ansible import AnsibleBackend
from testinfra.backend.base import BaseBackend, CommandResult

from gpuhost.checks.base import FAIL, SKIP
from gpuhost.checks.benchmark import BUDGET_S, PHOTOS
from gpuhost.errors import EXIT_INTERRUPTED, GpuhostError
from gpuhost.host import commands
from gpuhost.planning import lock as locks
from gpuhost.planning import typed
from gpuhost.report import fleet as report_fleet
from gpuhost.report import history, report
from gpuhost.report import support as report_bundle
from gpuhost.text import folder_name, printable
from gpuhost.verification import collect as checks_collect
from gpuhost.verification.fleet import Crew

ORDER = (
    "test_host",
    "test_lock",
    "test_guard",
    "test_driver",
    "test_cuda",
    "test_cudnn",
    "test_opencv",
    "test_tensorflow",
    "test_service",
    "test_virtualbox",
    "test_benchmark",
)
#: Set by Ctrl-C.
CALLED_OFF = threading.Event()
#: A pipe that ends what runs on the hosts, in whichever thread, when its other end is closed.
OVER = os.pipe()
HOSTS = pytest.StashKey[Dict[str, checks_collect.Host]]()
BEAT_S = 30.0
#: The options that ask for a new measurement.
AGAIN = ("benchmark", "benchmark_full", "benchmark_seconds", "benchmark_photos", "images")
#: Bytes of each output of a command on a host. Parsed, the worst JSON takes thirty times as much; the longest honest
#: answer has less than one MB.
MOST_SAID = 8 << 20


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of verify/."""
    group = parser.getgroup("gpuhost", "gpuhost: a host against its lock")
    group.addoption(
        "--gpuhost-lock",
        type=Path,
        metavar="FILE",
        help="the lock (default: locks/HOST/stack.json beside the inventory's folder)",
    )
    group.addoption(
        "--gpuhost-reports",
        type=Path,
        metavar="DIR",
        help="where HOST/report.* is written (default: reports)",
    )
    group.addoption("--require-gpu", action="store_true", help="a host without a GPU fails the GPU checks")
    group.addoption("--no-benchmark", action="store_true", help="leave the YOLO benchmark out")
    group.addoption(
        "--benchmark",
        action="store_true",
        help="measure again, although an earlier report of this generation has the figures",
    )
    group.addoption(
        "--benchmark-full", action="store_true", help="measure again, and all photos, however long it takes"
    )
    group.addoption(
        "--benchmark-seconds",
        type=float,
        metavar="S",
        help=f"measure again, each network for S seconds (default: {BUDGET_S:g} on a CPU, all photos on a card)",
    )
    group.addoption("--images", metavar="DIR", help="a folder of photos on the host for the benchmark")
    group.addoption(
        "--benchmark-photos",
        type=int,
        metavar="N",
        help=f"measure again, at most N photos (default: {PHOTOS})",
    )
    group.addoption(
        "--bundle", action="store_true", help="also write HOST/support-*.tar.gz, redacted, to attach to an issue"
    )
    group.addoption("--gpuhost-root", default="/opt/gpuhost", metavar="DIR", help="the store on the host")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work before a host is touched."""
    refuse_benchmark(config)
    asked = config.getoption("hosts")
    if asked is None and config.getoption("ansible_inventory"):
        asked = typed.ALL  # an inventory is named for its hosts: else it would be this machine that is read
    hosts = [] if asked is None else [addressed(name, config) for name in asked.split(",")]
    if hosts:
        config.option.hosts = ",".join(hosts)
    for name in hosts:
        refuse_unmatched(name, config)
    config.stash[HOSTS] = {}


def refuse_benchmark(config: pytest.Config) -> None:
    """Refuse options of the benchmark that cannot be meant."""
    photos, seconds = config.getoption("benchmark_photos"), config.getoption("benchmark_seconds")
    if photos is not None and photos < 1:
        raise pytest.UsageError("--benchmark-photos must be at least 1.")
    if seconds is not None and not 0 < seconds < math.inf:
        raise pytest.UsageError("--benchmark-seconds must be a number above 0.")
    if seconds is not None and config.getoption("benchmark_full"):
        raise pytest.UsageError("--benchmark-full and --benchmark-seconds exclude each other.")
    if config.getoption("no_benchmark") and (config.getoption("benchmark_full") or config.getoption("benchmark")):
        raise pytest.UsageError("--no-benchmark excludes --benchmark and --benchmark-full.")


def addressed(name: str, config: pytest.Config) -> str:
    """Return a name of --hosts with the way in which the host is reached: one without is a name of the inventory."""
    if not name:
        raise pytest.UsageError("--hosts holds an empty name. Write --hosts=NAME,NAME with names of the inventory.")
    return name if "://" in name or config.getoption("connection") else f"ansible://{name}"


def refuse_unmatched(name: str, config: pytest.Config) -> None:
    """Refuse a name of --hosts that leads to no host: testinfra passes over it, and the run is green without it."""
    told = printable(name, 80)
    inventory = config.getoption("ansible_inventory")
    if not testinfra.get_hosts([name], connection=config.getoption("connection"), ansible_inventory=inventory):
        raise pytest.UsageError(
            f"--hosts names no host of the inventory: {told} matches none. `./run ansible-inventory --graph` shows its "
            "hosts and groups; --ansible-inventory=FILE names another one, --hosts=ssh://USER@HOST needs none."
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Sort the tests host by host in causal order, with the benchmarks last, when everything else has been said."""

    def place(item: pytest.Item) -> Tuple[bool, str, int]:
        name, host = (
            item.path.stem,
            getattr(item, "callspec", None) and item.callspec.params.get("_testinfra_host"),
        )
        if name not in ORDER:
            return (False, "", -1)
        return (name == ORDER[-1], host.backend.get_pytest_id(), ORDER.index(name))

    items.sort(key=place)


def host_name(host: Any) -> str:
    """Return the name of a testinfra host in the inventory: this machine is localhost, another is called as in
    --hosts.
    """
    backend = host.backend
    return "localhost" if backend.get_connection_type() == "local" else str(backend.get_hostname())


def speaker(host: Any) -> Any:
    """Return the testinfra backend that runs a host's commands; that of an inventory's host is behind Ansible's."""
    backend = host.backend
    if isinstance(backend, AnsibleBackend) and not backend.force_ansible:
        ssh = {"ssh_config": backend.ssh_config, "ssh_identity_file": backend.ssh_identity_file}
        behind = backend.ansible_runner.get_host(backend.host, **ssh)
        return backend if behind is None else behind.backend
    return backend


def bounded_local(backend: BaseBackend, command: str, *words: str) -> CommandResult:
    """Take the place of testinfra's `run_local`, which keeps whatever a host says, and asks it how to decode that."""
    line = backend.quote(command, *words).encode("utf-8")
    try:
        argv = ["/bin/sh", "-c", line.decode("utf-8")]  # as testinfra does; it has quoted the line
        # In our own session: ssh may ask its user, on the terminal, and Ctrl-C reaches it.
        own = {"env": dict(os.environ), "start_new_session": False}
        code, out, err = commands.bounded(argv, most=MOST_SAID, over=OVER[0], **own)
    except commands.TooMuch:
        code, out, err = 1, "", f"It said more than {MOST_SAID >> 20} MB, which is not taken."
    return backend.result(code, line, out, err)


def runner(host: Any) -> checks_collect.Run:
    """Run a shell command on a testinfra host; a host that cannot be reached is reported like a command that
    failed.

    What a host says is bounded where testinfra starts a program for it: ssh, this machine, containers. Its paramiko,
    and Ansible for other kinds of connection, take all of it into memory.
    """
    backend = speaker(host)
    backend.run_local = functools.partial(bounded_local, backend)

    def run(command: str) -> Tuple[int, str, str]:
        try:
            done = host.run(command)
        except RuntimeError as error:
            # Of a connection that failed, testinfra raises the whole command, with the program in it.
            return checks_collect.NO_CONNECTION, "", str(getattr(error.args[0], "stderr", error))
        return done.rc, done.stdout, done.stderr

    return run


@contextlib.contextmanager
def beating(write: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Give a function that says a line at once, and again every half minute for as long as the work goes on."""
    over, last = threading.Event(), [""]

    def beat() -> None:
        seconds = 0.0
        while not over.wait(BEAT_S):
            seconds += BEAT_S
            write(f"{last[0]} ... {seconds:.0f} s")

    def say(text: str) -> None:
        last[0] = text
        write(text)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        over.set()
        thread.join()


def verification(host: Any, config: pytest.Config) -> checks_collect.Host:
    """Return the verification of a testinfra host; nothing is asked of it yet."""
    name = host_name(host)
    inventory = Path(config.getoption("ansible_inventory") or config.rootpath / "inventory")
    named_lock = config.getoption("gpuhost_lock")
    place = locks.place(name, inventory if inventory.is_dir() else inventory.parent, file=named_lock)
    options = checks_collect.Options(
        root=config.getoption("gpuhost_root"),
        require_gpu=config.getoption("require_gpu"),
        benchmark=not config.getoption("no_benchmark"),
        images=config.getoption("images"),
        photos=config.getoption("benchmark_photos") or PHOTOS,
        again=any(map(config.getoption, AGAIN)),
        full=config.getoption("benchmark_full"),
        seconds=config.getoption("benchmark_seconds"),
    )
    # A lock that was typed is for the host that is meant, whatever its address; only Ansible knows its name.
    named = not named_lock or host.backend.get_connection_type() == "ansible"
    former = None if named_lock else place.former
    kept = functools.partial(report.earlier, reports_folder(config) / folder_name(name))
    typed_so = functools.partial(typed.own, **meant(name, host, config))
    return checks_collect.Host(name, runner(host), place.file, options, former, named, kept, typed_so)


def meant(name: str, host: Any, config: pytest.Config) -> Dict[str, Any]:
    """Return with which inventory and for which hosts a command has to be typed to mean this host alone."""
    given = config.getoption("ansible_inventory")
    by_name = host.backend.get_connection_type() == "ansible"
    return {
        "inventories": [given] if by_name and given else [],
        "hosts": name if by_name and name != "localhost" else "",
    }


def reports_folder(config: pytest.Config) -> Path:
    """Return the folder of all hosts' reports."""
    return Path(config.getoption("gpuhost_reports") or config.rootpath / "reports")


@pytest.fixture(scope="session")
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    """Collect all hosts of this run at once, each for the checks that are going to be made."""
    hosts: Dict[str, Any] = {}
    names: List[str] = []
    for item in request.session.items:
        given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if "_testinfra_host" in given and "check" in given:
            host = given["_testinfra_host"]
            hosts[host.backend.get_pytest_id()] = host
            names.append(given["check"])
    known = request.config.stash[HOSTS]
    known.update((identity, verification(host, request.config)) for identity, host in hosts.items())
    made = Crew(known, dict.fromkeys(names), lambda: os.close(OVER[1]))
    yield made
    made.close()


@pytest.fixture
def hold(host: Any, crew: Crew, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Hold the host against one check by its id: pass, skip with the reason, or fail in a few lines."""
    identity = host.backend.get_pytest_id()
    verified = request.config.stash[HOSTS][identity]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    terminal = request.config.pluginmanager.getplugin("terminalreporter")

    def write(text: str) -> None:
        if terminal._tw.width_of_current_line:  # in the middle of a line of dots
            terminal.write("\n")
        terminal.write_line(text)

    def judge(name: str) -> None:
        with capture.global_and_fixture_disabled(), beating(write) as say:
            crew.wait(identity, say)
            found = verified.result(name, say)
        if found.status == SKIP:
            pytest.skip(found.actual)
        if found.status == FAIL:
            pytest.fail(checks_collect.describe(found), pytrace=False)

    return judge


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Note Ctrl-C; pytest calls its own reasons to stop by the same name."""
    if excinfo.type is KeyboardInterrupt:
        CALLED_OFF.set()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End with the exit code that Ctrl-C has elsewhere; pytest's own is 2."""
    if CALLED_OFF.is_set():
        session.exitstatus = EXIT_INTERRUPTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the report of each host; print its table and where the report is."""
    if CALLED_OFF.is_set():
        terminalreporter.write_line("Interrupted. Nothing was changed, and no report was written; what ran on a host")
        terminalreporter.write_line("was ended. The same command starts over: ./run pytest verify/")
        return
    folder = reports_folder(config)
    for host in config.stash[HOSTS].values():
        made = report.make(host)
        terminalreporter.write_line("")
        terminalreporter.write(report.as_text(made, terminalreporter._tw.fullwidth, terminalreporter.hasmarkup))
        try:
            target = folder / folder_name(host.name)
            files = report.write(made, target)
            bundle = report_bundle.write(host, made, target) if config.getoption("bundle") else None
        except GpuhostError as error:
            terminalreporter.write_line(f"error: {error}", red=True)
            terminalreporter._session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        else:
            for line in report.since_lines(made, target):
                terminalreporter.write_line(line)
            elsewhere = history.left_behind(folder, host.name)
            if elsewhere is not None:
                terminalreporter.write_line(elsewhere)
            if bundle is not None:
                terminalreporter.write_line(f"bundle: {bundle}")
                terminalreporter.write_line(
                    "Redacted; what is in it stands in its README.txt. Look before you pass it on."
                )
            terminalreporter.write_line(f"report: {files['html']}")
    if config.stash[HOSTS]:
        try:
            terminalreporter.write_line(f"fleet: {report_fleet.write(folder)}")
        except GpuhostError as error:
            terminalreporter.write_line(f"error: {error}", red=True)
            terminalreporter._session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
