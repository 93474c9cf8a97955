"""The report: its schema, and that nothing a host says can do harm in a terminal, in XML or on the page."""

from __future__ import annotations

import copy
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.diagnoses import verdict as checks
from gpuhost.errors import EnvironmentProblem
from gpuhost.planning.catalog import DATA, validator
from gpuhost.report import fleet as report_fleet
from gpuhost.report import history, report
from gpuhost.report import html as report_html
from gpuhost.report import picture as report_picture
from gpuhost.report import stack as report_stack
from gpuhost.report import swap as report_swap
from gpuhost.verification.collect import Host, Options
from gpuhost.yolo import busy

from ..locks import save
from .collected import cpu_host, gpu_host, judged

Json = Dict[str, Any]
HOSTILE = "<script>alert('x')</script>\"&\x1b[31m\x00"
HOSTS = {"cpu": cpu_host(), "gpu": gpu_host()}
VOID = {"meta", "br", "link"}


def made(
    tmp_path: Path, kind: str = "cpu", name: str = "box", change: Callable[[Json], Any] = lambda seen: None
) -> Json:
    """The report of a healthy host after one change of what was collected."""
    seen = copy.deepcopy(HOSTS[kind])
    change(seen)
    file = tmp_path / "stack.json"
    if seen["lock"] is not None:
        save(file, seen["lock"])
    host = Host(name, lambda command: (1, "", ""), file, Options())
    host.seen = seen
    host.results = judged(seen)
    return report.make(host, 0.0)


def without_lock(seen: Json) -> None:
    """A host that has none."""
    seen.update(lock=None, lock_error={"message": "none", "next_step": "make one", "missing": True}, benchmark={})


def unreadable(seen: Json) -> None:
    """A host that does not answer."""
    seen.update(machine={"error": "no answer", "next_step": "look"}, benchmark={})


def hostile(seen: Json) -> None:
    """Everything that a host can say is an attack."""
    observation = seen["machine"]["observation"]
    observation["hostname"] = observation["kernel"]["running"] = observation["cpu"]["model"] = HOSTILE
    observation["platform"]["pretty_name"] = HOSTILE
    observation["apt"]["problems"].append({"file": HOSTILE, "line": 1, "text": "", "error": HOSTILE})
    observation["problems"].append({"what": HOSTILE, "error": HOSTILE})
    seen["environments"]["dl4cv"]["packages"][HOSTILE] = [HOSTILE]
    seen["benchmark"]["yolov3"]["models"][0].update(model=HOSTILE)
    seen["benchmark"]["yolov3"]["environment"]["opencv"] = HOSTILE


STATES = [("ok", "cpu", lambda seen: None), ("gpu", "gpu", lambda seen: None), ("none", "cpu", without_lock)]
STATES += [("unreadable", "cpu", unreadable), ("hostile", "cpu", hostile)]


class Page(HTMLParser):
    """The tags of a page, and whether they are closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        """Read it."""
        super().__init__()
        self.tags: List[str] = []
        self.attributes: List[str] = []
        self.open: List[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Remember the tag."""
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        """A tag that closes itself, as in SVG."""
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        """It must be the last one that was opened."""
        assert self.open.pop() == tag


@pytest.mark.parametrize(("kind", "change"), [(kind, change) for _, kind, change in STATES], ids=[s[0] for s in STATES])
def test_every_report_fits_its_schema_and_its_forms(tmp_path: Path, kind: str, change: Callable[[Json], Any]) -> None:
    """JSON, JUnit, table and page of a host in every state, the hostile one included."""
    found = made(tmp_path, kind, "box", change)
    validator(DATA / "report.schema.json")(json.loads(json.dumps(found)))
    suite = ElementTree.fromstring(report.junit(found)).find("testsuite")  # noqa: S314 - written above
    assert suite is not None
    assert int(suite.get("tests", "0")) == len(checks.CHECKS) == len(suite.findall("testcase"))
    assert int(suite.get("failures", "0")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("skipped", "0")) == len(suite.findall("testcase/skipped"))
    table, _, left_out = report.as_text(found, 100).partition("not asked for: ")
    unasked = {row["id"] for row in found["checks"] if report.is_unasked(row)}
    assert [check.id for check in checks.CHECKS if (check.id in table) is (check.id in unasked)] == []
    names = re.split(r",\s+", re.split(r"\n(?:note: |\[INFO\])", left_out)[0].rstrip())
    told = {check.id for check in checks.CHECKS if {check.id, check.id.partition(".")[0]} & set(names)}
    assert told == unasked  # a group with a check that was judged is not left out as a whole
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", table + left_out)
    page = Page(report_html.page(found))
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not {"src", "href", "srcset", "onload", "onclick"} & set(page.attributes)


