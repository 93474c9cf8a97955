"""The fleet's page, the last runs in a host's picture, and hosts that are collected at once."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from gpuhost.diagnoses import verdict as checks
from gpuhost.errors import EnvironmentProblem
from gpuhost.report import fleet as report_fleet
from gpuhost.report import history, report
from gpuhost.report import html as report_html
from gpuhost.report import picture as report_picture

from .test_report_files import HOSTS, made
from .test_watch_hostile import ATTRIBUTES, PAYLOAD, TAGS, Page

Json = Dict[str, Any]


def fleet(folder: Path) -> List[str]:
    """Three hosts, one broken and one whose words are attacks; and a file that is not a report."""
    for name, at, change in (
        ("alpha", "alpha", lambda seen: None),
        ("beta", "beta", lambda seen: seen["machine"]["observation"]["dpkg_audit"].append("half installed")),
        (PAYLOAD, "enemy", lambda seen: seen["machine"]["observation"]["dpkg_audit"].append(PAYLOAD)),
    ):
        found = {**made(folder, "cpu", name, change), "when": "2026-01-02T03:04:05Z"}
        report.write(found, folder / "reports" / at)
    (folder / "reports" / "broken").mkdir()
    (folder / "reports" / "broken" / "report.json").write_text("[", encoding="utf-8")
    return ["alpha", "beta"]


def test_the_matrix_leads_to_every_finding(tmp_path: Path) -> None:
    """Each cell is a link to its own check of its own host; ids are there once; what cannot be read is named."""
    fleet(tmp_path)
    text = report_fleet.write(tmp_path / "reports").read_text(encoding="utf-8")
    found = Page(text)
    ids = [value for name, value in found.attributes if name == "id"]
    links = [value for name, value in found.attributes if name == "href"]
    assert len(ids) == len(set(ids)) and set(links) <= {"#" + name for name in ids}
    assert len(links) == 3 * (len(checks.CHECKS) + 1)
    assert "broken/report.json" in "".join(found.words)
    opened = re.findall(r'<details id="h(\d)c\d+" open><summary>.*?<code class="soft">([a-z.-]+)<', text)
    assert sorted(opened) == [("2", "host.dpkg"), ("3", "host.dpkg")]


def test_hostile_hosts_are_words_in_it(tmp_path: Path) -> None:
    """No tag, attribute or control character that is not the template's."""
    fleet(tmp_path)
    found = Page(report_fleet.write(tmp_path / "reports").read_text(encoding="utf-8"))
    assert set(found.tags) <= TAGS | {"a"} and {n for n, _ in found.attributes} <= ATTRIBUTES | {"href", "title"}
    assert all(re.fullmatch(r"#h\d+(c\d+)?", value) for name, value in found.attributes if name == "href")
    assert "alert(1)" in "".join(found.words)
    assert not [c for word in found.words for c in word if not c.isprintable() and c != "\n"]


ODD: Dict[str, Any] = {
    "title": 7,
    "purpose": None,
    "required": ["x"],
    "remediation": {"a": 1},
    "diagnosis": 3,
    "id": PAYLOAD,
    "actual": PAYLOAD,
}


@pytest.mark.parametrize("name", [*ODD, "benchmark", "plan"])
def test_a_report_of_another_version_is_shown_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    """Fields of another kind do not end in a traceback."""
    fleet(tmp_path)
    file = tmp_path / "reports" / "alpha" / "report.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    if name in ODD:
        content["checks"][0][name] = ODD[name]
    else:
        content[name] = None if name == "plan" else {"models": PAYLOAD}
    file.write_text(json.dumps(content), encoding="utf-8")
    found = Page(report_fleet.write(tmp_path / "reports").read_text(encoding="utf-8"))
    assert set(found.tags) <= TAGS | {"a"}
    del content["checks"][0]["title"]
    file.write_text(json.dumps(content), encoding="utf-8")
    assert report_fleet.write(tmp_path / "reports").exists()


def test_a_folder_that_takes_nothing_is_one_sentence(tmp_path: Path) -> None:
    """As for a host's own report."""
    (tmp_path / "reports").write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        report_fleet.write(tmp_path / "reports")


def test_the_last_runs_are_drawn_beside_one_another(tmp_path: Path) -> None:
    """From the second measured run on, at most RUNS a model, to one scale, the newest last."""
    base, kept = made(tmp_path), []
    for day in range(1, 9):
        one = copy.deepcopy(base)
        one["when"] = f"2026-01-{day:02d}T00:00:00Z"
        for model in one["benchmark"]["models"]:
            model.update(mean_s=0.1 * day, when=one["when"])
        kept.append(one)
    assert report_picture.trend(kept[:1]) is None and report_picture.trend([]) is None
    drawn = report_picture.trend(kept)
    assert drawn is not None
    bars = [bar for bar in drawn["bars"] if "yolov3 " in bar["label"]]
    assert [re.findall(r"2026-01-0(\d)", bar["label"]) for bar in bars] == [[str(n)] for n in (4, 5, 6, 7, 8)]
    assert bars[-1]["width"] == pytest.approx(2 * bars[0]["width"], abs=0.05)
    page = report_html.page(kept[-1], kept)
    assert "Benchmark: the last runs" in page and "2026-01-08 00:00, generation 3" in page
    assert "the last runs" not in report_html.page(kept[0], kept[:1])
    without = {**kept[-1], "benchmark": None}
    assert report_picture.trend([*kept[:1], without]) is None


def test_a_host_s_page_says_since_when(tmp_path: Path) -> None:
    """Beside the check that failed."""
    report.write({**made(tmp_path), "when": "2026-01-01T00:00:00Z"}, tmp_path / "reports" / "box")

    def change(seen: Json) -> None:
        seen["machine"]["observation"]["dpkg_audit"].append("half installed")

    bad = {**made(tmp_path, "cpu", "box", change), "when": "2026-01-02T00:00:00Z"}
    text = report.write(bad, tmp_path / "reports" / "box")["html"].read_text(encoding="utf-8")
    assert "fail since 2026-01-02T00:00:00Z (generation 3); pass on 2026-01-01T00:00:00Z (generation 3)" in text
    told = report.since_lines(bad, tmp_path / "reports" / "box")
    assert told[0].startswith("host.dpkg: fail since 2026-01-02T00:00:00Z")
    assert len(history.read(tmp_path / "reports" / "box").reports) == 2


def test_the_hosts_of_these_tests_are_there() -> None:
    """A fleet of none would let the tests above pass."""
    assert set(HOSTS) == {"cpu", "gpu"}
