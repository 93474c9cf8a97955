"""The edge of verify/: what the checks judge is collected from one host, each part once, with nothing changed
there.
"""

from __future__ import annotations

import re
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union, cast

from ..checks import benchmark as checks_benchmark
from ..checks import cuda as checks_cuda
from ..checks import environments as checks_environments
from ..checks import found as checks_found
from ..checks import service as checks_service
from ..checks.base import INSTALL, Check, Result, on_host, told_lines
from ..diagnoses import verdict as checks
from ..errors import LockError
from ..host.answer import read_answers, read_object
from ..host.probe import cuda as probe_cuda
from ..planning import lock as locks
from ..planning import platforms
from ..planning.catalog import shipped
from ..shapes.answers import BenchmarkAnswer, CudaAnswer, EnvironmentAnswer, Error, Machine, ServiceAnswer, Unread
from ..shapes.report import Benchmark
from ..shapes.seen import AskedOptions, LockRead, Seen
from ..shipping import answers, bundle
from ..types import Json
from .expected import expected

#: Run a shell command on the host: status, output, error output.
Run = Callable[[str], Tuple[int, str, str]]
Say = Callable[[str], None]
PROBES = {environment: component for component, environment in checks_environments.ENVIRONMENTS.items()}
NOT_FOUND, TIMED_OUT = 127, 124
#: The status of ssh itself; verify/ gives it for other ways to reach a host as well.
NO_CONNECTION = 255
#: A first import of TensorFlow from a cold disk takes most of a minute; compiling PTX for a new card takes
#: minutes.
PROBE_LIMIT_S = 900


@dataclass(frozen=True)
class Options:
    """What the user asked of verify/."""

    root: str = "/opt/gpuhost"
    require_gpu: bool = False
    benchmark: bool = True
    images: Optional[str] = None
    photos: int = checks_benchmark.PHOTOS
    #: Measure although an earlier report of this generation has the figures.
    again: bool = False
    #: Measure all photos, however long it takes.
    full: bool = False
    #: The seconds for each network; None for what suits the device.
    seconds: Optional[float] = None


def ended(code: int, err: str) -> str:
    """How a command ended badly, in one sentence: by a signal, by its time limit, or with the last line that
    it said.
    """
    number = -code if code < 0 else code - 128
    if number in {s.value for s in signal.Signals}:
        return f"It was ended by {signal.Signals(number).name}."
    if code == TIMED_OUT:
        return f"It gave no answer in time ({PROBE_LIMIT_S} s)."
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return f"It ended with status {code}" + (f": {lines[-1][:300]}" if lines else ".")