def test_hostile_words_are_shown_as_words(tmp_path: Path) -> None:
    """Escaped everywhere, and nowhere as markup; the name of a host included."""
    page = report_html.page(made(tmp_path, "cpu", HOSTILE, hostile))
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    assert "url(" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page


@settings(max_examples=25, deadline=None)
@given(said=st.text())
def test_whatever_a_host_says_the_xml_can_be_read(said: str) -> None:
    """XML knows no way to write most control characters."""
    seen = copy.deepcopy(HOSTS["cpu"])
    seen["environments"]["dl4cv"]["packages"][said] = [said]
    results = [r.as_json() for r in judged(seen).values()]
    found = {"host": "box", "when": "1970-01-01T00:00:00Z", "checks": results}
    ElementTree.fromstring(report.junit(found))  # noqa: S314 - written above


def test_the_three_files_are_written_whole(tmp_path: Path) -> None:
    """Beside them nothing is left."""
    found = made(tmp_path)
    paths = report.write(found, tmp_path / "reports" / "box")
    names = sorted(path.name for path in (tmp_path / "reports" / "box").iterdir())
    assert names == ["history", "junit.xml", "report.html", "report.json"]
    assert json.loads(paths["json"].read_text(encoding="utf-8")) == found
    report.write(found, tmp_path / "reports" / "box")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file in the folder's place."""
    (tmp_path / "reports").write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="cannot be written") as caught:
        report.write(made(tmp_path), tmp_path / "reports" / "box")
    assert "--gpuhost-reports" in caught.value.next_step


def test_the_benchmark_is_told_as_lines_of_a_log(tmp_path: Path) -> None:
    """One line a model, in the table and beside the reference figures on the page."""
    found = made(tmp_path)
    table = report.as_text(found, 120)
    assert "[INFO] 192 photos in 38.40 s (0.200 s each): yolov3 at 416 on cpu, synthetic weights" in table
    page = report_html.page(found)
    assert 'reference: Quadro P2000: <tspan class="value">39.0 ms' in page


def test_a_busy_machine_is_named_beside_its_figures(tmp_path: Path) -> None:
    """Load and stolen time with their numbers, on the terminal and on the page, for the network that they belong to."""

    def change(seen: Json) -> None:
        found = seen["benchmark"]["yolov3"]
        found["environment"]["cpus"] = 2
        load = {"load_1min": {"min": 4.0, "median": 5.2, "max": 6.0}}
        found["models"][0].update(
            sampled={"machine": load, "stolen_share": 0.031}, usage={"cpu_s_per_wall_s": 1.9, "peak_memory_mib": None}
        )

    told = (
        "the machine was busy: load 5.2 on 2 processors, 1.9 of it the benchmark's own, "
        "3.1 % of the processors' time stolen"
    )
    found = made(tmp_path, "cpu", "box", change)
    lines = report.as_text(found, 400).splitlines()
    assert [": yolov3 at" in line for line in lines if line.startswith("[INFO]") and line.endswith(told)] == [True]
    page = html.unescape(report_html.page(found))
    assert page.count(told) == 1 and f"While yolov3 was measured on cpu, {told}." in page
    # A report of an earlier version says nothing of it.
    for row in found["benchmark"]["models"]:
        del row["busy"]
    assert "busy" not in html.unescape(report_html.page(found)).partition("</style>")[2]
    assert "busy" not in report.as_text(found, 400)


@pytest.mark.parametrize(
    ("load", "used", "stolen", "expected"),
    [
        (2.4, 1.9, 0.0, ""),  # its own threads and the sampler
        (2.9, 1.9, 0.0, "load 2.9 on 2 processors"),
        (1.9, 0.5, 0.0, ""),  # there was a CPU left
        (None, 1.9, None, ""),
        (2.0, None, 0.021, "2.1 % of the processors' time stolen"),
        (9.0, None, 0.02, ""),  # what is its own is not known
    ],
)
def test_when_a_machine_is_busy(load: Any, used: Any, stolen: Any, expected: str) -> None:
    """More wants to run than there are processors, and one of these at least is another's; or time was stolen."""
    machine = {} if load is None else {"load_1min": {"median": load}}
    found = busy.words(
        {"sampled": {"machine": machine, "stolen_share": stolen}, "usage": {"cpu_s_per_wall_s": used}}, 2
    )
    assert bool(found) == bool(expected) and expected in found
    assert busy.words({}, 2) == ""


