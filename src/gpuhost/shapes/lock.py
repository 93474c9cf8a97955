"""A plan and a lock: `plan.schema.json` and `lock.schema.json` as types."""

from typing import Dict, List, Literal, Optional, TypedDict, Union

#: A component of the stack; the last two can be left out.
Component = Literal["driver", "cuda", "cudnn", "opencv", "tensorflow"]
Framework = Literal["opencv", "tensorflow"]
ToolkitName = Literal["cuda", "cudnn"]
#: How a toolkit comes: by NVIDIA's installer, its archive, or its wheels.
ToolkitKind = Literal["runfile", "tarball", "wheels"]


class Artifact(TypedDict):
    """A file of an address of its own."""

    name: str
    url: str
    sha256: str


class Deb(TypedDict):
    """A package of the distribution's archive."""

    name: str
    version: str
    sha256: str
    size: int
    file: str
    snapshot: Optional[str]


class PlannedGpu(TypedDict):
    """A card that a plan is for."""

    pci_id: Optional[str]
    name: Optional[str]
    chip: Optional[str]
    compute_capability: str
    generation: str


class PlannedModules(TypedDict):
    """The package of prebuilt, signed modules for one kernel."""

    package: str
    package_version: str
    kernel: str


class _Driver(TypedDict):
    version: str
    branch: str
    kernel_modules: Literal["open", "proprietary"]
    modules_from: Literal["dkms", "signed"]
    secure_boot: Optional[Literal["own-key", "signed"]]
    modules: Optional[PlannedModules]
    sha256: str


class _ArchiveDriver(_Driver):
    source: Literal["archive"]
    package: str
    package_version: str
    component: str
    file: str


class ArchiveDriver(_ArchiveDriver, total=False):
    """A driver from the distribution's archive."""

    modules_package: str
    packages: List[Deb]


class _RunfileDriver(_Driver):
    source: Literal["runfile"]
    url: str


class RunfileDriver(_RunfileDriver, total=False):
    """A driver by NVIDIA's installer."""

    size: int
    variant: str


PlannedDriver = Union[ArchiveDriver, RunfileDriver]


class _RunfileCuda(TypedDict):
    version: str
    series: str
    source: Literal["runfile"]
    file: str
    url: str
    sha256: str


class RunfileCuda(_RunfileCuda, total=False):
    """CUDA by NVIDIA's installer."""

    md5: str
    size: int


class WheelsCuda(TypedDict):
    """CUDA from NVIDIA's wheels."""

    version: str
    series: str
    source: Literal["wheels"]


PlannedCuda = Union[RunfileCuda, WheelsCuda]


class TarballCudnn(TypedDict):
    """The archive of cuDNN."""

    version: str
    source: Literal["tarball"]
    cuda: str
    file: str
    url: str
    sha256: str


class _WheelsCudnn(TypedDict):
    version: str
    source: Literal["wheels"]
    cuda: str


class WheelsCudnn(_WheelsCudnn, total=False):
    """The wheels of cuDNN, which name no file where it comes with CUDA's."""

    file: str
    url: str
    sha256: str


PlannedCudnn = Union[TarballCudnn, WheelsCudnn]


class _SourceArtifact(TypedDict):
    kind: Literal["sdist", "opencv-tarball", "opencv_contrib-tarball"]
    sha256: str


class SourceArtifact(_SourceArtifact, total=False):
    """A file that OpenCV is built from."""

    package: str
    package_version: str
    file: str
    url: str
    checked: bool
    sources: List[str]


class BuiltOpencv(TypedDict):
    """OpenCV, to be built on the host."""

    version: str
    cuda_arch_bin: List[str]
    source: Literal["sdist", "tarballs"]
    python: str
    artifacts: List[SourceArtifact]


class WheelOpencv(TypedDict):
    """OpenCV from the index, for a host without a card."""

    version: str
    cuda_arch_bin: List[str]
    source: Literal["wheel"]
    python: str
    environment: str
    package_version: str
    file: str
    sha256: str


PlannedOpencv = Union[BuiltOpencv, WheelOpencv]


class OwnCudnn(TypedDict):
    """The cuDNN that TensorFlow has of its own."""

    version: str
    cuda: str
    source: Literal["wheels"]


class OwnToolkit(TypedDict):
    """The toolkit that TensorFlow has of its own; None for what it shares with the host."""

    cuda: Optional[WheelsCuda]
    cudnn: Optional[OwnCudnn]


class _Tensorflow(TypedDict):
    version: str
    package: Literal["tensorflow", "tensorflow-gpu"]
    python: str
    environment: Optional[str]
    code: Dict[str, Literal["cubin", "ptx-jit"]]
    file: str
    sha256: str


class PlannedTensorflow(_Tensorflow, total=False):
    """TensorFlow; `cuda` and `cudnn` are None where it shares the host's, and absent in earlier releases' locks."""

    cuda: Optional[WheelsCuda]
    cudnn: Optional[OwnCudnn]


class Reason(TypedDict):
    """A rule that stands against a plan."""

    rule: str
    text: str
    needs: str


class Note(TypedDict):
    """What the user should know of a plan."""

    about: str
    unverified: bool
    text: str


class Near(TypedDict):
    """What would do in the place of a request that is refused."""

    change: str
    gives: str


class Obstacle(TypedDict):
    """A component without which there would be a plan, and the command that leaves it out."""

    component: Framework
    gives: str
    command: str


class _Plan(TypedDict):
    schema: Literal[1]
    status: Literal["planned", "refused"]
    platform: str
    gpus: List[PlannedGpu]
    driver: Optional[PlannedDriver]
    cuda: Optional[PlannedCuda]
    cudnn: Optional[PlannedCudnn]
    opencv: Optional[PlannedOpencv]
    tensorflow: Optional[PlannedTensorflow]
    reasons: List[Reason]
    notes: List[Note]
    asked: Dict[str, str]
    without: List[Framework]


