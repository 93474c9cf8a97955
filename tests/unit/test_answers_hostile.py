"""Whatever a module's result holds: an answer of the right form, or one sentence, and nothing of it harms what follows.

The whole way on the controller is walked: the result is checked, then planned for, locked, compared, rebuilt for and
gone back from. `pytest -m full` tries 5,000 results, the suite some hundred; a failing one is printed.
"""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.cli.plan import request_of
from gpuhost.errors import GpuhostError
from gpuhost.planning import lock, plan, preflight, rebuild, rollback, specs
from gpuhost.planning import opencv as opencv_plan
from gpuhost.planning.catalog import DATA
from gpuhost.planning.resolve import resolver
from gpuhost.report import terminal as render
from gpuhost.shipping import answers
from gpuhost.shipping.asked import Asked

from ..example_hosts import observed
from .collected import beside_host

Json = Dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FOUND = resolver()
HOSTS = [observed(name) for name in ("ubuntu1804-quadro-p2000", "ubuntu1804-foreign-sources", "debian12-no-gpu")]
TEMPLATES = ["{{ lookup('pipe', 'id') }}", "{% for x in [1] %}{{ x }}{% endfor %}", "{# #}", "${HOME}", "{0.real}"]
ESCAPES = ["\x1b[2J\x1b]0;t\x07", "a\r\nPLAY RECAP ****\nbox : ok=1", "\x9b31m", "\u202e\u2066", "\ud800", "\0"]
PATHS = ["../../root/.ssh/authorized_keys", "/etc/passwd", "store/../../x", "store/a/../b", ".", "..", "~root", "a/b"]
MARKUP = ["<script>alert(1)</script>", "]]>&lt;", "[bold]x[/bold]", "-oProxyCommand=id", "`id`$(id);id\n"]
LARGE = ["9" * 400, "x" * 100_000, "x" * 2_000_000]
OTHER = [None, True, -1, 10**399, 1e308, float("nan"), float("inf"), [], {}, [[[]]], {"a": {"b": []}}, "", 2**63]
DEEP: Any = "x"
for _ in range(500):
    DEEP = [DEEP]
PAYLOADS: List[Any] = [*TEMPLATES, *ESCAPES, *PATHS, *MARKUP, *LARGE, *OTHER, DEEP]


def locked(observation: Json) -> Json:
    """The lock of a host."""
    return lock.make("box", observation, plan.make(FOUND, request_of(FOUND, observation, {})))


P2000, CPU = locked(HOSTS[0]), locked(HOSTS[2])
DIGEST, WHEEL = "0" * 64, "opencv_contrib_python-4.11.0.86+cuda118.sm61-cp38-cp38-linux_x86_64.whl"
KEY = "a" * 32
THERE = {
    "current": 2,
    "came_by": "switch",
    "before": 1,
    "good": [1],
    "generations": [
        {"number": 1, "stack": CPU, "links": {"yolo": "store/yolo-1"}},
        {"number": 2, "stack": P2000, "links": {}},
    ],
    "artifacts": [DIGEST],
    "debs": [],
    "wheels": [],
    "store": ["cuda-11.8.0-0123456789ab"],
    "build_seconds": {KEY: 12.5},
}
WHEEL_FACTS = {
    "path": f"/opt/gpuhost/cache/wheels/opencv/{KEY}/{WHEEL}",
    "name": "opencv-contrib-python",
    "version": "4.11.0.86+cuda118.sm61",
    "file": WHEEL,
    "kind": "wheel",
    "sha256": DIGEST,
    "size": 5,
}
DIFF = {"before": "a\n", "after": "b\n", "after_header": "x"}
#: A good result of each module.
GOOD: List[Tuple[str, Json]] = [
    *(("gpuhost_facts", {"observation": host}) for host in HOSTS),
    ("gpuhost_generation_info", {"found": THERE}),
    ("gpuhost_generation", {"told": "Generation 1 is in force.", "diff": DIFF}),
    ("gpuhost_generation", {"generation": 3, "previous": None, "diff": DIFF}),
    ("gpuhost_opencv", {"key": KEY, "wheel": WHEEL_FACTS}),
    ("gpuhost_artifact", {"path": "/opt/gpuhost/cache/artifacts/x"}),
    ("gpuhost_driver", {"differences": ["a"], "reboot_required": "", "console_required": ""}),
    ("gpuhost_driver", {"told": ""}),
    ("gpuhost_environment", {"folder": "store/dl4cv-0123456789ab"}),
    ("gpuhost_guard", {"told": "x", "kept_back": ["y"], "guarded": True, "proved": False, "diff": DIFF}),
    ("gpuhost_packages", {"names": ["g++-8"]}),
    ("gpuhost_pair", {"told": "x", "state": "armed"}),
    ("gpuhost_toolkit", {"links": {"cuda": "current/cuda"}}),
    ("gpuhost_toolkit", {"missing": True, "folder": "store/cuda-11.8.0-0123456789ab"}),
    ("gpuhost_tree", {"folder": "store/yolo-0.1-0123456789ab"}),
    ("gpuhost_watch", {"told": "x"}),
    ("gpuhost_facts", {"failed": True, "msg": "It cannot be read.", "exit_code": 4, "next_step": "x"}),
]


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The way to each place of a value, of long lists and tables only to the first rows."""
    if path:
        yield path
    rows = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in rows[:40]:
        yield from places(inner, (*path, key))


def texts(value: Any) -> Iterator[str]:
    """Every text and key of a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def spoilt(good: Json, path: Tuple[Any, ...], payload: Any, how: str) -> Json:
    """A copy of a good result with the payload in one place, as a key there, or at the end of the text there."""
    made = copy.deepcopy(good)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    if how == "key" and isinstance(inner, dict):
        inner[str(payload)] = inner.pop(path[-1])
    elif how == "end" and isinstance(inner[path[-1]], str) and isinstance(payload, str):
        inner[path[-1]] += payload
    else:
        inner[path[-1]] = payload
    return made


