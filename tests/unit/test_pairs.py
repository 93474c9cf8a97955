"""Updates as proved pairs on a small imitation of a host: whatever fails, wherever the power goes, a pair works."""

from __future__ import annotations

import copy
import random
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from gpuhost.errors import EnvironmentProblem, RefusedError
from gpuhost.host.pairs import begin, judge, run

Json = Dict[str, Any]
OLD, NEW = "6.1.0-1-amd64", "6.1.0-2-amd64"
FIRST, SECOND = "550.1", "550.2"
#: What a new pair can be, beside right. Those of the kernel show on its own, those of the driver on any kernel.
OF_KERNEL = ("module missing", "module of another version", "unsigned", "panic", "hang", "judge hangs")
OF_DRIVER = ("card refused", "driver panics", "driver hangs")
#: What a host is left with. Panics and hangs end in a restart, by panic=, a watchdog or a hand.
ENDS = ("panic", "hang", "driver panics", "driver hangs")
#: How often the power may go before somebody complains.
MOST_BOOTS = 14


class PowerCut(Exception):
    """The power goes."""


class Restart(Exception):
    """The host restarts itself."""


class Kind(NamedTuple):
    """An update: the kernel and the driver that it comes to, and what is wrong with them ("" for nothing)."""

    kernel: str
    driver: str
    fault: str