class Plan(_Plan, total=False):
    """What the resolver chose, or why it chose nothing; only a refused one has the last three."""

    card_needs: Dict[str, str]
    nearest: List[Near]
    obstacles: List[Obstacle]


class LockedCard(TypedDict):
    """A card that a lock is for."""

    pci_address: str
    pci_id: str
    uuid: Optional[str]


class _RunfileRow(TypedDict):
    name: Literal["cuda"]
    version: str
    kind: Literal["runfile"]
    options: List[
        Literal[
            "--silent",
            "--override",
            "--toolkit",
            "--toolkitpath=PREFIX",
            "--installpath=PREFIX",
            "--verbose",
        ]
    ]
    archive: List[str]


class RunfileRow(_RunfileRow, total=False):
    """A CUDA by NVIDIA's installer; the planned one's file stands in the plan."""

    file: Artifact


class _TarballRow(TypedDict):
    name: Literal["cudnn"]
    version: str
    kind: Literal["tarball"]


class TarballRow(_TarballRow, total=False):
    """An archive of cuDNN; the planned one's file stands in the plan."""

    file: Artifact


class Wheel(TypedDict):
    """One of NVIDIA's wheels."""

    name: str
    version: str
    file: str
    sha256: str
    size: int


class WheelsRow(TypedDict):
    """A toolkit from NVIDIA's wheels."""

    name: ToolkitName
    version: str
    kind: Literal["wheels"]
    compiler: bool
    room: int
    packages: List[Wheel]


ToolkitRow = Union[RunfileRow, TarballRow, WheelsRow]


class Span(TypedDict):
    """The first and the last version that are accepted."""

    min: str
    max: str


class Compilers(TypedDict):
    """The first and the last GCC that are accepted; None where there is no bound."""

    min: Optional[int]
    max: Optional[int]


class _Bounds(TypedDict):
    capability_min: str
    cudnn: Span
    cuda: Span
    cmake_min: str
    gcc: Compilers
    gcc_packages: List[str]
    integrated: List[str]


class Bounds(_Bounds, total=False):
    """What OpenCV can be built with."""

    clash_from_glibc: Optional[str]


class LockedOpencv(TypedDict):
    """The archive's packages that OpenCV needs, and what it is built with; `build` is None for a wheel."""

    packages: List[str]
    build: Optional[Bounds]


class Weights(TypedDict):
    """The published weights of a network."""

    name: str
    url: str
    sha256: str
    size: int


class DriverBounds(TypedDict):
    """From which driver on a toolkit runs."""

    version: str
    driver_min: str
    driver_min_minor_compat: Optional[str]


class Tested(TypedDict):
    """The series of CUDA and cuDNN that TensorFlow was built with."""

    cuda: str
    cudnn: str


class Expects(TypedDict):
    """What the checks expect of what is installed."""

    cuda: Optional[DriverBounds]
    tensorflow: Optional[Tested]


class _Virtualbox(TypedDict):
    asked: str
    version: str
    extension_pack: Optional[Artifact]
    unverified: List[str]


class ArchiveVirtualbox(_Virtualbox):
    """VirtualBox from the distribution's archive."""

    source: Literal["archive"]
    package_version: str
    component: str
    packages: List[Deb]


class RunfileVirtualbox(_Virtualbox):
    """VirtualBox by Oracle's installer."""

    source: Literal["runfile"]
    build: str
    file: Artifact


LockedVirtualbox = Union[ArchiveVirtualbox, RunfileVirtualbox]


class _Contents(TypedDict):
    pythons: Dict[str, List[str]]
    toolkits: List[ToolkitRow]
    opencv: LockedOpencv
    weights: List[Weights]
    expects: Expects


class Contents(_Contents, total=False):
    """What a lock holds beside its plan; `virtualbox` only where it was asked for."""

    virtualbox: LockedVirtualbox


class LockedPackage(TypedDict):
    """A package of a Python environment."""

    name: str
    version: str
    file: str
    kind: Literal["sdist", "wheel"]
    sha256: str
    size: Optional[int]


class LockedEnvironment(TypedDict):
    """A Python environment with every package of it."""

    environment: Literal["dl4cv", "opencv_build", "opencv_cuda", "opencv_cuda_engines", "service"]
    version: str
    python: str
    packages: List[LockedPackage]


class Closed(TypedDict):
    """What a lock adds to its plan, so that nothing has to be looked up."""

    contents: Contents
    environments: Dict[str, LockedEnvironment]


class _Lock(Closed):
    schema: Literal[2]
    host: Union[str, List[str]]
    cards: List[LockedCard]
    plan: Plan


class Lock(_Lock, total=False):
    """A plan with everything that it installs, for one host or for several that are the same."""

    own_platform: str


Made = TypedDict("Made", {"date": str, "with": str, "constraints": List[str]})


class CatalogEnvironment(LockedEnvironment):
    """A Python environment as the catalog has it, for whatever lock needs it: `environment.schema.json`."""

    schema: Literal[1]
    component: Literal["tensorflow", "opencv", "cmake", "fastapi"]
    tag: str
    glibc: str
    made: Made


WheelsMade = TypedDict("WheelsMade", {"date": str, "with": str, "instead": List[str], "why": str})


class WheelsLock(TypedDict):
    """NVIDIA's wheels of a release as the catalog has them: `wheels.schema.json`."""

    schema: Literal[1]
    component: ToolkitName
    version: str
    cuda: str
    compiler: bool
    unpacked: int
    packages: List[Wheel]
    made: WheelsMade
