"""What a host answers when the probe, an environment, the service, the benchmark or a module of Ansible is asked there:
`installed`, the `..._answer` schemas and `module_answers` as types.
"""

from typing import Any, Dict, List, Literal, Optional, TypedDict, Union, final

from .lock import Lock
from .observation import Observation, Problem


class Link(TypedDict):
    """Where a link of the generation in force leads, and that folder's digest; None where it is not whole."""

    target: str
    digest: Optional[str]


class Module(TypedDict):
    """The driver's module for the kernel that will boot."""

    path: str
    version: str
    signed: Optional[bool]
    signer: str
    open: bool


class Nouveau(TypedDict):
    """Whether the kernel's own driver is kept out."""

    blacklisted: bool
    in_initramfs: Optional[bool]
    loaded: bool


class Key(TypedDict):
    """The host's own key for modules."""

    made: bool
    enrolled: Optional[bool]


class DriverRecord(TypedDict):
    """What the role of the driver wrote down of what it installed."""

    version: str
    source: str
    branch: str
    kernel: str
    modules_from: str
    packages: Dict[str, str]
    debs: Dict[str, str]


class KeptOut(TypedDict):
    """A line of modprobe's configuration that keeps the driver out."""

    file: str
    line: str


class InstalledDriver(TypedDict):
    """The driver, as it will be after the next boot."""

    kernel: Optional[str]
    module: Optional[Module]
    library: Optional[str]
    headers: bool
    nouveau: Nouveau
    dkms: List[str]
    key: Key
    record: Optional[DriverRecord]
    kept_out: List[KeptOut]
    damaged: List[str]


class Guard(TypedDict):
    """What keeps updates from the stack; of the record it only counts whether there is one."""

    record: Optional[Dict[str, Any]]
    held: List[str]
    stack: Dict[str, str]
    pins: Dict[str, str]
    blacklist: List[str]


class OfferedKernel(TypedDict):
    """A kernel that is offered and does not run yet; days since it was first seen, None where nobody noted it."""

    release: str
    package: str
    version: str
    archive: str
    security: bool
    why: str
    days: Optional[int]


class Fixes(TypedDict):
    """Which newer kernel waits, or why that is not known, and whether updates are automatic."""

    unknown: str
    offered: Optional[OfferedKernel]
    automatic: bool


class Uvm(TypedDict):
    """The module of unified memory."""

    loaded: bool
    on_demand: bool


class Closed(TypedDict):
    """A device node that whoever reads the host may not use."""

    mode: str
    group: str


class Signs(TypedDict):
    """What tells the causes of a failure apart."""

    kernel_log: Optional[List[str]]
    nodes: List[str]
    uvm: Uvm
    free_mib: Optional[Dict[str, int]]
    closed: Dict[str, Closed]
    mig: Dict[str, int]


class Surroundings(TypedDict):
    """What the host is: a machine, a container or WSL2, and what it shows of its cards."""

    place: Literal["machine", "container", "wsl2"]
    names: List[str]
    bus: int
    dxg: bool
    cdi: Dict[str, List[str]]


class WrongRight(TypedDict):
    """An entry of the store that the wrong people can change or cannot read."""

    path: str
    what: List[Literal["writable", "foreign", "closed"]]


class Rights(TypedDict):
    """Who can change and who can read the store."""

    wrong: List[WrongRight]
    more: int
    whole: bool


class VirtualboxRecord(TypedDict):
    """What the role wrote down of the VirtualBox that it installed."""

    version: str
    packages: Dict[str, str]
    joined: List[str]


class VirtualboxModule(TypedDict):
    """One of VirtualBox's modules for the kernel that will boot."""

    path: str
    release: str
    signed: Optional[bool]
    signer: str


class Device(TypedDict):
    """Who may open a device."""

    mode: int
    uid: int
    gid: int


class Kvm(TypedDict):
    """What KVM has of the CPU."""

    loaded: List[Literal["kvm_amd", "kvm_intel"]]
    at_load: Optional[bool]


class Virtualbox(TypedDict):
    """VirtualBox, where gpuhost has installed it."""

    record: Optional[VirtualboxRecord]
    kernel: Optional[str]
    modules: Dict[str, Optional[VirtualboxModule]]
    headers: bool
    loaded: Optional[str]
    program: Optional[str]
    packagings: List[str]
    dkms: List[str]
    device: Optional[Device]
    members: Optional[List[str]]
    kvm: Kvm
    key: Key


class _Installed(TypedDict):
    root: str
    generation: Optional[int]
    #: A record that the host names a lock; `verification.expected` looks whether it is one.
    stack: Optional[Dict[str, Any]]
    links: Dict[str, Link]
    cuda: Optional[str]
    nvcc: Optional[str]
    cudnn: Optional[str]
    driver: InstalledDriver
    guard: Guard
    signs: Signs
    surroundings: Surroundings
    problems: List[Problem]


class Installed(_Installed, total=False):
    """What the probe finds of gpuhost on a host."""

    rights: Optional[Rights]
    virtualbox: Virtualbox
    fixes: Fixes


@final
class Machine(TypedDict):
    """A host that was read."""

    observation: Observation
    installed: Installed


