"""What a host says, checked against a schema before anything reads it: a host may be broken, or in enemy hands.

This is the one place through which the words of a host come in, whatever brings them: the probe, an environment, a
benchmark, or an Ansible module's result. Here text loses what could move a cursor, numbers and depth are bounded,
unknown keys are dropped or refused, and names that become paths have their form. An answer of another form becomes an
error like any other, so that the checks need not doubt every field.
"""

from __future__ import annotations

import math
import re
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple, Union, cast

import fastjsonschema

from ..errors import LockError
from ..host.probe.cuda import unasked
from ..planning import lock as locks
from ..planning.catalog import DATA, validator
from ..shapes.answers import BenchmarkAnswer, CudaAnswer, EnvironmentAnswer, Error, Machine, ServiceAnswer, Unread
from ..shapes.lock import Lock
from ..shapes.observation import Observation
from ..text import printable
from ..types import Json

STRANGE = "The host's answer is not of the form that was asked for"
#: No honest answer nests deeper or has a longer text; a difference of a removed store has some 100 kB.
DEEPEST, LONGEST_TEXT, LARGEST_NUMBER = 40, 1_000_000, 2**63
#: What Ansible itself adds to a module's result, or shows of one that failed, and of what type it is. Everything else
#: has to be in the schema.
ANSIBLE_KEYS: Dict[str, Tuple[type, ...]] = {
    **dict.fromkeys(("changed", "failed", "skipped", "unreachable"), (bool,)),
    **dict.fromkeys(
        ("msg", "next_step", "exception", "module_stdout", "module_stderr", "results_file", "busy"), (str,)
    ),
    **dict.fromkeys(("exit_code", "rc", "started", "finished", "retries", "attempts"), (int,)),
    **dict.fromkeys(("warnings", "deprecations"), (list,)),
    **dict.fromkeys(("ansible_facts", "invocation"), (dict,)),
    "diff": (dict, list),
    "ansible_job_id": (str,),
}
#: What a module answers in several lines. Elsewhere a line end could put a line of the host's own into the output.
SEVERAL_LINES = frozenset({*ANSIBLE_KEYS, "console_required", "told"})
#: What Ansible adds to a result that has a `path`.
OF_A_PATH = frozenset({"owner", "group", "mode", "state", "size", "uid", "gid", "secontext"})
INTERPRETER = "discovered_interpreter_python"
BLANKS = dict.fromkeys(map(ord, "\n\r\t\v\f"), " ")


class Strange(ValueError):
    """A value that no schema has to be asked about."""