class Host:
    """One host under verification: collects on demand, judges, and keeps every result."""

    def __init__(
        self,
        name: str,
        run: Run,
        lock_file: Path,
        options: Options,
        former: Optional[Path] = None,
        named: bool = False,
        earlier: Callable[[Seen], Optional[Benchmark]] = lambda seen: None,
        typed: Callable[[str], str] = str,
    ) -> None:
        """Read the lock; nothing is asked of the host yet.

        `former` is where earlier releases kept the lock; with `named` the lock must name this host. `earlier` gives the
        benchmark that a kept report of the same generation has. `typed` makes a remedy one for the hosts and inventory
        that the user named.
        """
        self.name = name
        self.results: Dict[str, Result] = {}
        self.typed = typed
        self._run, self._options, self._earlier = run, options, earlier
        seen = {
            "host": name,
            "options": {name: value for name, value in asdict(options).items() if name != "root"},
            "earlier": None,
            "environments": {},
            "benchmark": {},
            **read_lock(lock_file, name if named else None, former),
        }
        # The machine, and what is expected of it, come with the first check.
        self.seen = cast(Seen, seen)

    def result(self, name: str, say: Say) -> Result:
        """The result of a check; what it needs is collected and judged before. `say` gets a line when
        something long begins.
        """
        for check in checks.lineage(checks.BY_ID[name]):
            if check.id not in self.results:
                self._machine(say)
                if checks.can_judge(check, self.seen, self.results):
                    self._collect(check, say)
                found = checks.judge(check, self.seen, self.results)
                self.results[check.id] = found._replace(remediation=self.typed(found.remediation))
        return self.results[name]

    def _machine(self, say: Say) -> None:
        """See that the machine is observed, and what its environments should hold is known."""
        if "machine" in self.seen:
            return
        say(f"{self.name}: reading the host")
        found = machine(self._run, self._options.root)
        self.seen["machine"] = cast(Machine, found)
        if "observation" in found:
            found["observation"] = platforms.as_locked(shipped(), found["observation"], self.seen["lock"])
        self.seen["expected"] = expected(self.seen["lock"], found)
        self.seen.update(cast(Seen, as_found(self.seen)))
        self.seen["earlier"] = self._earlier(self.seen)

    def _collect(self, check: Check, say: Say) -> None:
        """See that the part of the host that a check speaks of is collected."""
        kind, _, model = check.part.partition("/")
        at = generation(self.seen)
        if kind == checks_service.SUBJECT and kind not in self.seen:
            say(f"{self.name}: the detection service is asked")
            self.seen["service"] = cast(ServiceAnswer, service(self._run, self._options.root))
        if kind == checks_cuda.PART and kind not in self.seen:
            say(f"{self.name}: CUDA is asked")
            self.seen["cuda"] = cuda(self._run)
        if kind in PROBES and kind not in self.seen["environments"]:
            say(f"{self.name}: {PROBES[kind]} computes")
            wanted = self.seen["expected"]["sonames"] if kind == "dl4cv" else ()
            self.seen["environments"][kind] = environment(self._run, self._options.root, kind, wanted, at)
        if kind == "benchmark" and self._options.benchmark and not self._measured(model):
            on, options = self.seen["expected"]["device"], self.seen["options"]
            seconds = checks_benchmark.budget(options, on)
            limit = "" if seconds is None else f", for {seconds:g} s"
            say(f"{self.name}: benchmark of {model} on {on}, {options['photos']} photos{limit}")
            found = benchmark(self._run, self._options.root, options, model, on, at)
            self.seen["benchmark"][model] = cast(BenchmarkAnswer, found)

    def _measured(self, model: str) -> bool:
        """Return whether a model is measured already, in this run or by a kept report of this generation."""
        return model in self.seen["benchmark"] or checks_benchmark.kept(model, self.seen) is not None

    def all_results(self) -> List[Result]:
        """A result of every check there is; one that was not asked for in this run is skipped, with that
        reason.
        """
        return [self.results.get(c.id) or checks.not_asked(c) for c in checks.CHECKS]


def read_lock(file: Path, host: Optional[str] = None, former: Optional[Path] = None) -> LockRead:
    """`lock`, or None and `lock_error` with what to do."""
    try:
        return {"lock": locks.load(file, host, former), "lock_error": None}
    except LockError as error:
        missing = not file.exists() and not (former is not None and former.exists())
        step = INSTALL if missing else error.next_step
        return {"lock": None, "lock_error": {"message": error.message, "next_step": step, "missing": missing}}


def as_found(seen: Seen) -> Json:  # Json: what `found.expectation` makes
    """What a host with a card and without a lock is checked against; nothing for any other."""
    machine, lock_error = seen["machine"], seen["lock_error"]
    if lock_error is None or not lock_error["missing"] or not machine.get("observation", {}).get("gpus"):
        return {}
    where = machine["installed"]["surroundings"]
    return {"surroundings": where, "as_found": checks_found.expectation(machine, where["place"], where["names"])}


def machine(run: Run, root: str) -> Union[Machine, Unread]:
    """The observation of a host and what is installed there, or an `error`."""
    code, out, err = run(bundle.command("python3", "host.probe.installed", {"root": root}, PROBE_LIMIT_S))
    said = read_answers(out)
    if said:
        return answers.machine(said[-1])
    if code == NOT_FOUND:
        return {"error": "There is no python3 on the host.", "next_step": on_host("apt-get install python3")}
    if code == NO_CONNECTION:
        return {
            "error": f"The host cannot be reached. {ended(code, err)}",
            "next_step": "See whether it is on, and whether you reach it by the same name: ssh HOST true",
            "unreachable": True,
        }
    return {
        "error": f"The host cannot be read. {ended(code, err)}",
        "next_step": "Fix what the line says; the host needs Python 3.6 or newer.",
    }