class World:
    """A host: what its disk holds, what runs, and the steps of the update's own side, cut where the power goes."""

    def __init__(self, kind: Kind, cut: int = -1) -> None:
        """A host in order, and the tick at which the power goes once (-1: never)."""
        self.kind, self.cut, self.ticks = kind, cut, 0
        self.kept: Optional[Json] = None
        self.default, self.once = "", ""  # of an environment block without a choice
        self.kernels = [OLD]
        self.library, self.modules = FIRST, {OLD: FIRST}
        self.blocked = False
        self.running, self.loaded, self.boots, self.own_restarts = OLD, FIRST, 0, 0
        self.verdict: Optional[str] = None

    def tick(self) -> None:
        """One moment at which the power may go."""
        self.ticks += 1
        if self.ticks == self.cut:
            raise PowerCut

    def say(self, text: str) -> None:
        """Nobody listens."""

    # The disk

    def record(self) -> Optional[Json]:
        """The record."""
        return copy.deepcopy(self.kept)

    def save(self, record: Json) -> None:
        """The record is written whole or not at all."""
        self.tick()
        self.kept = copy.deepcopy(record)
        self.tick()

    def choose(self, default: str, once: str = "") -> None:
        """The environment block is written whole or not at all."""
        assert default in self.kernels and (not once or once in self.kernels)
        self.tick()
        self.default, self.once = default, once
        self.tick()

    def arm(self, record: Json) -> None:
        """The new kernel once."""
        self.choose(record["old"]["kernel"], record["new"]["kernel"])

    def pin(self, record: Json) -> None:
        """The old kernel."""
        self.choose(record["old"]["kernel"])

    def switch(self, record: Json) -> None:
        """The new kernel."""
        self.choose(record["new"]["kernel"])

    def block(self) -> None:
        """A file of modprobe's."""
        self.tick()
        self.blocked = True

    def load(self, record: Json) -> None:
        """The file goes, and the driver is loaded."""
        self.tick()
        self.blocked = False
        self.tick()
        self.modprobe()

    def install(self) -> None:
        """dpkg at work: the kernel, then the library and the modules of all kernels, one after the other."""
        kind = self.kind
        self.tick()
        if kind.kernel not in self.kernels:
            self.kernels.append(kind.kernel)
        self.tick()
        if self.library != kind.driver:
            self.library = "half"
            self.tick()
            self.library = kind.driver
        for kernel in self.kernels:
            self.tick()
            self.modules[kernel] = kind.driver
        if kind.fault == "module missing":
            self.modules.pop(kind.kernel, None)
        if kind.fault == "module of another version":
            self.modules[kind.kernel] = "470.1"
        self.tick()

    def restore(self, record: Json) -> None:
        """dpkg at work with the old packages, and the old kernel's module."""
        self.tick()
        self.library = "half"
        self.tick()
        self.library = record["old"]["version"]
        self.tick()
        self.modules[record["old"]["kernel"]] = record["old"]["version"]
        self.tick()

    # What runs

    def start(self) -> bool:
        """Start the machine; False where it ends before anybody can look."""
        self.boots += 1
        assert self.boots <= MOST_BOOTS, "it starts again and again"
        self.verdict = None
        # Without a choice, and for one that is gone, GRUB starts the first entry: the newest kernel.
        wanted = self.once or self.default
        self.running = wanted if wanted in self.kernels else self.kernels[-1]
        self.once = ""
        self.loaded = ""
        if self.running == self.kind.kernel != OLD and self.kind.fault in ("panic", "hang"):
            return False
        if not self.blocked:
            try:
                self.modprobe()
            except Restart:
                return False
        return True

    def modprobe(self) -> None:
        """Load what is there for the kernel that runs, unless something is loaded."""
        found = self.modules.get(self.running, "")
        unsigned = self.kind.fault == "unsigned" and self.running == self.kind.kernel
        if self.loaded or unsigned or not found:
            return
        if found == self.kind.driver != FIRST and self.kind.fault in ("driver panics", "driver hangs"):
            raise Restart
        self.loaded = found

    def wrong(self) -> str:
        """What is wrong with the pair that runs."""
        if not self.loaded:
            return "driver.loaded: nothing is loaded"
        if self.library != self.loaded:
            return f"driver.match: the library is {self.library}, loaded is {self.loaded}"
        want = self.kept["new" if self.kept["state"] == judge.TRYING else "old"]["version"] if self.kept else FIRST
        if self.loaded != want:
            return f"driver.loaded: {self.loaded} is loaded, the record has {want}"
        if self.kind.fault == "card refused" and self.loaded == self.kind.driver:
            return "cuda.answers: cuInit gave 100"
        return ""

    def look(self, record: Json) -> None:
        """Judge; a judge that hangs is ended by its deadline, which restarts the machine."""
        self.tick()
        if self.kind.fault == "judge hangs" and self.running == self.kind.kernel:
            raise Restart
        self.modprobe()
        self.verdict = self.wrong()

    def reboot(self) -> None:
        """Asked for by the host itself."""
        self.tick()
        self.own_restarts += 1
        raise Restart

    def boot(self) -> str:
        """What tells this boot from others."""
        return str(self.boots)

    def host(self, record: Json) -> judge.Host:
        """What the host says."""
        old = record["old"]
        in_place = self.library == old["version"] == self.modules.get(old["kernel"])
        once = self.once or None
        return judge.Host(self.running, self.boot(), self.default or None, once, in_place, self.blocked, self.verdict)


def pair(kernel: str, version: str) -> Json:
    """A pair as a record has it."""
    return {"kernel": kernel, "version": version}


def typed(world: World) -> None:
    """`playbooks/update.yml` with update_once, up to the boot that decides."""
    old, new = pair(OLD, FIRST), pair(world.kind.kernel, world.kind.driver)
    record = begin.prepare(world, old, new)  # type: ignore[arg-type]
    if record["state"] == judge.PREPARED:
        world.install()
        begin.arm(world, record)  # type: ignore[arg-type]
    raise Restart


def booted(world: World) -> None:
    """Start until something is left running that has settled."""
    while True:
        while not world.start():
            pass
        try:
            run.settle(world)  # type: ignore[arg-type]
            return
        except (PowerCut, Restart):
            continue


def lived(world: World) -> World:
    """The update is typed, and again where it was cut off; the host is left to itself in between."""
    for _ in range(3):
        try:
            typed(world)
        except (PowerCut, Restart):
            booted(world)
        except RefusedError:
            break
        if world.kept is not None and world.kept["state"] == judge.PROVED:
            break
    return world


