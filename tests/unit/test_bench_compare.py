"""Two reports checked against each other: the ratio, the words, and what is refused."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.cli import main as cli
from gpuhost.errors import RefusedError, UsageError
from gpuhost.report import bench_picture
from gpuhost.yolo import bench_compare


def report(mean: float, seed: int, device: str = "cpu") -> Dict[str, Any]:
    """A report of one model with 192 times around `mean` seconds."""
    times = np.random.RandomState(seed).normal(mean, mean / 20, 192).round(7).tolist()
    entry = {
        "model": "yolov3",
        "size": 416,
        "device": device,
        "precision": "fp32",
        "complete": True,
        "cfg": {"sha256": "c" * 64},
        "weights": {"kind": "synthetic", "sha256": "a" * 64},
        "warm_up": {"runs": 6, "seconds": 1.0, "settled": True},
        "headline": {"photos": 192, "total_s": sum(times), "mean_s": sum(times) / 192},
        "per_photo_s": {"mean": sum(times) / 192, "mean_ci95": [mean * 0.99, mean * 1.01]},
        "stages_s": {name: {"mean": mean / 5} for name in ("read", "decode", "blob", "forward", "post")},
        "samples_s": {"total": times, "forward": times, "of_each": 1},
        "offline": {
            "batch": 8,
            "mean_s": mean,
            "outside_forward": 0.1,
            "photos_per_s_ci95": [0.9 / mean, 1.1 / mean],
            "samples_s": {"mean": times[:24], "of_each": 1},
        },
        "sampled": {"flags": {"stolen": False, "throttled": None, "power_capped": None}},
    }
    return {
        "schema": 1,
        "environment": {"opencv": "4.14.0", "cpu": "Xeon", "load_average_before": [float(seed), 0.0, 0.0]},
        "photos": {"kind": "made", "count": 192, "sha256": "b" * 64},
        "models": [entry],
    }


def changed(found: Dict[str, Any], path: str, value: Any) -> Dict[str, Any]:
    """The report with one value replaced."""
    found = copy.deepcopy(found)
    at: Any = found
    *way, last = path.split(".")
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[int(last) if isinstance(at, list) else last] = value
    return found


OLD, NEW = report(0.23, 1), report(0.039, 2, "cuda")


def test_the_new_card_was_worth_it() -> None:
    """5.9 times, with an interval that holds the true ratio; what differs is said, the load is not."""
    found = bench_compare.compare(OLD, changed(NEW, "environment.opencv", "4.10.0"))
    (row,) = found["models"]
    assert row["single"]["ratio"] == pytest.approx(0.23 / 0.039, rel=0.02)
    low, high = row["single"]["ci95"]
    assert low < 0.23 / 0.039 < high and high - low < 0.25
    assert row["single"]["verdict"].startswith("B is 5.9 times faster (5.")
    assert row["offline"]["ratio"] == pytest.approx(5.9, rel=0.05)
    assert found["differences"] == [{"what": "opencv", "a": "4.14.0", "b": "4.10.0"}]
    text = bench_compare.as_text(found)
    assert "yolov3 (A on cpu, B on cuda)" in text and "opencv  4.14.0 -> 4.10.0" in text


@pytest.mark.parametrize(
    ("ratio", "ends", "words"),
    [
        (5.94, [5.71, 6.12], "B is 5.9 times faster (5.7 to 6.1)"),
        (1.25, [1.2, 1.31], "B is 1.25 times faster (1.20 to 1.31)"),
        (0.25, [0.2, 0.4], "B is 4.0 times slower (2.5 to 5.0)"),
        (1.01, [0.97, 1.05], "no difference is certain: B is 1.01 times as fast as A (0.97 to 1.05)"),
        (2.5, None, "B is 2.5 times faster (too few times for an interval)"),
    ],
)
def test_the_verdict(ratio: float, ends: Any, words: str) -> None:
    """In words, both ways round."""
    assert bench_compare.verdict({"ratio": ratio, "ci95": ends}) == words


def test_the_same_machine_twice_is_no_difference() -> None:
    """Two samples of the same times."""
    found = bench_compare.compare(report(0.2, 3), report(0.2, 4))
    assert "no difference is certain" in found["models"][0]["single"]["verdict"]
    assert found["differences"] == []


REFUSALS: List[Tuple[str, Any, str]] = [
    ("models.0.size", 608, "input sizes differ, 416 and 608"),
    ("models.0.weights.kind", "real", "kinds of weights differ, synthetic and real"),
    ("models.0.weights.sha256", "d" * 64, "weights differ, aaaaaaaaaaaa and dddddddddddd"),
    ("models.0.cfg.sha256", "d" * 64, "network descriptions differ"),
    ("photos.kind", "given", "photos are made in A and given in B"),
]


@pytest.mark.parametrize(("path", "value", "words"), REFUSALS)
def test_other_work_is_refused_unless_asked_for(path: str, value: Any, words: str) -> None:
    """With the reason; --anyway gives the figure and says in its first line what it is worth."""
    other = changed(NEW, path, value)
    with pytest.raises(RefusedError, match=words) as caught:
        bench_compare.compare(OLD, other)
    assert "--anyway" in caught.value.next_step
    found = bench_compare.compare(OLD, other, anyway=True)
    assert not found["comparable"] and bench_compare.as_text(found).startswith("NOT THE SAME WORK: ")


def test_no_model_in_common_is_refused_in_any_case() -> None:
    """There is nothing to divide."""
    with pytest.raises(RefusedError, match="no measured model in common: yolov3 in A, yolov4 in B"):
        bench_compare.compare(OLD, changed(NEW, "models.0.model", "yolov4"), anyway=True)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("models.0.complete", False, "cut short"),
        ("models.0.warm_up.settled", False, "not steady"),
        ("models.0.sampled.flags.throttled", True, "throttled"),
        ("models.0.sampled.flags.stolen", True, "hypervisor"),
        ("models.0.precision", "fp16", "A computed in fp32, B in fp16"),
        ("photos.count", 96, "A has 192 photos and B 96"),
        ("photos.sha256", "e" * 64, "different JPEG encoders"),
    ],
)
def test_what_makes_a_ratio_less_sure_is_told(path: str, value: Any, words: str) -> None:
    """As a note, not as a refusal."""
    assert any(words in note for note in bench_compare.compare(OLD, changed(NEW, path, value))["notes"])
    assert not any(words in note for note in bench_compare.compare(OLD, NEW)["notes"])


def test_ways_that_only_one_side_has_are_left_out() -> None:
    """A run of the pipeline alone against one of single photos alone."""
    only = copy.deepcopy(NEW)
    del only["models"][0]["offline"]
    found = bench_compare.compare(OLD, only)["models"][0]
    assert found["offline"] is None and found["single"] is not None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2, "models": [], "environment": {}}', "\udcff"])
def test_what_is_no_report_is_a_mistake(content: str, tmp_path: Path) -> None:
    """Not a traceback."""
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"a\.json"):
        bench_compare.load(path)
    with pytest.raises(UsageError, match="There is no"):
        bench_compare.load(tmp_path / "none.json")


@pytest.fixture(name="written")
def two_files(tmp_path: Path) -> Callable[..., List[str]]:
    """Writes reports; their paths."""

    def write(*reports: Any) -> List[str]:
        paths = [tmp_path / f"{name}.json" for name, _ in zip("abc", reports)]
        for path, found in zip(paths, reports):
            path.write_text(json.dumps(found), encoding="utf-8")
        return [str(path) for path in paths]

    return write


def test_the_command(written: Callable[..., List[str]], capsys: pytest.CaptureFixture[str]) -> None:
    """Words, JSON, and a refusal with exit code 3; nothing of a report moves the cursor."""
    hostile = changed(NEW, "environment.cpu", "evil\x1b[2J")
    assert cli.main(["bench", "compare", *written(OLD, hostile)]) == 0
    out = capsys.readouterr().out
    assert "5.9 times faster" in out and "\x1b" not in out and "evil" in out
    assert cli.main(["bench", "compare", "--json", *written(OLD, NEW)]) == 0
    assert json.loads(capsys.readouterr().out)["comparable"] is True
    other = written(OLD, changed(NEW, "models.0.size", 608))
    assert cli.main(["bench", "compare", *other]) == 3
    err = " ".join(capsys.readouterr().err.split())
    assert "not about the same work" in err and "--anyway" in err
    assert cli.main(["bench", "compare", "--anyway", *other]) == 0


BAD = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1e308, 1e-320, 2**63 - 1, 10**400, math.nan, math.inf, "", "\x1b[2J", "9" * 5000, [], {}])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, at: str = "") -> List[str]:
    """The way to each place in a report, as `changed` takes it; of a list only the first item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [at] if at else []
    for key, inner in items:
        if key == 0 or not isinstance(key, int):
            found += places(inner, f"{at}.{key}".lstrip("."))
    return found


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.sampled_from(places(OLD)), value=BAD)
def test_any_field_of_a_report_from_elsewhere_is_used_or_refused(
    written: Callable[..., List[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], at: str, value: Any
) -> None:
    """Both commands that read it: an answer or a sentence, short, and nothing that moves the cursor."""
    paths = written(changed(OLD, at, value), NEW)
    picture = tmp_path / "out.svg"
    codes = [
        cli.main(["bench", "compare", "--anyway", *paths]),
        cli.main(["bench", "picture", *paths, "-o", str(picture)]),
    ]
    assert set(codes) <= {0, 2, 3}
    out, err = capsys.readouterr()
    assert all(char.isprintable() or char == "\n" for char in out + err)
    assert len(out + err) < 20_000
    if picture.exists():
        ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - made here


# ---- the picture ----------------------------------------------------------------------------------------------------


def test_the_picture_holds_every_bar_and_the_reference(
    written: Callable[..., List[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Well-formed, self-contained, everything from a report escaped."""
    hostile = changed(NEW, "models.0.device", '<script>alert("x")</script>\x1b&')
    target = tmp_path / "deep" / "out.svg"
    assert cli.main(["bench", "picture", *written(OLD, hostile), "-o", str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    assert "<script" not in text and "\x1b" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    root = ElementTree.fromstring(text)  # noqa: S314 - made here
    labels = ["".join(found.itertext()) for found in root.iter("{http://www.w3.org/2000/svg}text")]
    for part in ("a: yolov3 at 416 on cpu, synthetic weights: 2", "b: yolov3", "Quadro P2000: 39.0 ms", "750 Ti"):
        assert any(part in label for label in labels), part
    ends = [
        float(rect.get("x", 0)) + float(rect.get("width", "0").rstrip("%")) for rect in root.iter() if rect.get("y")
    ]
    assert max(ends) <= bench_picture.WIDTH
    assert "picture: " in capsys.readouterr().out


def test_the_key_fits(written: Callable[..., List[str]]) -> None:
    """It goes on in a second row, and shows only what the bars do."""
    both = changed(OLD, "models.0.baseline", {"device": "cpu", "per_photo_s": OLD["models"][0]["per_photo_s"]})
    key = bench_picture.key_of(bench_picture.bars("a", both))
    assert [entry["name"] for entry in key] == ["read", "decode", "blob", "forward", "post", "rest", "loop", "old"]
    assert key[-1]["y"] > key[0]["y"]
    alone = copy.deepcopy(OLD)
    del alone["models"][0]["offline"]
    assert "rest" not in [entry["name"] for entry in bench_picture.key_of(bench_picture.bars("a", alone))]


def test_a_picture_of_nothing_and_of_another_kind_are_mistakes(
    written: Callable[..., List[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no file."""
    empty = {**OLD, "models": []}
    assert cli.main(["bench", "picture", *written(empty), "-o", str(tmp_path / "a.svg")]) == 2
    assert cli.main(["bench", "picture", *written(OLD), "-o", str(tmp_path / "a.png")]) == 2
    assert not list(tmp_path.glob("a.[sp]*g"))
    assert "SVG" in capsys.readouterr().err


def test_the_picture_is_told_as_json(
    written: Callable[..., List[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is and what it was drawn of; an error in the same form."""
    paths, picture = written(OLD, NEW), tmp_path / "a.svg"
    assert cli.main(["bench", "picture", *paths, "-o", str(picture), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"picture": str(picture), "reports": paths}
    assert picture.exists()
    assert cli.main(["bench", "picture", *paths, "-o", str(tmp_path / "a.png"), "--json"]) == 2
    assert "SVG" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_two_files_of_one_name_are_told_apart() -> None:
    """By their folders."""
    assert bench_picture.titled([Path("/x/one/bench.json"), Path("/x/two/bench.json")]) == ["one/bench", "two/bench"]
    assert bench_picture.titled([Path("/x/one/a.json"), Path("/x/two/b.json")]) == ["a", "b"]


def test_a_folder_stands_for_its_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By their names, whatever the order of the folder; an empty one is a mistake."""
    folder, picture = tmp_path / "benchmarks", tmp_path / "history.svg"
    folder.mkdir()
    assert cli.main(["bench", "picture", str(folder), "-o", str(picture)]) == 2
    assert "no report in the folder" in capsys.readouterr().err
    for name in ("0010-b", "0002-a", "0003-c"):
        (folder / f"{name}.json").write_text(json.dumps(OLD), encoding="utf-8")
    (folder / "note.txt").write_text("not a report", encoding="utf-8")
    assert cli.main(["bench", "picture", str(folder), "-o", str(picture)]) == 0
    text = picture.read_text(encoding="utf-8")
    assert 0 < text.index("0002-a: ") < text.index("0003-c: ") < text.index("0010-b: ")
