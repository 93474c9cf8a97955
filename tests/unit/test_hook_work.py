"""Behind the answer: a picture is detected, joined, counted and told; a storm, a failure or a leap of the clock is not
the end of it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem
from gpuhost.service import hook_settings
from gpuhost.service.form import Form, Unfit
from gpuhost.service.hook_forms import Sent
from gpuhost.service.hook_work import Hooks

from .loopback import Loopback

SIGNING = "a secret of enough bytes"


class Row(NamedTuple):
    """A detection, in pixels."""

    label: str
    score: float
    box: Tuple[float, float, float, float]


class Looked(NamedTuple):
    """What a detector answers."""

    found: Sequence[Row]
    width: int = 640
    height: int = 480


def jpeg(number: int) -> bytes:
    """A JPEG of 640x480 as far as its header goes; each number is another picture."""
    size = b"\xff\xc0\x00\x11\x08" + (480).to_bytes(2, "big") + (640).to_bytes(2, "big") + b"\x03" + b"\0" * 9
    scan = b"\xff\xda\x00\x0c" + b"\0" * 10 + str(number).encode("ascii")
    return b"\xff\xd8" + size + scan + b"\xff\xd9"


def sent(number: int, event: int = 1, camera: str = "1") -> Sent:
    """A picture as the form gives it."""
    return Sent(camera, event, f"frame {number}", number, jpeg(number))


def number_of(data: bytes) -> int:
    """Which picture that is."""
    return int(data[data.index(b"\xff\xda") + 14 : -2])


def passing(number: int) -> Looked:
    """A car that goes to the right, a tenth of the width each picture."""
    return Looked([Row("car", 0.9, (64.0 * number, 200.0, 128.0, 96.0))])


Detect = Callable[[bytes, Optional[str]], Awaitable[Any]]


def detector(looked: Callable[[int], Looked] = passing) -> Detect:
    """A detector that knows the pictures."""

    async def detect(data: bytes, model: Optional[str]) -> Looked:
        await asyncio.sleep(0)
        return looked(number_of(data))

    return detect


def hooks(folder: Path, detect: Detect, said: Optional[List[str]] = None, clock: Any = None, **given: Any) -> Hooks:
    """Hooks with a file of their own."""
    found = hook_settings.from_json({"database": str(folder / "counts.db"), **given})
    more: Dict[str, Any] = {} if clock is None else {"wall": clock, "monotonic": lambda: 100.0}
    return Hooks(found, detect, (said if said is not None else []).append, **more)


def ran(made: Hooks, *pictures: Sent) -> Hooks:
    """Hooks that have worked on some pictures, each before the next comes, and have ended."""

    async def work() -> None:
        for one in pictures:
            made.take("door", one)
            await made.idle()
        await made.close()

    asyncio.run(work())
    return made


def rows(made: Hooks) -> List[Tuple[str, str, str, int]]:
    """What was counted."""
    found = [(row.label, row.how, row.direction, row.objects) for row in made.counts.by_hour()]
    made.counts.close()
    return found


def test_pictures_become_an_alert_and_a_count(tmp_path: Path) -> None:
    """A motion event from its pictures to what a person reads and a receiver gets."""
    with Loopback() as server:
        alerts = [{"url": server.url, "secret": SIGNING}]
        made = hooks(tmp_path, detector(), alerts=alerts)

        async def work() -> None:
            for number in range(5):
                assert made.take("door", sent(number)) >= 1
            await made.idle()
            server_asked = await asyncio.get_running_loop().run_in_executor(None, server.wait, 1)
            assert len(server_asked) == 1
            await made.close()

        asyncio.run(work())
        told = json.loads(server.requests[0].body)
    assert rows(made) == [("car", "passed", "right", 1)]
    assert (told["device"], told["camera"], told["event"]) == ("door", "1", 1)
    assert told["objects"] == [{"label": "car", "score": 0.9, "box": [0.0, 0.41667, 0.2, 0.2]}]
    assert made.numbers()["pictures_looked_at"] == 5 and made.numbers()["alerts_dropped"] == 0


def test_a_replay_costs_no_look_and_counts_nothing_also_after_a_restart(tmp_path: Path) -> None:
    """What came before is known by the file."""
    first = ran(hooks(tmp_path, detector()), *(sent(number) for number in (0, 1, 2, 1, 0)))
    assert (first.again, first.looked_at) == (2, 3)
    again = ran(hooks(tmp_path, detector()), *(sent(number) for number in (0, 1, 2)))
    assert (again.again, again.looked_at) == (3, 0) and rows(again) == [("car", "passed", "right", 1)]


def test_a_storm_is_bounded_and_the_other_camera_gets_through(tmp_path: Path) -> None:
    """200 pictures in a moment, while the first one is looked at."""
    looked: List[int] = []

    async def work() -> Hooks:
        gate = asyncio.Event()

        async def detect(data: bytes, model: Optional[str]) -> Looked:
            await gate.wait()
            looked.append(number_of(data))
            return Looked([])

        made = hooks(tmp_path, detect, depth=16, per_camera=4)
        made.take("door", sent(1000, camera="quiet"))
        waiting = [made.take("door", sent(number, camera="storm")) for number in range(200)]
        assert max(waiting) <= 5
        gate.set()
        await made.idle()
        await made.close()
        return made

    made = asyncio.run(work())
    assert looked == [1000, 196, 197, 198, 199] and made.numbers()["pictures_dropped"] == 196


def test_a_picture_that_cannot_be_looked_at_is_named_and_the_next_has_its_turn(tmp_path: Path) -> None:
    """A damaged one, a device that fails."""
    said: List[str] = []

    async def detect(data: bytes, model: Optional[str]) -> Looked:
        if number_of(data) == 1:
            raise EnvironmentProblem("The device has gone.")
        return passing(number_of(data))

    made = ran(hooks(tmp_path, detect, said), *(sent(number) for number in range(3)))
    assert said == ["A picture of camera door/1 was not looked at: The device has gone."]
    assert (made.failed, made.looked_at) == (1, 2) and rows(made) == [("car", "passed", "right", 1)]


@pytest.mark.parametrize(
    "data", [b"GIF89a", b"<html>", b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0", jpeg(1)[:-2]]
)
def test_what_no_decoder_should_see_is_refused_at_once(data: bytes, tmp_path: Path) -> None:
    """38 bytes of WebP ask for 268 million pixels."""
    made = hooks(tmp_path, detector())
    with pytest.raises(Unfit, match="The picture "):
        made.checked(Form(data, "", {"camera": "1", "event": "1"}))
    assert made.checked(Form(jpeg(1), "", {"camera": "1", "event": "1"})).data == jpeg(1)


def test_large_pictures_that_wait_are_bounded_in_bytes(tmp_path: Path) -> None:
    """64 of the largest would be a gigabyte."""
    looked: List[int] = []

    async def work() -> None:
        gate = asyncio.Event()

        async def detect(data: bytes, model: Optional[str]) -> Looked:
            await gate.wait()
            looked.append(data[-1])
            return Looked([])

        made = hooks(tmp_path, detect, waiting_megabytes=1)
        for number in range(10):
            made.take("door", Sent(str(number), 1, str(number), None, bytes(400 << 10) + bytes([number])))
        gate.set()
        await made.idle()
        await made.close()

    asyncio.run(work())
    assert looked == [8, 9]


def test_a_fault_of_our_own_ends_nothing(tmp_path: Path) -> None:
    """An error that nobody expects, with a secret in it perhaps: its kind is said."""
    said: List[str] = []

    async def detect(data: bytes, model: Optional[str]) -> Looked:
        if number_of(data) == 0:
            raise KeyError("something inside")
        return passing(number_of(data))

    async def work() -> Hooks:
        made = hooks(tmp_path, detect, said)
        for number in range(4):
            made.take("door", sent(number))
        await made.idle()
        await made.close()
        return made

    made = asyncio.run(work())
    assert said == ["A picture of camera door/1 was not looked at: KeyError"] and made.looked_at == 3


def test_counts_that_cannot_be_written_are_said_once_and_alerts_go_on(tmp_path: Path) -> None:
    """A folder that is a file."""
    (tmp_path / "blocked").touch()
    said: List[str] = []
    with Loopback() as server:
        given = {"alerts": [{"url": server.url, "secret": SIGNING}], "database": str(tmp_path / "blocked" / "c.db")}
        made = hooks(tmp_path, detector(), said, **given)

        async def work() -> None:
            for number in range(4):
                made.take("door", sent(number))
            await made.idle()
            await asyncio.get_running_loop().run_in_executor(None, server.wait, 1)
            await made.close()

        asyncio.run(work())
    assert len(said) == 1 and "c.db cannot be" in said[0]
    assert made.numbers()["counts_waiting"] == 4 and made.looked_at == 4


def test_leaps_of_the_wall_clock_change_no_alert(tmp_path: Path) -> None:
    """By years, forth and back, within a cooldown: the monotonic clock decides."""
    leaps = iter([0.0, 2.0**31, 10.0, 4e9, 86400.0 * 365, 1.0] * 40)
    with Loopback() as server:
        made = hooks(
            tmp_path,
            detector(lambda number: Looked([Row("person", 0.9, (64.0 * (number % 2) * 5, 100.0, 50.0, 50.0))])),
            clock=lambda: next(leaps),
            alerts=[{"url": server.url, "secret": SIGNING}],
            rule={"cooldown_s": 60},
        )

        async def work() -> None:
            for number in range(20):
                made.take("door", sent(number, event=number))
                await made.idle()
            await asyncio.get_running_loop().run_in_executor(None, server.wait, 1)
            await made.close()

        asyncio.run(work())
        assert len(server.requests) == 1
    assert made.looked_at == 20