def works(world: World) -> str:
    """Assert that a whole pair runs, that the same would boot next, and that it is told why; return the state."""
    record = world.record()
    assert record is not None
    state = str(record["state"])
    assert state in (judge.PROVED, judge.UNDONE)
    kept = record["new" if state == judge.PROVED else "old"]
    assert (world.running, world.loaded, world.library) == (kept["kernel"], kept["version"], kept["version"])
    assert not world.blocked and not world.once
    assert world.default == kept["kernel"] or record["old"]["kernel"] == record["new"]["kernel"]
    assert bool(judge.told(record)) == (state == judge.UNDONE)
    assert state == judge.PROVED or record["reason"] in judge.told(record)
    assert "not back" not in judge.told(record)
    return state


KINDS = [
    Kind(NEW, driver, fault)
    for driver in (FIRST, SECOND)
    for fault in ("", *OF_KERNEL, *(OF_DRIVER if driver == SECOND else ()))
] + [Kind(OLD, SECOND, fault) for fault in ("", *OF_DRIVER)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.kernel}-{kind.driver}-{kind.fault or 'right'}")
def test_what_is_right_is_kept_and_what_is_wrong_is_undone(kind: Kind) -> None:
    """Without a hand, and with at most two restarts of the host's own."""
    world = lived(World(kind))
    assert works(world) == (judge.UNDONE if kind.fault else judge.PROVED)
    assert world.own_restarts <= 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.kernel}-{kind.driver}-{kind.fault or 'right'}")
def test_a_power_cut_at_each_step(kind: Kind) -> None:
    """At every write of every step, the switch of the default among them."""
    whole = lived(World(kind)).ticks
    assert whole > 8
    for cut in range(1, whole + 1):
        state = works(lived(World(kind, cut)))
        assert state == judge.UNDONE or not kind.fault, cut


def test_two_hundred_seeded_faults() -> None:
    """A fault and a power cut at random steps: no host without a working pair, none without an explanation."""
    states: List[Tuple[str, str]] = []
    for seed in range(200):
        chance = random.Random(seed)  # noqa: S311 - faults, not secrets
        kind = chance.choice(KINDS)
        cut = chance.randint(1, lived(World(kind)).ticks)
        states.append((kind.fault, works(lived(World(kind, cut)))))
    assert {state for _, state in states} == {judge.PROVED, judge.UNDONE}
    assert all(state == judge.UNDONE for fault, state in states if fault)


def test_the_same_pair_is_not_tried_again_without_being_asked() -> None:
    """With the reason in the refusal; asked, it is."""
    world = lived(World(Kind(NEW, FIRST, "panic")))
    with pytest.raises(RefusedError, match=r"did not come up.*Nothing was changed"):
        begin.prepare(world, pair(OLD, FIRST), pair(NEW, FIRST))  # type: ignore[arg-type]
    assert begin.prepare(world, pair(OLD, FIRST), pair(NEW, FIRST), True)["state"] == judge.PREPARED  # type: ignore[arg-type]


def test_an_update_that_was_only_cut_off_may_go_on() -> None:
    """The installation was half done: the old driver is put back, and nobody has to ask for the second attempt."""
    kind = Kind(NEW, SECOND, "")
    world = World(kind)
    ticks = counted(world, lambda: world.library == "half")
    cut = World(kind, ticks)
    with pytest.raises(PowerCut):
        typed(cut)
    booted(cut)
    assert works(cut) == judge.UNDONE and not (cut.record() or {})["armed"]
    assert works(lived(cut)) == judge.PROVED


def test_a_cut_before_any_package_has_changed_leaves_the_old_driver_loaded() -> None:
    """Although it was kept from loading for the sake of the new one, and nobody types the update again."""
    kind, seen = Kind(NEW, SECOND, ""), 0
    for cut in range(1, lived(World(kind)).ticks):
        world = World(kind, cut)
        with pytest.raises((PowerCut, Restart)):
            typed(world)
        booted(world)
        record = world.record()
        if record is not None and record["state"] == judge.PREPARED:
            seen += world.library == FIRST
            assert (world.running, world.loaded, world.blocked) == (OLD, FIRST, False), cut
    assert seen > 3


