"""tools/lock_environment.py without a network: pip's report read, and what an older Python would refuse."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

TOOL = Path(__file__).parents[2] / "tools" / "lock_environment.py"
SPEC = importlib.util.spec_from_file_location("lock_environment", str(TOOL))
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

HERE = {"python_version": "3.8", "python_full_version": "3.8.18", "sys_platform": "linux"}


def item(name, version, file, **metadata):
    """Make one entry of pip's installation report, as pip writes it."""
    return {
        "download_info": {
            "url": f"https://files.invalid/aa/{file}#x",
            "archive_info": {"hashes": {"sha256": "d" * 64}},
        },
        "metadata": {"name": name, "version": version, **metadata},
    }


def report(*items):
    """Make a whole report around some entries."""
    return {"version": "1", "pip_version": "25.0.1", "install": list(items), "environment": HERE}


def test_the_address_stays_out_of_the_lock():
    """Only the file's name is taken over, decoded; where it was fetched from is nobody's promise."""
    rows = tool.read_report(report(item("A.b", "1+cu", "a_b-1%2Bcu-py3-none-any.whl")))
    assert rows[0]["file"] == "a_b-1+cu-py3-none-any.whl"
    assert "invalid" not in json.dumps(rows)


def test_rows_are_normalised_and_sorted():
    """Projects spell their names in their own way; the lock has one order and says what is not a wheel."""
    rows = tool.read_report(
        report(
            item("termcolor", "1.1.0", "termcolor-1.1.0.tar.gz"),
            item("Keras_Applications", "1.0", "k-1.0-py3-none-any.whl"),
        )
    )
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("keras-applications", "wheel"),
        ("termcolor", "sdist"),
    ]