def test_verdicts_of_the_states(tmp_path: Path) -> None:
    """A CPU host is ok in words that name no GPU; one whose card was asked for by verify/ is not."""
    healthy = made(tmp_path)
    assert healthy["verdict"] == "ok"
    assert "box: ok (CPU stack; no GPU was asked for; " in report.as_text(healthy, 200)
    assert made(tmp_path, "cpu", "box", lambda seen: seen["options"].update(require_gpu=True))["verdict"] == "broken"
    assert made(tmp_path, "cpu", "box", without_lock)["verdict"] == "not provisioned"
    assert made(tmp_path, "cpu", "box", unreadable)["verdict"] == "broken"


def test_a_third_partys_source_that_offers_nothing_is_a_note(tmp_path: Path) -> None:
    """Noted, and no more; a reboot that waits as well."""

    def change(seen: Json) -> None:
        observation = seen["machine"]["observation"]
        row = copy.deepcopy(observation["apt"]["sources"][0])
        theirs = dict.fromkeys(("origin", "label", "codename", "suite", "release"), "Editor")
        row.update(file="/etc/apt/sources.list.d/editor.list", uris=["https://editor.example/apt"], suites=["any"])
        row["releases"] = [theirs]
        observation["apt"]["sources"].append(row)
        observation["reboot_required"] = True

    found = made(tmp_path, "cpu", "box", change)
    assert found["verdict"] == "ok"
    assert any("https://editor.example/apt" in note for note in found["notes"])
    assert "a package asks for a reboot" in found["notes"]


def bench(*means: float) -> Json:
    """A benchmark summary with these means, and the reference rows."""
    shares = dict.fromkeys(report_picture.STAGES, 0.2)
    row = {"model": "m", "size": 416, "device": "cpu"}
    models = [
        {**row, "mean_s": m, "stages_s": {k: m * v for k, v in shares.items()}, "mean_ci95_s": [m, m]} for m in means
    ]
    return {"models": models, "reference": {"rows": [{"device": "Quadro P2000", "mean_s": 0.039}]}}


@given(means=st.lists(st.floats(min_value=1e-5, max_value=500.0), min_size=1, max_size=4))
@settings(deadline=None)
def test_every_bar_lies_within_the_picture(means: List[float]) -> None:
    """And its parts, end to end, are as long as the whole."""
    found = report_picture.picture(bench(*means))
    assert found is not None
    right = found["width"] - report_picture.RIGHT + 0.1
    for bar in found["bars"]:
        assert found["left"] + bar["width"] <= right
        if bar["segments"]:
            assert abs(sum(part["width"] for part in bar["segments"]) - bar["width"]) < 0.05
    assert found["bars"][-1]["y"] + found["bar"] <= found["bottom"] <= found["height"]
    assert len(found["axis"]) <= report_picture.MOST_STEPS + 2


def test_bars_are_to_scale() -> None:
    """Twice the time is twice the length, the reference included."""
    found = report_picture.picture(bench(0.078, 0.156))
    assert found is not None
    one, two, reference = (bar["width"] for bar in found["bars"])
    assert two == pytest.approx(2 * one, abs=0.02)
    assert one == pytest.approx(2 * reference, abs=0.02)


def test_without_a_benchmark_there_is_no_picture(tmp_path: Path) -> None:
    """The page does without."""
    found = made(
        tmp_path,
        "cpu",
        "box",
        lambda seen: seen.update(benchmark={}, options={**seen["options"], "benchmark": False}),
    )
    assert found["benchmark"] is None
    assert "<svg" not in report_html.page(found)


def test_a_later_report_is_not_overwritten(tmp_path: Path) -> None:
    """Of two runs at once, the one that began first may end last. A report of the future is not a later one."""
    target = tmp_path / "reports" / "box"
    early, late = ({**made(tmp_path), "when": f"2026-01-0{day}T00:00:00Z"} for day in (1, 2))
    for found in (late, early):
        report.write(found, target)
    assert json.loads((target / "report.json").read_text(encoding="utf-8")) == late
    assert "2026-01-02T00:00:00Z" in (target / "report.html").read_text(encoding="utf-8")
    assert len(list((target / "history").iterdir())) == 2
    (target / "report.json").write_text(json.dumps({**late, "when": "2999-01-01T00:00:00Z"}), encoding="utf-8")
    report.write(early, target)
    assert json.loads((target / "report.json").read_text(encoding="utf-8")) == early


