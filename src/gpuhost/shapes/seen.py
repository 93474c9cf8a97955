"""What is collected of one host, and what is expected of it: the value that checks and diagnoses judge.

A part that a check needs is there when the check is made, because the checks before it have passed (`Check.needs`): of
what can be missing until then, the types name only what is there.
"""

from typing import Any, Dict, List, Optional, TypedDict, Union, final

from .answers import BenchmarkAnswer, CudaAnswer, EnvironmentAnswer, Machine, ServiceAnswer, Surroundings
from .lock import DriverBounds, Lock
from .report import Benchmark


class AskedOptions(TypedDict):
    """What the user asked of verify/."""

    require_gpu: bool
    benchmark: bool
    images: Optional[str]
    photos: int
    again: bool
    full: bool
    seconds: Optional[float]


class LockProblem(TypedDict):
    """Why there is no lock."""

    message: str
    next_step: str
    missing: bool


class LockRead(TypedDict):
    """A lock, or why there is none."""

    lock: Optional[Lock]
    lock_error: Optional[LockProblem]


@final
class Unlocked(TypedDict):
    """An environment that the lock does not have."""

    name: str
    error: str


class _ExpectedPackages(TypedDict):
    name: str
    digest: Optional[str]
    packages: Dict[str, str]


@final
class ExpectedPackages(_ExpectedPackages, total=False):
    """What an environment must hold, and may hold as well (`left`); no digest where OpenCV is built on the host."""

    left: Dict[str, str]


ExpectedEnvironment = Union[Unlocked, ExpectedPackages]


class _Expected(TypedDict):
    platforms: List[str]
    #: The catalog's row, as `checks.sources` takes it; None for an unknown platform.
    platform: Optional[Dict[str, Any]]
    in_force: Optional[Lock]


class Expected(_Expected, total=False):
    """What a host has to be (`verification.expected`); without a lock only the first three."""

    environments: Dict[str, ExpectedEnvironment]
    device: str
    cuda: Optional[DriverBounds]
    tensorflow: Dict[str, str]
    sonames: List[str]


class _Seen(TypedDict):
    host: str
    options: AskedOptions
    lock: Lock
    lock_error: Optional[LockProblem]
    machine: Machine
    expected: Expected
    earlier: Optional[Benchmark]
    environments: Dict[str, EnvironmentAnswer]
    benchmark: Dict[str, BenchmarkAnswer]


class Seen(_Seen, total=False):
    """All of it. What follows is there where it was asked for; `as_found` is what `checks.found` makes."""

    service: ServiceAnswer
    surroundings: Surroundings
    as_found: Dict[str, Any]
    cuda: Optional[CudaAnswer]
    python: Optional[Dict[str, Any]]
    #: What each source of the probe said, for the doctor.
    heard: Dict[str, List[str]]