#: Words of TensorFlow and CUDA that tell one cause from another. They go on at length, so only these lines are kept.
TELLING = re.compile(
    "dynamic library|dlopen|Ignoring visible gpu|CuDNN library|driver version|convolution algorithm|out of memory"
    "|no kernel image|failed call to cuInit|CUDNN_STATUS|CUDA_ERROR"
)
KEPT_LINES, KEPT_CHARACTERS = 20, 300


def telling(err: str) -> List[str]:
    """The telling lines of what a program wrote to its error output."""
    lines = [" ".join(line.split())[:KEPT_CHARACTERS] for line in err.splitlines() if TELLING.search(line)]
    return list(dict.fromkeys(lines))[:KEPT_LINES]


def generation(seen: Seen) -> str:
    """The folder below the root of the generation that was in force when the host was read.

    All that is collected is of this one, even when another comes into force meanwhile (a rollback during verify/).
    """
    number = seen["machine"].get("installed", {}).get("generation")
    return "current" if number is None else f"generations/{int(number)}"


def environment(run: Run, root: str, name: str, sonames: Sequence[str] = (), at: str = "current") -> EnvironmentAnswer:
    """What an environment says of itself: `packages`, `prefix`, `python`, `module`, `libraries` (what came of loading
    each of `sonames`), `said` (telling lines of its log), and `computed` or else an `error`.
    """
    python = f"{root}/{at}/venvs/{name}/bin/python"
    asked = {"kind": PROBES[name], "sonames": list(sonames)}
    code, out, err = run(bundle.command(python, "host.probe.environment", asked, PROBE_LIMIT_S))
    read: Json = {"said": telling(err)}
    for answer in read_answers(out):
        read.update(answer)
    found = answers.environment(read, PROBES[name])
    if "error" in found:
        return {"said": telling(err), **found}
    if "failed" in found:
        found["error"] = str(found["failed"])
    elif "computed" not in found:
        found["error"] = unfinished(code, err, "packages" in found)
    return found


def unfinished(code: int, err: str, started: bool) -> str:
    """Why an environment has computed nothing; `started` says that its Python has answered before."""
    if code == TIMED_OUT and started:
        return f"The import or the computation was not done within {PROBE_LIMIT_S} s, and was ended."
    what = "The import or the computation crashed." if started else "Its Python does not start."
    return f"{what} {ended(code, err)}"


def cuda(run: Run) -> CudaAnswer:
    """What CUDA says of itself on a host; `ended` says why it could not be asked."""
    code, out, err = run(bundle.command("python3", "host.probe.cuda", {}, PROBE_LIMIT_S))
    said = read_answers(out)
    return answers.cuda(said[-1] if said else probe_cuda.unasked(ended(code, err)))


def service(run: Run, root: str) -> Union[ServiceAnswer, Error]:
    """What the detection service of a host does, or an `error`."""
    code, out, err = run(bundle.command("python3", "host.probe.service", {"root": root}, PROBE_LIMIT_S))
    said = read_answers(out)
    return answers.service(said[-1]) if said else {"error": ended(code, err)}


def benchmark(
    run: Run, root: str, options: AskedOptions, model: str, on: str, at: str = "current"
) -> Union[BenchmarkAnswer, Error]:
    """The report of the benchmark of one model, or an `error` with what to do."""
    command = checks_benchmark.command(root, model, on, options, at)
    code, out, err = run(command)
    start = out.find("{")
    report = read_object(out[start:]) if start >= 0 else None
    if code == 0 and report is not None:
        return answers.benchmark(report)
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    return {"error": told[-1][len("error: ") :] if told else ended(code, err)}


def describe(value: Any) -> str:
    """A result as a failure or a line of a log shows it."""
    remedy = value.remediation and "\n            ".join(told_lines(value.remediation))
    rows = [
        ("required", value.required),
        ("actual", value.actual),
        ("remedy", remedy),
        ("diagnosis", value.diagnosis),
    ]
    return "\n".join([f"{value.id}: {value.title}", *(f"  {name:<10}{text}" for name, text in rows if text)])