NUMBERS = st.sampled_from([0, -1, 0.0, 1e-300, 1e9, 1e308, 2**63 - 1, 10**400, True]) | st.floats()
ODD = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from([HOSTILE, "2999-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, at: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """The way to each place in a report; of its checks only the first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if key == 0 or not isinstance(key, int):
            yield (*at, key)
            yield from places(inner, (*at, key))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_field_of_a_kept_report_ends_in_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """Every field in turn replaced or taken away, in the last report and in the history; then all that reads them:
    the next run's files, what it says on the terminal, the fleet's page, the comparison of generations.
    """
    shutil.rmtree(tmp_path / "reports", ignore_errors=True)
    target = tmp_path / "reports" / "box"
    base = made(tmp_path)
    bad = copy.deepcopy({**base, "when": "2026-01-02T00:00:00Z"})
    at = data.draw(st.sampled_from(sorted(places(base), key=str)))
    inner: Any = bad
    for key in at[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()) and isinstance(inner, dict):
        del inner[at[-1]]
    else:
        inner[at[-1]] = data.draw(ODD)
    (target / "history").mkdir(parents=True)
    for file in (target / "report.json", target / "history" / "20260102T000000Z-1.json"):
        file.write_text(json.dumps(bad), encoding="utf-8")
    for day, generation in ((3, 3), (4, 4)):
        now = copy.deepcopy({**base, "when": f"2026-01-0{day}T00:00:00Z"})
        now["plan"]["generation"] = generation
        report.write(now, target)
        assert json.loads((target / "report.json").read_text(encoding="utf-8"))["when"] == now["when"]
        assert all(line.isprintable() for line in report.since_lines(now, target))
        assert Page(report_fleet.write(tmp_path / "reports").read_text(encoding="utf-8")).open == []
    kept = history.read(target)
    assert len(kept.reports) + len(kept.unreadable) == 3
    assert all(line.isprintable() for line in report_swap.lines(kept.reports))
    (target / "report.json").write_text(json.dumps(bad), encoding="utf-8")
    report_fleet.write(tmp_path / "reports")


def test_what_a_run_ends_with(tmp_path: Path) -> None:
    """Verdict, stack, report and what to type next; of a broken host the first failure and its remedy."""
    page = tmp_path / "report.html"
    healthy = report.ending(made(tmp_path), page)
    assert healthy[0].startswith("box: ok (CPU stack; ") and healthy[1].startswith("  stack   OpenCV ")
    assert healthy[2:] == [f"  report  {page}", "  next    after any update: ./run pytest verify/ --hosts=box"]
    broken = made(tmp_path, "cpu", "box", unreadable)
    first = next(row for row in broken["checks"] if row["status"] == "fail")
    told = report.ending(broken, page)
    assert f"  first   {first['id']}: {first['actual']}" in told
    assert told[-1].strip().endswith(first["remediation"].split("\n")[-1])


def test_the_picture_of_the_stack(tmp_path: Path) -> None:
    """Each part stands on what it needs; a CPU host has its environments only, and one without a lock no picture."""
    layers = report_stack.layers(made(tmp_path, "gpu"))
    names = [[box.title.split(" ")[0] for box in layer] for layer in layers]
    assert names == [["opencv_cuda:", "dl4cv:"], ["CUDA", "cuDNN"], ["driver"], ["GeForce"]]
    assert {box.status for layer in layers for box in layer} == {"pass"}
    assert "loads the CUDA libraries of the host's toolkit" in layers[0][0].found
    assert [[box.status for box in layer] for layer in report_stack.layers(made(tmp_path, "cpu"))] == [
        ["pass", "pass"],
        [""],
    ]
    assert report_stack.layers(made(tmp_path, "cpu", "box", without_lock)) == []
    broken = made(tmp_path, "gpu")
    for check in broken["checks"]:
        if check["id"] == "driver.match":
            check.update(status="fail", actual="<b>the library is another</b>")
    assert [box.status for box in report_stack.layers(broken)[2]] == ["fail"]
    assert "&lt;b&gt;the library is another" in report_html.page(broken) and "<b>the library" not in report_html.page(
        broken
    )


@pytest.mark.parametrize(("id", "layer"), [("driver.module", 2), ("cudnn.installed", 1), ("gpu.present", 3)])
def test_whatever_failed_of_a_part_shows_in_its_box(tmp_path: Path, id: str, layer: int) -> None:
    """Beside the findings that always stand there; the other boxes stay as they are."""
    found = made(tmp_path, "gpu")
    (check,) = [check for check in found["checks"] if check["id"] == id]
    check.update(status="fail", actual="it is another")
    bad = [(at, box) for at, row in enumerate(report_stack.layers(found)) for box in row if box.status != "pass"]
    assert [(at, box.status, box.found[-1]) for at, box in bad] == [(layer, "fail", "it is another")]
