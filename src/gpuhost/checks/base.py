"""What a check is, and what comes out of one. Pure; no check opens a file or runs a command.

Each check and each sign of a diagnosis takes `seen`, what was collected of one host (`verification.collect`, or without
a lock `doctor.collect`), with these keys:

    host, options   the host's name, and the options of the run: benchmark, photos, images, require_gpu and so on
    lock            the lock, or None; then `lock_error` has message, next_step and missing
    machine         observation and installed, as data/observation.schema.json and installed.schema.json have them; or
                    error and next_step where the host could not be read
    expected        what to compare with, made on the controller (`verification.expected`)
    as_found        without a lock, the expectation made from the host itself (`checks.found`)
    environments    what a program in opencv_cuda and in dl4cv answered, by the name of the environment
    service         what the detection service answered
    benchmark       the report of each measured model, or its error; `earlier` is the last kept report of this host
"""

import re
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple, cast

from ..credentials import without_secrets
from ..text import printable

if TYPE_CHECKING:
    from ..shapes.report import CheckRow
    from ..shapes.seen import Seen

PASS, FAIL, SKIP = "pass", "fail", "skip"
#: A finding is read by a person, whatever a host says.
LONGEST = 4000
TOO_LONG = (
    "The command is too long to be printed: a name on the host has thousands of characters. Look at that name first."
)
NOT_PLAIN = (
    "The command cannot be printed as it is: a name on the host has line ends, blanks in a row or control characters. "
    "Look at that name first."
)
NO_GPU = "no GPU in the lock, which is for a CPU stack"
#: What is found of a component that its lock leaves out by choice: nothing is wrong, and nothing is to be proven.
LEFT_OUT = "not asked for: the lock leaves it out"
#: The same of the detection service, which is off by default.
NOT_SERVED = "not asked for: the generation in force has no detection service"
#: The same of VirtualBox.
NOT_BESIDE = "not asked for: gpuhost has not installed VirtualBox here"
#: CUDA alone is asked where nothing else that is installed computes on the card.
BY_MORE = "not asked for: OpenCV or TensorFlow has to compute on the card itself"
#: Of a newer kernel, where nobody has asked for automatic updates and the guard holds the old one on purpose.
NOT_AUTOMATIC = "not asked for: updates are not automatic here"
#: All of these: nothing is to be proven.
UNASKED = (NO_GPU, LEFT_OUT, NOT_SERVED, NOT_BESIDE, BY_MORE, NOT_AUTOMATIC)
INSTALL = "./run ansible-playbook site.yml"
#: The driver alone, with the guard over it.
DRIVER = "./run ansible-playbook playbooks/driver.yml"
#: The guard alone.
GUARD = "./run ansible-playbook playbooks/guard.yml"
#: A new lock for what the host has become, carried out.
RELOCK = f"./run ansible-playbook playbooks/plan.yml -e gpu_stack_relock=true && {INSTALL}"
#: Another card: shown first, carried out when a person types the host's name.
REBUILD = "./run ansible-playbook playbooks/rebuild.yml"


class Outcome(NamedTuple):
    """How one check ended: what was required, what was found, and, when it failed, the command that fixes it."""

    status: str
    required: str
    actual: str
    remediation: str = ""


#: What a remedy for a root shell of the host begins with.
ON_HOST = "On the host: "
#: What the line of a remedy begins with that is typed in this folder afterwards.
THEN_HERE = "Then here: "
#: The line breaks that a remedy may have: the project's own, and none of a host's.
_BREAK = re.compile(rf"\n(?=(?:{THEN_HERE})?\./run )")


def on_host(command: str, then_here: str = "") -> str:
    """Return the remedy that is a command for a root shell of the host, and then one for this folder."""
    if "\n" in command:  # a host's word: it must not look like the second line
        return NOT_PLAIN
    return f"{ON_HOST}{command}" + (f"\n{THEN_HERE}{then_here}" if then_here else "")


def told_lines(remedy: str) -> List[str]:
    """Return a remedy as lines to show: each command stands alone on its own, indented below where it is typed."""
    told = []
    for line in remedy.split("\n"):
        place = next((place for place in (ON_HOST, THEN_HERE) if line.startswith(place)), "")
        told += [place.strip(), f"  {line[len(place) :]}"] if place else [line]
    return told


def held(ok: bool, required: str, actual: str, remediation: str) -> Outcome:
    """A pass when `ok`, else a failure with its remedy. Which diagnosis it is, `diagnoses` finds out."""
    if ok:
        return Outcome(PASS, required, actual)
    return Outcome(FAIL, required, actual, remediation)


def skipped(required: str, reason: str, remediation: str = "") -> Outcome:
    """Return the outcome of a check that could not be made: what it requires, and the reason."""
    return Outcome(SKIP, required, reason, remediation)


class Check(NamedTuple):
    """One claim about a host.

    `sources` are what the probe reads for it, by the names that they have in the `problems` of its answer, as patterns
    (fnmatch; `{root}` is the store's folder): where one of them could not be read, the check cannot pass. An
    environment and the benchmark answer for themselves, with an `error`. `needs` are the checks that must have passed
    before this one can say anything; `part` is what has to be collected for it ("machine", an environment's name, or
    "benchmark/<model>"); `gpu` marks a claim about a card.

    `found` judges the same claim on a host without a lock (`checks.found`); None where only a lock can say it.
    `found_sources` are what it rests on there, where that is less. A `risk` breaks nothing today.
    """

    id: str
    title: str
    purpose: str
    judge: "Callable[[Seen], Outcome]"
    sources: Tuple[str, ...]
    needs: Tuple[str, ...] = ()
    part: str = "machine"
    gpu: bool = False
    found: "Optional[Callable[[Seen], Outcome]]" = None
    found_sources: Optional[Tuple[str, ...]] = None
    risk: bool = False


class Result(NamedTuple):
    """A check's outcome as the report holds it."""

    id: str
    title: str
    purpose: str
    status: str
    required: str
    actual: str
    remediation: str
    diagnosis: Optional[str]

    def as_json(self) -> "CheckRow":
        """The result as plain JSON."""
        return cast("CheckRow", dict(self._asdict()))


def result(check: Check, outcome: Outcome, diagnosis: Optional[str] = None) -> Result:
    """The result of a check, with everything that came from a host made printable."""
    return Result(
        check.id,
        check.title,
        check.purpose,
        outcome.status,
        printable(outcome.required, LONGEST),
        printable(without_secrets(outcome.actual), LONGEST),
        whole_command(outcome.remediation),
        diagnosis,
    )


def whole_command(text: str) -> str:
    """Return a remedy that can be pasted as it is; half a command, or another name, can remove more than is meant."""
    plain = text.replace("  # ", " # ")
    if len(plain) > LONGEST:
        return TOO_LONG
    return plain if all(printable(line) == line for line in _BREAK.split(plain)) else NOT_PLAIN