def counted(world: World, when: Callable[[], bool]) -> int:
    """The first tick at which something holds."""
    tick, found = world.tick, []

    def watched() -> None:
        """Note it."""
        tick()
        if when() and not found:
            found.append(world.ticks)

    world.tick = watched  # type: ignore[method-assign]
    with pytest.raises(Restart):
        typed(world)
    return found[0]


def test_a_pair_on_trial_is_not_begun_again() -> None:
    """Whoever types the command meanwhile is told to wait."""
    world = World(Kind(NEW, FIRST, ""))
    record = judge.noted(judge.fresh(pair(OLD, FIRST), pair(NEW, FIRST), "0"), judge.Step(judge.TRY), "0")
    world.save(record)
    with pytest.raises(EnvironmentProblem, match="is being judged"):
        begin.prepare(world, pair(OLD, FIRST), pair(NEW, FIRST))  # type: ignore[arg-type]


def hosts(**more: Any) -> judge.Host:
    """A host after another boot, in which the old kernel runs."""
    return judge.Host(**{**dict(running=OLD, boot="2", default=OLD, once=None, in_place=True, blocked=False), **more})


def steps() -> Iterator[Tuple[str, Json, judge.Host, str, str]]:
    """Rare ways, each with what is done and why."""
    record = judge.armed(judge.fresh(pair(OLD, FIRST), pair(NEW, FIRST), "1"), "1")
    done = judge.noted(record, judge.Step(judge.UNDO, "why"), "2")
    begun = {**record, "state": judge.PREPARED}
    yield "cut off before the driver changed", begun, hosts(blocked=True), judge.LOAD, ""
    yield "the loader passed it by", record, hosts(once=NEW), judge.UNDO, "did not start kernel"
    yield "somebody started a third kernel", record, hosts(running="5.9"), judge.UNDO, "another kernel"
    yield "and stays there", done, hosts(running="5.9"), judge.REST, ""
    yield "not rebooted yet", record, hosts(boot="1", once=NEW), judge.REST, ""
    yield "no way back", {**done, "restarts": 2}, hosts(running=NEW), judge.REST, ""
    yield "packages that cannot be put back", {**done, "restores": 2}, hosts(in_place=False), judge.REST, ""
    yield "GRUB's block was lost", done, hosts(default=NEW), judge.PIN, ""
    yield "the entry for one boot is still there", done, hosts(once=NEW), judge.PIN, ""
    trying = judge.noted(record, judge.Step(judge.TRY), "1")
    yield "cut off while it was judged", trying, hosts(running=NEW), judge.TRY, ""
    yield "and once more", judge.noted(trying, judge.Step(judge.TRY), "1"), hosts(running=NEW), judge.UNDO, "restarted"
    alone = {**trying, "new": pair(OLD, SECOND)}
    yield "a driver alone leads nowhere else", alone, hosts(), judge.UNDO, "restarted while"
    yield "a choice at the menu afterwards", {**record, "state": judge.PROVED}, hosts(), judge.REST, ""


@pytest.mark.parametrize(
    ("record", "host", "name", "why"), [one[1:] for one in steps()], ids=[one[0] for one in steps()]
)
def test_rare_ways(record: Json, host: judge.Host, name: str, why: str) -> None:
    """One step each."""
    one = judge.step(record, host)
    assert one.name == name and why in one.why


def test_what_is_told_while_the_old_pair_is_not_back() -> None:
    """With what keeps it."""
    record = judge.noted(judge.fresh(pair(OLD, FIRST), pair(NEW, SECOND), "1"), judge.Step(judge.UNDO, "it broke"), "2")
    assert judge.told({**record, "failed": "no space"}).endswith("it broke; the old pair is not back (no space).")