def told(step: Callable[[], Any]) -> Any:
    """What a step comes to, None where it is refused in one sentence. Anything else is this test's failure."""
    try:
        return step()
    except GpuhostError as error:
        assert len(str(error)) < 50_000
        return None


def shown(lines: Any) -> None:
    """What a playbook prints holds nothing that moves a cursor, but where a remedy's commands stand on their lines."""
    for text in lines or []:
        assert text.replace("\n", "").isprintable(), ascii(text)[:300]


def followed(name: str, answer: Json) -> None:
    """Everything on the controller that rests on an answer."""
    if name == "gpuhost_facts":
        seen = answer["observation"]
        shown(told(lambda: preflight.problems(seen)))
        shown(told(lambda: preflight.remarks(seen)))
        shown(told(lambda: lock.differences(P2000, seen, {})))
        made = told(lambda: plan.make(FOUND, request_of(FOUND, seen, {})))
        if made is not None:
            shown(told(lambda: render.plan_text(made).splitlines()))
        if made is not None and made["status"] == "planned":
            whole = told(lambda: lock.make("box", seen, made))
            if whole is not None:
                lock.check(json.loads(json.dumps(whole)), "what was made", "box")
        prepared = told(lambda: rebuild.prepare(FOUND, "box", seen, P2000, None, {}, False, [], copy.deepcopy(THERE)))
        shown(prepared and prepared["lines"])
    if name == "gpuhost_generation_info":
        there = answer["found"]
        for to in ("", 1):
            back = told(lambda to=to: rollback.prepare("box", there, P2000, None, to, HOSTS[0]))
            shown(back and back["lines"])
        prepared = told(lambda: rebuild.prepare(FOUND, "box", HOSTS[0], CPU, None, {}, False, [], there))
        shown(prepared and prepared["lines"])
    if name == "gpuhost_opencv" and answer["wheel"] is not None:
        for file in opencv_plan.wheel_files(answer["wheel"]):
            assert file.startswith("/") and "/../" not in file
        assert answer["key"].isalnum()
        told(lambda: specs.of_lock(P2000, wheel=answer["wheel"]))


def tried(name: str, result: Json) -> bool:
    """Check a result and follow it; whether it was accepted."""
    answer = answers.of_module(name, {"changed": False, **result})
    json.dumps(answer, allow_nan=False)
    for text in texts(answer):
        assert all(char.isprintable() or char in "\n\t" for char in text), ascii(text)[:300]
    if answer.get("failed"):
        assert isinstance(answer["msg"], str)
        return False
    folder = answer.get("folder")
    assert folder is None or (folder.startswith("store/") and folder.count("/") == 1 and "{" not in folder)
    followed(name, answer)
    return True


@pytest.mark.parametrize(("name", "good"), GOOD, ids=[f"{at}-{row[0]}" for at, row in enumerate(GOOD)])
def test_a_good_result_passes_unchanged(name: str, good: Json) -> None:
    """Else the fuzz below would pass by refusing everything."""
    assert answers.of_module(name, {"changed": False, **good}) == {"changed": False, **good}
    assert tried(name, good) is not bool(good.get("failed"))


ONE = st.tuples(
    st.integers(0, len(GOOD) - 1),
    st.integers(0, 10**6),
    st.sampled_from(PAYLOADS) | st.text(max_size=20) | st.integers(-(10**30), 10**30),
    st.sampled_from(["value", "value", "end", "key"]),
)
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck))


def fuzz(case: Tuple[int, int, Any, str]) -> None:
    """One good result spoilt in one place."""
    at, number, payload, how = case
    name, good = GOOD[at]
    ways = list(places(good))
    tried(name, spoilt(good, ways[number % len(ways)], payload, how))


@settings(FUZZ, max_examples=250, derandomize=True)
@given(ONE)
def test_a_spoilt_result(case: Tuple[int, int, Any, str]) -> None:
    """The same sample in every run of the suite."""
    fuzz(case)


