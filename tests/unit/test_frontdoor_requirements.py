"""The pinned sets: one for each Python, every package with hashes, the promised ansible-core, no index named."""

import re
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
# The newest series that suits each Python; 2.16 and older manage a host that has Python 3.6.
CORES = {
    "py38": (2, 13), "py39": (2, 15), "py310": (2, 16), "py311": (2, 16), "py312": (2, 16), "py313": (2, 19),
    "py314": (2, 19), "lint": (2, 16),
}  # fmt: skip
CORES.update({f"user-{name}": core for name, core in CORES.items() if name != "lint"})
SETS = sorted([*CORES, "pip", "service"])
#: What a user's commands do without; numpy comes with nothing else.
NOT_A_USERS = (
    "hypothesis",
    "numpy",
    "onnxruntime",
    "opencv-contrib-python-headless",
    "openvino",
    "pytest-xdist",
    "vermin",
)


def rows(name):
    """The requirements of a set, each with its continuation lines joined."""
    text = (REQUIREMENTS / (name + ".txt")).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_there_is_a_set_for_each_python_and_no_other():
    assert sorted(path.stem for path in REQUIREMENTS.glob("*.txt")) == SETS


@pytest.mark.parametrize("name", SETS)
def test_every_package_is_pinned_by_hash_and_no_index_is_named(name):
    assert rows(name)
    for row in rows(name):
        assert re.match(r"[a-z0-9-]+==[0-9][^ ]* .*--hash=sha256:[0-9a-f]{64}", row), row
        assert "://" not in row


@pytest.mark.parametrize("name", sorted(name for name in CORES if name.startswith("user-")))
def test_a_users_set_is_part_of_the_full_one_without_engines_and_tools_of_the_tests(name):
    """The same versions and hashes, so that nothing changes for a user when the rest is added."""
    own, full = set(rows(name)), set(rows(name[len("user-") :]))
    assert own < full
    assert {row.partition("==")[0] for row in full - own} >= set(NOT_A_USERS)


@pytest.mark.parametrize("name", sorted(CORES))
def test_ansible_core_is_of_the_promised_series(name):
    core = re.search(r"^ansible-core==(\d+)\.(\d+)\.", "\n".join(rows(name)), re.M)
    got = (int(core.group(1)), int(core.group(2)))
    assert got >= CORES[name] if name.endswith(("py313", "py314")) else got == CORES[name]