def tidy(value: Any, several_lines: bool = False, depth: int = 0) -> Any:
    """Return a copy of a JSON value in which every text is safe to show and every number is an ordinary one.

    Line ends and tabs become spaces, or stay with `several_lines`. Raises `Strange` for what is nested too deeply, not
    finite, too large or not JSON.
    """
    if depth > DEEPEST:
        raise Strange("it is nested too deeply")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise Strange(f"it has a text of {len(value)} characters")
        # str(): Ansible's own kinds of string must not get into a plan.
        text = str(value) if several_lines else str(value).translate(BLANKS)
        return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value) if isinstance(value, float) else abs(value) >= LARGEST_NUMBER:
            raise Strange("it has a number that is too large")
        return value
    if isinstance(value, Mapping):
        return {tidy(str(key), False, depth + 1): tidy(one, several_lines, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [tidy(one, several_lines, depth + 1) for one in value]
    raise Strange(f"it has a {type(value).__name__}")


def tidied(answer: Mapping[str, Any], several_lines: FrozenSet[str] = frozenset()) -> Json:
    """Return `tidy` of an answer, or an `error`; the texts below the keys `several_lines` may have line ends."""
    try:
        return {tidy(str(key)): tidy(value, key in several_lines) for key, value in answer.items()}
    except (Strange, RecursionError) as error:
        return {"error": f"{STRANGE}: {printable(error, 200)}."}


def misfit(value: Any, schema: str) -> Optional[str]:
    """Where a value breaks a schema of this package, in one line; None when it fits."""
    try:
        validator(DATA / f"{schema}.schema.json")(value)
    except fastjsonschema.JsonSchemaException as error:
        return printable(error, 200)
    except RecursionError:
        return "it is nested too deeply"
    return None


def of_module(name: str, result: Json) -> Json:
    """Return the result of one of this project's modules, checked; a strange one is a failed result.

    `name` is the module's name without a collection. A result that failed, was skipped or could not be had keeps only
    Ansible's own keys; one that succeeded keeps those and what `module_answers.schema.json` has for the module.
    """
    internal = {key: value for key, value in result.items() if str(key).startswith("_ansible_")}
    # From ansible-core 2.19 on this is an object of Ansible's own, which repeats the message of a module that failed.
    known = {k: v for k, v in result.items() if k != "exception" or isinstance(v, str)}
    clean = tidied({key: value for key, value in known.items() if key not in internal}, SEVERAL_LINES)
    if set(clean) == {"error"}:
        return {"failed": True, "changed": False, "msg": clean["error"]}
    own: Json = {key: value for key, value in clean.items() if isinstance(value, ANSIBLE_KEYS.get(key, ()))}
    if not own.get("busy"):
        own.pop("busy", None)  # nobody waits for anybody
    facts = own.pop("ansible_facts", None)
    if facts is not None and re.match(r"/[A-Za-z0-9._/+-]{1,200}\Z", str(facts.get(INTERPRETER))):
        own["ansible_facts"] = {INTERPRETER: facts[INTERPRETER]}
    if own.get("failed") or own.get("skipped") or own.get("unreachable") or "ansible_job_id" in own:
        return {**internal, "msg": "The host did not say why.", **own} if own.get("failed") else {**internal, **own}
    answer = {key: value for key, value in clean.items() if key not in ANSIBLE_KEYS}
    if "path" in answer:
        answer = {key: value for key, value in answer.items() if key not in OF_A_PATH}
    wrong = misfit({name: answer}, "module_answers") or unfit(name, answer)
    if wrong is not None:
        return {"failed": True, "changed": False, "msg": f"{STRANGE}: {wrong}. Nothing more was done there."}
    return {**internal, **own, **answer}


def unfit(name: str, answer: Json) -> Optional[str]:
    """Say what is wrong with a module's answer beyond its schema; None when nothing is.

    The generations' records are reduced in place to whole locks, or None.
    """
    if name == "gpuhost_facts":
        return misfit(answer["observation"], "observation")
    if name == "gpuhost_generation_info":
        found = answer["found"]
        numbers = [row["number"] for row in found["generations"]]
        named = [*numbers, *found["good"], *(n for n in (found["current"], found["before"]) if n is not None)]
        if len(set(numbers)) < len(numbers) or not set(named) <= set(numbers):
            return "it names a generation twice, or one that it does not have"
        for row in found["generations"]:
            row["stack"] = whole(row["stack"])
    if name == "gpuhost_opencv" and answer["wheel"] is not None:
        end = f"/cache/wheels/opencv/{answer['key']}/{answer['wheel']['file']}"
        if ".." in answer["wheel"]["path"].split("/") or not answer["wheel"]["path"].endswith(end):
            return f"the wheel's path does not end in {end}"
    return None


def whole(stack: Any) -> Optional[Lock]:
    """Return a generation's record if it is a lock, else None."""
    try:
        return locks.check(stack, "of a generation")
    except LockError:
        return None


def machine(answer: Mapping[str, Any]) -> Union[Machine, Unread]:
    """An answer of the probe, or an `error` when it is none. An error that the probe itself tells is passed on."""
    found = tidied(answer)
    if "error" in found:
        return {"error": str(found["error"] or ""), "next_step": str(found.get("next_step") or "")}
    wrong = misfit(found.get("observation"), "observation") or misfit(found.get("installed"), "installed")
    if wrong is None:
        return cast(Machine, found)
    return {
        "error": f"{STRANGE}: {wrong}.",
        "next_step": "See what /usr/bin/python3 is there, and what /opt/gpuhost/state holds.",
    }


def observation(value: Any) -> Union[Observation, Error]:
    """Return an observation that stands by itself, from a file, or an `error`."""
    found = tidied(value) if isinstance(value, dict) else {"error": "It is not a JSON object."}
    wrong = None if set(found) == {"error"} else misfit(found, "observation")
    if wrong is None:
        return cast(Union[Observation, Error], found)
    return {"error": f"It is not of the form of an observation: {wrong}."}


def environment(answer: Json, kind: str) -> EnvironmentAnswer:
    """What an environment said of itself, or an `error`; `kind` is "opencv" or "tensorflow"."""
    answer = _held(answer, "environment_answer")
    wrong = misfit(answer["computed"], f"{kind}_answer") if "computed" in answer else None
    return cast(EnvironmentAnswer, answer if wrong is None else {"error": f"{STRANGE}: {wrong}."})


def cuda(answer: Json) -> CudaAnswer:
    """What CUDA says of itself on a host; an answer of another form is one of a CUDA that could not be asked."""
    held = _held(answer, "cuda_answer")
    return cast(CudaAnswer, unasked(held["error"]) if set(held) == {"error"} else held)


def service(answer: Json) -> Union[ServiceAnswer, Error]:
    """What the detection service of a host does, or an `error`."""
    return cast(Union[ServiceAnswer, Error], _held(answer, "service_answer"))


def benchmark(report: Json) -> Union[BenchmarkAnswer, Error]:
    """A benchmark's report, or an `error`."""
    return cast(Union[BenchmarkAnswer, Error], _held(report, "benchmark_answer"))


def _held(answer: Json, schema: str) -> Json:
    """An answer that fits its schema, or an `error`."""
    answer = tidied(answer)
    if set(answer) == {"error"}:
        return answer
    wrong = misfit(answer, schema)
    return answer if wrong is None else {"error": f"{STRANGE}: {wrong}."}


def doctor(answer: Json) -> Json:
    """What the doctor says of a host, or an `error`; the text of its bundle stays as it is, for a file."""
    told: Any = answer.get("report")
    report = tidied(told) if isinstance(told, dict) else {"error": "it is not an object"}
    wrong = misfit(report, "doctor")
    if "error" in report or wrong is not None or "messages" in report:
        return {"error": f"{STRANGE}: {wrong or report.get('error') or 'it is not a report'}."}
    for part in ("findings", "risks"):
        for row, said in zip(report[part], told[part]):
            row["remedy"] = tidy(said["remedy"], True)  # each command on a line of its own
    text = answer.get("bundle")
    return {"report": report, "bundle": text if isinstance(text, str) else ""}
