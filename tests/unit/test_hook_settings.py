"""The settings of the hooks: what is taken, and that each mistake is one sentence that names it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Dict

import pytest

from gpuhost.errors import UsageError
from gpuhost.service import hook_settings, run
from gpuhost.service.hook_settings import Rule

SIGNING = "a secret of enough bytes"
GOOD = {
    "database": "/var/lib/x/counts.db",
    "days": 7,
    "rule": {"labels": ["car", "person"], "score": 0.6, "cooldown_s": 30},
    "cameras": {"door/1": {"polygon": [[0, 0], [1, 0], [1, 1]], "moved": 0.2}, "yard.pi/front": {"labels": None}},
    "alerts": [
        {"url": "https://example.org/hook?a=b", "secret": SIGNING},
        {"url": "http://127.0.0.1:9000/", "secret": SIGNING},
        {"url": "http://[::1]/", "secret": SIGNING},
        {"url": "http://receiver.lan/", "secret": SIGNING, "insecure": True},
    ],
}


def changed(path: str, value: Any) -> Any:
    """The good settings with one of them replaced."""
    made = copy.deepcopy(GOOD)
    *folders, last = path.split(".")
    inner: Any = made
    for name in folders:
        inner = inner[int(name)] if isinstance(inner, list) else inner.setdefault(name, {})
    if isinstance(inner, list):
        inner[int(last)] = value
    else:
        inner[last] = value
    return made


def test_a_camera_has_the_common_rule_but_for_what_it_says_itself() -> None:
    """The rules are one table with a default, so that a house with ten cameras has ten lines."""
    found = hook_settings.from_json(GOOD)
    assert found.database == Path("/var/lib/x/counts.db") and found.days == 7
    wanted = frozenset({"car", "person"})
    assert found.rule_of("door", "2") == Rule(labels=wanted, score=0.6, cooldown_s=30.0)
    own = found.rule_of("door", "1")
    assert own == Rule(wanted, 0.6, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), 30.0, 2, 0.2)
    assert found.rule_of("yard.pi", "front").labels is None
    assert [row.url for row in found.alerts] == [row["url"] for row in GOOD["alerts"]]  # type: ignore[index]


def test_nothing_is_needed_but_that_there_is_something() -> None:
    """The defaults: no receiver, the same rule for every camera. Without settings there are no hooks."""
    found = hook_settings.from_json({"enabled": True})
    assert found == hook_settings.HookSettings() and found.alerts == () and found.rule_of("a", "b") == Rule()
    assert not hook_settings.from_json({}).enabled and hook_settings.from_json({"days": 3}).enabled


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("dayz", 3, "dayz"),
        ("enabled", "no", "hooks.enabled"),
        ("days", 0, "hooks.days"),
        ("days", True, "hooks.days"),
        ("days", 1.5, "hooks.days"),
        ("database", "counts.db", "hooks.database"),
        ("event_gap_s", float("nan"), "hooks.event_gap_s"),
        ("model", "", "hooks.model"),
        ("rule", [], "hooks.rule"),
        ("rule.score", "0,5", "hooks.rule.score"),
        ("rule.score", 1.1, "hooks.rule.score"),
        ("rule.labels", [], "hooks.rule.labels"),
        ("rule.labels", ["car", 3], "hooks.rule.labels"),
        ("rule.polygon", [[0, 0], [1, 1]], "hooks.rule.polygon"),
        ("rule.polygon", [[0, 0], [1, 1], [640, 480]], "hooks.rule.polygon"),
        ("rule.pictures", 1, "hooks.rule.pictures"),
        ("rule.speed", 1, "speed"),
        ("cameras", {"door": {}}, "DEVICE/CAMERA"),
        ("cameras", {"door/../../x": {}}, "DEVICE/CAMERA"),
        ("cameras.door/1.moved", 0, "hooks.cameras.door/1.moved"),
        ("alerts", {}, "hooks.alerts"),
        ("alerts.0.url", "http://example.org/", "insecure"),
        ("alerts.0.url", "http://127.0.0.1.example.org/", "insecure"),
        ("alerts.0.url", "ftp://example.org/", "https"),
        ("alerts.0.url", "https://user:pass@example.org/", "login"),
        ("alerts.0.url", "https://example.org/\r\nX: y", "ASCII"),
        ("alerts.0.url", "https://example.org/#x", "fragment"),
        ("alerts.0.url", "https://[::1/", "https"),
        ("alerts.0.url", "https://example.org:0/", "https"),
        ("alerts.0.url", "http://127.0.0.1:9000/", "twice"),
        ("alerts.0.secret", "short", "hooks.alerts[0].secret"),
        ("alerts.0.ca", "ca.pem", "hooks.alerts[0].ca"),
        ("alerts.0.insecure", "yes", "hooks.alerts[0].insecure"),
        ("alerts.0.method", "PUT", "method"),
    ],
)
def test_a_mistake_is_named(path: str, value: Any, names: str) -> None:
    """A setting that is ignored quietly would be a hook that stays silent."""
    with pytest.raises(UsageError) as told:
        hook_settings.from_json(changed(path, value))
    assert names in told.value.message and told.value.next_step


def test_the_example_of_the_page_is_taken() -> None:
    """People copy it."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "service-cameras.md").read_text(encoding="utf-8")
    example = page.split("```json\n")[1].split("```")[0]
    found = hook_settings.from_json(json.loads(example))
    assert found.rule_of("door", "1").polygon and found.alerts


@pytest.mark.parametrize(("hooks", "names"), [({"dayz": 3}, "dayz"), ({"model": "yolov9"}, "hooks.model")])
def test_a_mistake_ends_the_program_before_it_listens(
    hooks: Dict[str, Any], names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one sentence and the status of a mistake in what was typed, as for every other setting."""
    model = {"name": "yolov4-tiny", "kind": "published", "weights": "synthetic"}
    settings = {"schema": 1, "device": "cpu", "models": [model], "default_model": "yolov4-tiny"}
    settings.update(work=str(tmp_path), keys=None, hooks=hooks)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    for verb in ("check", "serve"):
        assert run.main([verb, "--settings", str(path)]) == 2
        said = capsys.readouterr().err
        assert names in said and said.count("\n") == 1


def test_no_secret_is_printed() -> None:
    """Settings end in tracebacks and logs."""
    found = hook_settings.from_json(GOOD)
    assert SIGNING not in repr(found) and "a=b" not in repr(found)
