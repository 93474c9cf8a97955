"""Two hundred seeded faults of an update that is booted once, on an imitation Ubuntu 18.04 (`faulty.py`).

`GPUHOST_FAULT_SEEDS=0-99` takes a part of them, so that they can be run in parts.
"""

from __future__ import annotations

import json
import os
from typing import Iterator, List

import pytest

from .controller import Json
from .faulty import End, Lives, drawn, table
from .fleet import HWE, World
from .test_update import NEXT
from .test_update_once import FIRST, ONCE, SECOND, moved_on

pytestmark = pytest.mark.full


#: The results of a run in full, to be read by a program.
AS_JSON = {"ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}


def seeds() -> range:
    """The seeds that are asked for."""
    first, _, last = os.environ.get("GPUHOST_FAULT_SEEDS", "0-199").partition("-")
    return range(int(first), int(last or first) + 1)


def asked(world: World) -> Json:
    """What the playbook asks of the module gpuhost_pair: read from a run that the host refuses before any change."""
    bed = world.beds["box"]
    bed.run(["sh", "-c", "echo lvm >/etc/grub-probe.abstraction"])
    said = world.controller.run(*ONCE, "-vvv", env=AS_JSON).out
    bed.run(["rm", "/etc/grub-probe.abstraction"])
    assert "GRUB cannot write to lvm" in said, said[-3000:]
    failed = said[said.index("box | FAILED! => {") :].partition("=> ")[2]
    return dict(json.JSONDecoder().raw_decode(failed)[0]["invocation"]["module_args"])


@pytest.fixture(scope="module")
def lives(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    """A provisioned host, an archive that has moved on, and the snapshots."""
    with moved_on(tmp_path_factory.mktemp("faults")) as made, Lives(
        made.beds["box"], asked(made), (FIRST, SECOND), (HWE, NEXT)
    ) as found:
        yield found


def test_seeded_faults(lives: Lives) -> None:
    """No host is left without a working pair, and none without an explanation."""
    print(f"\nan update is armed after {lives.armed_s:.0f} s, and proved {lives.trial_s:.0f} s later")
    ends: List[End] = []
    for seed in seeds():
        ends.append(lives.live(drawn(seed)))
        print(ends[-1].line(), flush=True)
    print(table(ends))
    assert [one.line() for one in ends if one.wrong or one.untold] == []


@pytest.mark.parametrize("part", ["boot", "prepared", "armed"])
def test_the_power_goes_at_each_call_that_changes_something(lives: Lives, part: str) -> None:
    """At each step of the switch of the default, at the boot that is judged and before it."""
    ends: List[End] = []
    while True:
        end = lives.cut(part, len(ends) + 1)
        if end is None:
            break
        ends.append(end)
        print(end.line(), flush=True)
    assert len(ends) > 8 and [one.line() for one in ends if one.wrong or one.untold] == []