@pytest.mark.parametrize(
    ("file", "glibc"),
    [
        ("a-1-cp38-cp38-manylinux2010_x86_64.whl", "2.12"),
        ("a-1-cp38-cp38-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "2.17"),
        ("a-1-cp311-cp311-manylinux1_x86_64.manylinux_2_28_x86_64.manylinux_2_5_x86_64.whl", "2.5"),
        ("a-1-cp37-abi3-manylinux_2_28_x86_64.whl", "2.28"),
        ("a-1-py3-none-any.whl", None),
    ],
)
def test_the_glibc_of_a_wheel_is_the_lowest_that_runs_it(file, glibc):
    """A wheel with several tags fits where any one of them does."""
    assert tool.wheel_glibc(file) == glibc


def test_the_glibc_of_a_lock_is_compared_as_a_number():
    """2.5 is older than 2.17, whatever their letters say."""
    files = [
        "a-1-cp38-cp38-manylinux1_x86_64.whl",
        "b-1-cp38-cp38-manylinux2014_x86_64.whl",
        "c-1-py3-none-any.whl",
    ]
    rows = [{"file": file, "kind": "wheel"} for file in files] + [{"file": "d-1.tar.gz", "kind": "sdist"}]
    assert tool.highest_glibc(rows) == "2.17"


@given(st.integers(5, 40), st.integers(5, 40))
def test_pip_is_held_to_the_targets_glibc(limit, asked):
    """The module that pip reads (PEP 600) admits exactly the tags of the target's glibc or an older one."""
    scope = {}
    exec(tool.GLIBC_LIMIT.format(glibc=f"2.{limit}", pair=(2, limit)), scope)  # noqa: S102 - our own text
    assert scope["manylinux_compatible"](2, asked, "x86_64") == (asked <= limit)
    assert not scope["manylinux_compatible"](2, 5, "aarch64")


def test_an_older_patch_release_of_python_may_be_refused():
    """Ubuntu 18.04 has 3.8.0: a package that wants 3.8.1 would stop its pip, although 3.8.18 resolved it."""
    one = report(item("late", "1", "late-1-py3-none-any.whl", requires_python=">=3.8.1"))
    assert tool.target_objections(one, "3.8.18") == []
    assert tool.target_objections(one, "3.8.0") == ["late 1 needs Python >=3.8.1"]


def test_a_marker_on_the_patch_release_is_noticed():
    """A dependency that only one of the two Pythons asks for would be missing or left over on the target."""
    needs = [
        'shim; python_full_version < "3.8.2"',
        'other; python_version < "3.9"',
        'more; extra == "dev"',
        "plain",
    ]
    one = report(item("a", "1", "a-1-py3-none-any.whl", requires_dist=needs))
    assert tool.target_objections(one, "3.8.18") == []
    assert len(tool.target_objections(one, "3.8.0")) == 1
    assert "shim" in tool.target_objections(one, "3.8.0")[0]


class FakeBench:
    """Stands in for an environment with pip: answers with recorded reports and keeps what was asked."""

    def __init__(self, *reports):
        """Give these reports, one a call."""
        self.reports = list(reports)
        self.asked = []

    def pip(self, *arguments):
        """Answer `pip install --report`."""
        self.asked.append(arguments)
        return json.dumps(self.reports.pop(0))

    resolve = tool.Bench.resolve


def test_an_sdist_brings_its_build_tools():
    """Only when there is an sdist does the lock need setuptools and wheel; they are asked for once."""
    wheel, sdist = item("a", "1", "a-1-py3-none-any.whl"), item("b", "1", "b-1.tar.gz")
    plain = FakeBench(report(wheel))
    plain.resolve(["pip", "a==1"], Path("constraints.txt"))
    assert len(plain.asked) == 1
    mixed = FakeBench(report(wheel, sdist), report(wheel, sdist))
    mixed.resolve(["pip", "a==1"], Path("constraints.txt"))
    assert mixed.asked[1][-4:] == ("pip", "a==1", "setuptools", "wheel")


def test_a_failing_command_is_told_with_its_end(tmp_path):
    """An interpreter that is not there to use ends the script with the command's own last words."""
    bench = tool.Bench.__new__(tool.Bench)
    bench.env = {}
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\necho no such version\nexit 3\n", encoding="utf-8")
    script.chmod(0o755)
    bench.python = str(script)
    with pytest.raises(tool.LockingError, match=r"ended with 3\.\nno such version"):
        bench.run("-V")


def command_line(tmp_path, **other):
    """Make a complete command line, with some of its values replaced."""
    values = {"interpreter": sys.executable, "glibc": "2.27", "output": str(tmp_path), **other}
    what = ["--environment", "dl4cv", "--requirement", "tensorflow==2.4.4", "--python", "3.8"]
    return what + [word for key, value in values.items() for word in (f"--{key}", value)]


def test_constraints_add_up(tmp_path):
    """An old TensorFlow needs several caps at once."""
    caps = ["--extra-constraint", "protobuf<4", "--extra-constraint", "h5py<3"]
    assert tool.parse(command_line(tmp_path) + caps).extra_constraint == ["protobuf<4", "h5py<3"]


@pytest.mark.parametrize(("key", "value"), [("output", "nowhere"), ("interpreter", "python0"), ("glibc", "2")])
def test_a_wrong_value_is_told_before_anything_is_fetched(tmp_path, capsys, key, value):
    """The downloads take minutes: what is wrong with the command line is said first, with its option."""
    with pytest.raises(SystemExit) as ended:
        tool.parse(command_line(tmp_path, **{key: value}))
    assert ended.value.code == 2
    assert f"--{key} {value}" in capsys.readouterr().err


def test_every_environment_has_a_component_and_a_proof():
    """The component follows from the environment, so it cannot be mistyped."""
    assert (
        set(tool.COMPONENTS)
        == set(tool.PROOFS)
        == {
            "dl4cv",
            "opencv_cuda",
            "opencv_cuda_engines",
            "opencv_build",
            "service",
        }
    )
    assert set(tool.BESIDES) < set(tool.COMPONENTS)
