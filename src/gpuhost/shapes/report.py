"""What verify/ writes of a host: `report.schema.json` as types."""

from typing import Dict, List, Literal, Optional, TypedDict, Union

Status = Literal["pass", "fail", "skip"]
Verdict = Literal["ok", "broken", "incomplete", "not provisioned", "unreachable"]


class PlanSummary(TypedDict):
    """The plan that a host was checked against, in short."""

    platform: str
    gpus: List[str]
    components: Dict[str, Optional[str]]
    generation: Optional[int]
    without: List[str]


class CheckRow(TypedDict):
    """The outcome of one check."""

    id: str
    title: str
    purpose: str
    status: Status
    required: str
    actual: str
    remediation: str
    diagnosis: Optional[str]


class WeightsUsed(TypedDict):
    """What weights a network was measured with."""

    kind: Literal["real", "synthetic"]
    sha256: str


class Stages(TypedDict):
    """The mean time of each stage, in seconds."""

    read: float
    decode: float
    blob: float
    forward: float
    post: float


class _ModelRow(TypedDict):
    model: str
    device: str
    size: int
    complete: bool
    weights: WeightsUsed
    photos: int
    total_s: float
    mean_s: float
    mean_ci95_s: List[float]
    p50_s: float
    p90_s: float
    photos_per_s: float
    load_s: float
    first_forward_s: float
    stages_s: Stages
    gate_rel2: float
    opencv: str
    photo_kind: str


class ModelRow(_ModelRow, total=False):
    """The figures of one network; `when` only where they are those of an earlier report."""

    busy: str
    when: str


class ReferenceRow(TypedDict):
    """A figure of the reference setup."""

    device: str
    mean_s: float


class Reference(TypedDict):
    """The reference setup, and where its figures are from."""

    source: str
    rows: List[ReferenceRow]


class Benchmark(TypedDict):
    """The figures of the networks that were measured."""

    models: List[ModelRow]
    reference: Reference


class Surroundings(TypedDict):
    """The machine that a report is of."""

    hostname: str
    platform: str
    kernel: str
    cpu: str
    cpus: int
    memory_mib: Optional[int]
    gpus: List[str]


class Report(TypedDict):
    """One host checked against its lock."""

    schema: Literal[1]
    gpuhost: str
    host: str
    when: str
    verdict: Verdict
    plan: Optional[PlanSummary]
    checks: List[CheckRow]
    benchmark: Optional[Benchmark]
    environment: Optional[Surroundings]
    notes: List[str]


class KeptPlan(TypedDict):
    """What every release of gpuhost has written of a plan."""

    generation: Optional[int]


class KeptRow(TypedDict):
    """What every release has written of a check."""

    id: str
    status: Status
    actual: str


class KeptReport(TypedDict):
    """A report of any release, read back: what the history needs of it."""

    schema: Literal[1]
    host: str
    when: str
    verdict: Literal["ok", "broken", "incomplete", "not provisioned"]
    plan: Optional[KeptPlan]
    checks: List[KeptRow]


#: A report of this release, or of any.
AnyReport = Union[Report, KeptReport]