@pytest.mark.full
@settings(FUZZ, max_examples=5000)
@given(ONE)
def test_5000_spoilt_results(case: Tuple[int, int, Any, str]) -> None:
    """Others in every run."""
    fuzz(case)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("gpuhost_opencv", {"key": "../../../root/.ssh", "wheel": None}),
        ("gpuhost_opencv", {"key": KEY, "wheel": {**WHEEL_FACTS, "path": f"/opt/{KEY}/../authorized_keys"}}),
        ("gpuhost_opencv", {"key": KEY, "wheel": {**WHEEL_FACTS, "file": "../authorized_keys"}}),
        ("gpuhost_opencv", {"key": KEY, "wheel": {**WHEEL_FACTS, "path": "/etc/shadow"}}),
        ("gpuhost_environment", {"folder": "store/{{ x }}"}),
        ("gpuhost_environment", {"folder": "../x"}),
        ("gpuhost_tree", {"folder": "/etc"}),
        ("gpuhost_facts", {"observation": {**HOSTS[0], "surplus": 1}}),
        ("gpuhost_facts", {}),
    ],
)
def test_what_becomes_a_path_or_a_lock_is_refused(name: str, result: Json) -> None:
    """The builder's key was once a path on the controller: two hosts that agreed wrote any file there."""
    answer = answers.of_module(name, {"changed": False, **result})
    assert answer["failed"] and answers.STRANGE in answer["msg"]


def test_a_result_cannot_set_facts_or_internal_keys() -> None:
    """Only the interpreter that Ansible itself has found stays."""
    facts = {"discovered_interpreter_python": "/usr/bin/python3", "ansible_connection": "local", "x": "{{ y }}"}
    result = {"changed": False, "told": "x", "ansible_facts": facts, "add_host": {"host_name": "x"}}
    assert answers.of_module("gpuhost_watch", result).get("failed")
    del result["add_host"]
    found = answers.of_module("gpuhost_watch", result)
    assert found["ansible_facts"] == {"discovered_interpreter_python": "/usr/bin/python3"}
    result["ansible_facts"] = {"discovered_interpreter_python": "{{ lookup('pipe', 'id') }}"}
    assert "ansible_facts" not in answers.of_module("gpuhost_watch", result)


@pytest.mark.parametrize("exception", [object(), "Traceback: x"])
def test_a_module_that_failed_says_why_whatever_ansible_adds(exception: Any) -> None:
    """ansible-core 2.19 and newer puts an object of its own beside the message, which took the message's place."""
    result = {"failed": True, "changed": False, "msg": "VirtualBox is there already (D56)", "exit_code": 3}
    kept = {"exception": exception} if isinstance(exception, str) else {}
    assert answers.of_module("gpuhost_virtualbox", {**result, "exception": exception}) == {**result, **kept}


def test_a_generation_whose_record_is_no_lock_has_none() -> None:
    """So that nothing reads half of one."""
    there = copy.deepcopy(THERE)
    there["generations"][0]["stack"]["plan"]["cuda"] = {"version": "{{ x }}"}  # type: ignore[index]
    found = answers.of_module("gpuhost_generation_info", {"changed": False, "found": there})["found"]
    assert [row["stack"] is None for row in found["generations"]] == [True, False]


def test_every_module_has_its_schema() -> None:
    """What a module documents to return is in its schema, and every module has an action plugin that checks it."""
    properties = json.loads((DATA / "module_answers.schema.json").read_text(encoding="utf-8"))["properties"]
    modules = {path.stem: path for path in (ROOT / "plugins/modules").glob("gpuhost_*.py")}
    assert set(modules) == set(properties)
    for name, path in modules.items():
        text = path.read_text(encoding="utf-8").partition('RETURN = r"""')[2].partition('"""')[0]
        documented = set(yaml.safe_load(text) or {}) - set(answers.ANSIBLE_KEYS)
        assert documented <= set(properties[name]["properties"]), name
        plugin = runpy.run_path(str(ROOT / "plugins/action" / path.name))["ActionModule"]
        assert issubclass(plugin, Asked) and plugin.run is Asked.run, name


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["packagings"].append("virtualbox$(reboot) 7.0"),  # a name of it becomes part of a command
        lambda found: found["kvm"]["loaded"].append("; reboot"),
        lambda found: found["record"].pop("packages"),
        lambda found: found["modules"].pop("vboxdrv"),
        lambda found: found.update(device=[]),
    ],
)
def test_what_a_host_says_of_virtualbox_has_its_form(damage: Callable[[Json], None]) -> None:
    """An answer of another form is refused as a whole, before a check or a remedy reads it."""
    machine = beside_host()["machine"]
    assert "error" not in answers.machine(machine)
    damage(machine["installed"]["virtualbox"])
    assert "data.virtualbox" in answers.machine(machine)["error"]