class _Unread(TypedDict):
    error: str
    next_step: str


@final
class Unread(_Unread, total=False):
    """A host that could not be read, and why."""

    unreachable: bool


@final
class Error(TypedDict):
    """The place of an answer that could not be had, and why."""

    error: str


class _Library(TypedDict):
    error: Optional[str]


class Library(_Library, total=False):
    """What came of loading a library by its name."""

    path: str
    real: str
    version: int


class _OpencvComputed(TypedDict):
    version: str
    file: str
    blur_error: float
    halve_error: float
    build: List[str]
    cuda_devices: int
    cuda_error: Optional[str]
    mapped: List[str]


class OpencvComputed(_OpencvComputed, total=False):
    """What OpenCV computed."""

    found_as: Dict[str, str]


class _TensorflowComputed(TypedDict):
    version: str
    conv_error: float
    gpus: List[str]
    device: str
    mapped: List[str]
    product_error: float


class TensorflowComputed(_TensorflowComputed, total=False):
    """What TensorFlow computed."""

    found_as: Dict[str, str]


class SearchPlace(TypedDict):
    """A variable of the environment that makes the linker look elsewhere, and the libraries that it finds there."""

    variable: Literal["LD_LIBRARY_PATH", "LD_PRELOAD"]
    value: str
    files: List[str]


class EnvironmentAnswer(TypedDict, total=False):
    """What an environment says of itself; `computed` or else an `error`."""

    packages: Dict[str, List[str]]
    prefix: str
    python: str
    failed: str
    #: OpenCV's or TensorFlow's; `OpencvComputed` and `TensorflowComputed` have their keys.
    computed: Dict[str, Any]
    module: Optional[str]
    libraries: Dict[str, Library]
    search: List[SearchPlace]
    said: List[str]
    error: str


class ServiceRecord(TypedDict):
    """Where the service listens."""

    listen: str


class ServiceReady(TypedDict, total=False):
    """What the service says of itself, with `status` and `why`, or an `error`."""

    status: int
    why: str
    error: str
    denied: bool


class Sockets(TypedDict):
    """Who listens at which address."""

    listening: List[str]
    service: List[str]


class Nginx(TypedDict):
    """The proxy in front of the service."""

    there: bool
    active: bool
    site: bool
    complaint: Optional[str]
    held: List[str]


class Box(TypedDict):
    """A detection."""

    label: str
    box: List[float]


class PhotoAnswer(TypedDict, total=False):
    """What the service answers to a photo, or to a question about its networks."""

    detections: List[Box]
    device: str
    meaningful: bool


class HttpAnswer(TypedDict):
    """An answer with its status."""

    status: int
    answer: Optional[PhotoAnswer]


class Detector(TypedDict, total=False):
    """What the detector itself finds in the photo, or an `error`."""

    error: str
    detections: List[Box]


@final
class Asked(TypedDict):
    """What came of asking the service as a client does."""

    models: HttpAnswer
    photo: HttpAnswer
    no_key: int
    wrong_key: int
    too_large: int
    bomb: int
    detector: Detector


@final
class ServiceAnswer(TypedDict):
    """What the detection service of a host does."""

    record: Optional[ServiceRecord]
    enabled: bool
    active: bool
    last_words: str
    generation: Optional[int]
    ready: ServiceReady
    sockets: Sockets
    nginx: Nginx
    asked: Optional[Union[Error, Asked]]


class CudaCall(TypedDict):
    """What a call of CUDA gave: its code, and CUDA's own words for it."""

    code: int
    name: str
    text: str


class CudaDevice(TypedDict):
    """A card as CUDA sees it; `error` is None where it filled memory that was read back."""

    name: str
    capability: str
    error: Optional[str]


@final
class CudaAnswer(TypedDict):
    """What CUDA says of itself (`host.probe.cuda`). What was not reached is None."""

    library: Optional[str]
    found_as: Optional[str]
    error: Optional[str]
    ended: Optional[str]
    init: Optional[CudaCall]
    counted: Optional[CudaCall]
    version: Optional[str]
    count: Optional[int]
    devices: List[CudaDevice]
    variables: Dict[str, str]


class _MeasuredWith(TypedDict):
    opencv: str


class MeasuredWith(_MeasuredWith, total=False):
    """What a benchmark ran with."""

    cpus: Optional[int]


class _Photos(TypedDict):
    kind: str


class Photos(_Photos, total=False):
    """What was detected in."""

    count: int


class Weights(TypedDict):
    """The weights of a network."""

    kind: Literal["real", "synthetic"]
    sha256: str


class Gate(TypedDict):
    """Whether the network's arithmetic was shown to be right."""

    passed: bool
    rel2: List[float]


class Median(TypedDict, total=False):
    """The middle of some samples."""

    median: float


class SampledMachine(TypedDict, total=False):
    """The machine's samples."""

    load_1min: Median


class Sampled(TypedDict, total=False):
    """What the machine did meanwhile."""

    machine: SampledMachine
    stolen_share: Optional[float]


class Usage(TypedDict, total=False):
    """What the run itself used."""

    cpu_s_per_wall_s: Optional[float]


