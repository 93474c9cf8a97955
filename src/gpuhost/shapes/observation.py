"""What the probe says about one machine: `observation.schema.json` as types."""

from typing import Dict, List, Literal, Optional, TypedDict


class _Platform(TypedDict):
    id: str
    distribution: str
    version: str
    codename: str
    pretty_name: str


class Platform(_Platform, total=False):
    """The release of a host."""

    #: Its own name, where the controller takes it for another (`planning.platforms`); the probe never says it.
    own: str


class Tried(TypedDict):
    """The kernel of an update that a boot has yet to prove, or that the host has undone, with a sentence then."""

    kernel: str
    told: str


class _Kernel(TypedDict):
    running: str
    installed: List[str]
    boots: Optional[str]
    boots_by: str


class Kernel(_Kernel, total=False):
    """The kernels that are installed, and the one that the boot loader chooses."""

    tried: Tried


_Card = TypedDict("_Card", {"class": str})  # it is a word of Python's


class _Gpu(_Card):
    pci_address: str
    pci_id: str
    subsystem_id: Optional[str]
    kernel_driver: Optional[str]
    uuid: Optional[str]
    name: Optional[str]
    compute_capability: Optional[str]
    memory_mib: Optional[int]
    readable: Optional[bool]
    error: Optional[str]


class ObservedGpu(_Gpu, total=False):
    """One card, as sysfs and nvidia-smi tell it."""

    removable: Literal[True]


class OtherFunction(_Card):
    """A function of NVIDIA's on the PCI bus that is not a card for this machine to use."""

    pci_address: str
    pci_id: str
    kernel_driver: Optional[str]
    kind: Literal["nvswitch", "passed-through", "virtual-function"]


class Hybrid(TypedDict):
    """What switches the card of a laptop with two."""

    prime: Optional[Literal["intel", "nvidia", "on-demand"]]
    bbswitch: Optional[Literal["ON", "OFF"]]


class Wsl(TypedDict):
    """Windows' subsystem for Linux."""

    card: bool


class Smi(TypedDict):
    """How nvidia-smi answered."""

    status: Literal["absent", "ok", "error"]
    message: str


class Nvidia(TypedDict):
    """The loaded module, and what nvidia-smi says."""

    module_loaded: bool
    module_version: Optional[str]
    smi: Smi
    unseen: List[str]
    warnings: List[str]


class SourceRelease(TypedDict):
    """What a release file that apt has of a source says."""

    release: str
    origin: str
    label: str
    codename: str
    suite: str


class Source(TypedDict):
    """One entry of apt's sources."""

    file: str
    line: int
    format: Literal["one-line", "deb822"]
    types: List[Literal["deb", "deb-src"]]
    uris: List[str]
    suites: List[str]
    components: List[str]
    signed_by: Optional[str]
    enabled: bool
    fetched: bool
    releases: List[SourceRelease]


class SourceProblem(TypedDict):
    """A line of apt's sources that could not be read."""

    file: str
    line: int
    text: str
    error: str


class Release(TypedDict):
    """A release that apt knows."""

    origin: str
    label: str
    codename: str
    suite: str
    site: str


class ForeignPackage(TypedDict):
    """A package of the stack from a release that is not the distribution's own."""

    package: str
    site: str
    version: str
    file: Optional[str]
    line: Optional[int]


class Apt(TypedDict):
    """Apt's sources and what it has of them."""

    sources: List[Source]
    problems: List[SourceProblem]
    releases: List[Release]
    foreign_packages: List[ForeignPackage]


class Archive(TypedDict):
    """One suite of the distribution's own archives."""

    origin: str
    label: str
    codename: str
    suite: str
    site: str
    release: str
    components: List[str]
    date: str


class _Offered(TypedDict):
    package: str
    version: str
    architecture: Literal["amd64", "all"]
    archive: int
    component: str
    source: str
    size: int
    sha256: str
    file: str
    depends: str
    provides: str


class Offered(_Offered, total=False):
    """A package that an archive offers."""

    support: str
    devices: List[str]


class LeadingKernel(TypedDict):
    """A package that leads to a kernel."""

    package: str
    version: str
    depends: str


class OfferedKernels(TypedDict):
    """The kernels that the archives offer, and the packages that lead to them."""

    leading: List[LeadingKernel]
    packages: List[Offered]


class _Offers(TypedDict):
    archives: List[Archive]
    packages: List[Offered]
    tools: Dict[str, str]


class Offers(_Offers, total=False):
    """What the distribution's own archives offer."""

    kernels: OfferedKernels


class InstalledPackage(TypedDict):
    """One package of the stack, as dpkg has it."""

    version: str
    state: str
    hold: bool


class Space(TypedDict):
    """The room on a file system."""

    free_mib: int
    total_mib: int


#: By the path of the file system; the store's own only where there is one.
Disk = TypedDict("Disk", {"/": Space, "/opt": Space}, total=False)


class Cpu(TypedDict):
    """The CPU."""

    count: int
    model: str
    avx: bool


class Problem(TypedDict):
    """What the probe could not read."""

    what: str
    error: str


class _Observation(TypedDict):
    schema: Literal[1]
    hostname: str
    machine: str
    platform: Platform
    kernel: Kernel
    secure_boot: Literal["enabled", "disabled", "not-enforced", "lockdown", "unsupported", "unknown"]
    gpus: List[ObservedGpu]
    other_functions: List[OtherFunction]
    nvidia: Nvidia
    wsl: Optional[Wsl]
    apt: Apt
    packages: Dict[str, InstalledPackage]
    dpkg_audit: List[str]
    pythons: Dict[str, str]
    memory_mib: Optional[int]
    disk: Disk
    cpu: Cpu
    interrupted: bool
    reboot_required: bool
    problems: List[Problem]


class Observation(_Observation, total=False):
    """What the probe says about one machine; `hybrid` is absent where nothing is there, `offers` where nobody asked."""

    hybrid: Hybrid
    offers: Optional[Offers]