class _Model(TypedDict):
    model: str
    size: int
    device: str
    complete: bool
    weights: Weights
    gate: Gate


class Headline(TypedDict):
    """The figures of a run as a whole."""

    photos: int
    total_s: float
    mean_s: float


class PerPhoto(TypedDict):
    """The spread of the time for a photo."""

    mean: float
    mean_ci95: List[float]
    p50: float
    p90: float


class Mean(TypedDict):
    """The mean of a stage."""

    mean: float


class Stages(TypedDict):
    """The stages of a detection."""

    read: Mean
    decode: Mean
    blob: Mean
    forward: Mean
    post: Mean


class Model(_Model, total=False):
    """A network as it was measured; one that was not measured to its end lacks the figures from `headline` on."""

    sampled: Sampled
    usage: Usage
    headline: Headline
    per_photo_s: PerPhoto
    photos_per_s: float
    load_s: float
    first_forward_s: float
    stages_s: Stages


@final
class BenchmarkAnswer(TypedDict):
    """A benchmark's own report."""

    stopped_by: Optional[str]
    environment: MeasuredWith
    photos: Photos
    models: List[Model]


class Generation(TypedDict):
    """A generation of a host; its record only where it is a whole lock (`shipping.answers`)."""

    number: int
    stack: Optional[Lock]
    links: Dict[str, str]


class Generations(TypedDict):
    """The generations of a host, and what its caches hold."""

    current: Optional[int]
    came_by: Optional[Literal["switch", "back"]]
    before: Optional[int]
    good: List[int]
    generations: List[Generation]
    artifacts: List[str]
    debs: List[str]
    wheels: List[str]
    store: List[str]
    build_seconds: Dict[str, float]


class BuiltWheel(TypedDict):
    """The OpenCV that was built on a host."""

    path: str
    name: Literal["opencv-contrib-python"]
    version: str
    file: str
    kind: Literal["wheel"]
    sha256: str
    size: int


class ArtifactAnswer(TypedDict):
    """Of `gpuhost_artifact`: where the file lies."""

    path: str


class DriverAnswer(TypedDict, total=False):
    """Of `gpuhost_driver`: what differs, and what a person has to do."""

    differences: List[str]
    reboot_required: str
    console_required: str
    told: str


class FolderAnswer(TypedDict):
    """Of `gpuhost_environment` and `gpuhost_tree`: the folder in the store."""

    folder: str


class FactsAnswer(TypedDict):
    """Of `gpuhost_facts`."""

    observation: Observation


class GenerationAnswer(TypedDict, total=False):
    """Of `gpuhost_generation`: what each of its states tells."""

    generation: Optional[int]
    previous: Optional[int]
    told: str


class GenerationsAnswer(TypedDict):
    """Of `gpuhost_generation_info`."""

    found: Generations


class GuardAnswer(TypedDict):
    """Of `gpuhost_guard`."""

    told: str
    kept_back: List[str]
    guarded: bool
    proved: bool


class OpencvAnswer(TypedDict):
    """Of `gpuhost_opencv`: the key of a build, and its wheel once there is one."""

    key: str
    wheel: Optional[BuiltWheel]


class PackagesAnswer(TypedDict):
    """Of `gpuhost_packages`."""

    names: List[str]


class PairAnswer(TypedDict):
    """Of `gpuhost_pair`: how far an update is that a boot has to prove, and what a person should know."""

    told: str
    state: Literal["", "prepared", "armed", "trying", "proved", "undone"]


class PreflightAnswer(TypedDict):
    """Of `gpuhost_preflight`: what forbids a run, and the room that it takes."""

    problems: List[str]
    told: str


class ToldAnswer(TypedDict):
    """Of `gpuhost_service` and `gpuhost_watch`."""

    told: str


class ToolkitAnswer(TypedDict, total=False):
    """Of `gpuhost_toolkit`: what each of its states tells."""

    missing: bool
    folder: str
    told: str
    removed: List[str]
    kept: Any
    links: Dict[str, str]


class VirtualboxAnswer(TypedDict, total=False):
    """Of `gpuhost_virtualbox`: what differs, and what a person has to do."""

    differences: List[str]
    reboot_required: str
    console_required: str


class ModuleAnswers(TypedDict, total=False):
    """What each module of this project answers, beside what Ansible adds."""

    gpuhost_artifact: ArtifactAnswer
    gpuhost_driver: DriverAnswer
    gpuhost_environment: FolderAnswer
    gpuhost_facts: FactsAnswer
    gpuhost_generation: GenerationAnswer
    gpuhost_generation_info: GenerationsAnswer
    gpuhost_guard: GuardAnswer
    gpuhost_opencv: OpencvAnswer
    gpuhost_packages: PackagesAnswer
    gpuhost_pair: PairAnswer
    gpuhost_preflight: PreflightAnswer
    gpuhost_service: ToldAnswer
    gpuhost_toolkit: ToolkitAnswer
    gpuhost_tree: FolderAnswer
    gpuhost_virtualbox: VirtualboxAnswer
    gpuhost_watch: ToldAnswer
