"""The constraints between card, platform and releases, each a named rule with its source.

A rule looks at one candidate (and the request) or at a pair of candidates, and answers None when it holds, or one
sentence with the figures when it does not. No rule names a card or a version: all figures come from the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Tuple

from ..candidates import COMPONENTS, NAMES, TOOLKITS, WITHOUT_GPU, Candidate, Place, Request
from ..catalog import Catalog
from ..versions import admits
from . import cuda as cuda
from . import driver as driver
from . import frameworks as frameworks
from . import virtualbox as virtualbox

#: Where a rule holds that is not about every toolkit.
HOST, OWN = "host", "own"
Unary = Callable[[Catalog, Request, Candidate], Optional[str]]
Binary = Callable[[Candidate, Candidate], Optional[str]]


@dataclass(frozen=True)
class Rule:
    """One constraint. `on` names the component it filters, or the pair it relates; `with_gpu` and `without_gpu` say on
    which hosts it matters.

    About a toolkit, it holds between components that serve the same programs. `where` narrows it to the "host" toolkit,
    or to one that is TensorFlow's "own". `when` narrows a pair rule to the candidates of its second component that it
    concerns for a request. `about` says what the rule speaks of where that makes a difference to an explanation: "user"
    for a demand, "card" for what each card by itself asks of the component.
    """

    id: str
    on: Tuple[str, ...]
    title: str
    source: str
    unary: Optional[Unary] = None
    binary: Optional[Binary] = None
    when: Optional[Callable[[Request, Candidate], bool]] = None
    with_gpu: bool = True
    without_gpu: bool = False
    about: str = ""
    where: str = ""

    def holds_in(self, *places: Place) -> bool:
        """Return whether the rule is about what stands in these places of a stack."""
        if self.on != tuple(place.component for place in places):
            return False
        host, tensorflow = all(p.host for p in places), all(p.tensorflow for p in places)
        together = host or tensorflow or not set(TOOLKITS) & set(self.on)
        own = not any(place.host for place in places)
        return together and (not self.where or own == (self.where == OWN))

    def matters(self, request: Request) -> bool:
        """Return whether the rule applies to a host with, or without, GPUs."""
        return self.with_gpu if request.gpus else self.without_gpu

    def concerns(self, request: Request, second: Candidate) -> bool:
        """Return whether a pair rule concerns this candidate of its second component."""
        return self.when is None or self.when(request, second)

    def other(self, component: str) -> str:
        """Return the component that a pair rule relates to this one."""
        return self.on[1] if component == self.on[0] else self.on[0]

    def relates(self, first: Candidate, second: Candidate) -> bool:
        """Return whether two candidates go together; a rule about one component has nothing against a pair."""
        return self.binary is None or self.binary(first, second) is None


def asked(catalog: Catalog, request: Request, c: Candidate) -> Optional[str]:
    """What the user asked of a component."""
    if c.component not in request.wanted:
        return None
    text = f"{NAMES[c.component]} {request.asked[c.component]} was asked for"
    if c.component not in WITHOUT_GPU and not request.gpus:
        return f"{text}, but there is no card for it"
    return None if admits(request.wanted[c.component], c.version) else text


RULES: Tuple[Rule, ...] = (
    *(
        Rule(
            f"asked-{name}",
            (name,),
            f"the {name} that was asked for",
            "the command line or group_vars",
            unary=asked,
            without_gpu=True,
            about="user",
            where=HOST if name in TOOLKITS else "",
        )
        for name in COMPONENTS
    ),
    Rule(
        "driver-archive",
        ("driver",),
        "an archive package is for its platform",
        "signed package indices",
        unary=driver.archive,
    ),
    Rule(
        "driver-generation",
        ("driver",),
        "the branch still serves the card's generation",
        "drivers.json: generations",
        unary=driver.generation,
        about="card",
    ),
    Rule(
        "driver-claims",
        ("driver",),
        "the driver claims the card",
        "Modaliases of the packages; open-gpu-kernel-modules README",
        unary=driver.claims,
        about="card",
    ),
    Rule(
        "driver-flavour",
        ("driver",),
        "one module flavour drives all cards",
        "open-gpu-kernel-modules README",
        unary=driver.flavour,
    ),
    Rule(
        "driver-kernel",
        ("driver",),
        "the module compiles for the kernel",
        "open-gpu-kernel-modules README",
        unary=driver.kernel,
    ),
    Rule(
        "driver-toolkit",
        ("driver", "cuda"),
        "the driver is new enough for the toolkit",
        "CUDA 13.2.2 release notes, tables 2 and 3",
        binary=driver.toolkit,
    ),
    Rule(
        "driver-jit",
        ("driver", "tensorflow"),
        "the driver can compile the PTX",
        "CUDA compatibility guide, minor version compatibility",
        binary=driver.jit,
        when=frameworks.by_ptx,
    ),
    Rule(
        "cuda-platform",
        ("cuda",),
        "the toolkit is made for the platform",
        "cuda.json: platforms",
        unary=cuda.cuda_platform,
    ),
    Rule(
        "cuda-files",
        ("cuda",),
        "the toolkit's files are known by checksum",
        "src/gpuhost/data/wheels",
        unary=cuda.cuda_files,
        where=HOST,
    ),
    Rule(
        "cuda-wheels",
        ("cuda",),
        "TensorFlow's own CUDA is in NVIDIA's wheels",
        "src/gpuhost/data/wheels",
        unary=cuda.own_wheels,
        where=OWN,
    ),
    Rule(
        "cuda-reach",
        ("cuda",),
        "the libraries of TensorFlow's own CUDA run on the card",
        "ptxas --help, measured; fat binaries of the wheels, measured",
        unary=cuda.own_reach,
        about="card",
        where=OWN,
    ),
    Rule(
        "cuda-builds",
        ("cuda",),
        "the toolkit builds for the card",
        "ptxas --help, measured; CUDA.jl; CMake",
        unary=cuda.cuda_builds,
        about="card",
        where=HOST,
    ),
    Rule(
        "cuda-gcc",
        ("cuda",),
        "the platform has a host compiler that nvcc takes",
        "spack build_systems/cuda.py",
        unary=cuda.cuda_gcc,
        where=HOST,
    ),
    Rule(
        "cudnn-files",
        ("cudnn", "cuda"),
        "cuDNN's files are known by checksum",
        "src/gpuhost/data/wheels",
        binary=cuda.cudnn_files,
        when=cuda.by_wheels,
        where=HOST,
    ),
    Rule(
        "cudnn-wheels",
        ("cudnn",),
        "TensorFlow's own cuDNN is in NVIDIA's wheels",
        "src/gpuhost/data/wheels",
        unary=cuda.own_wheels,
        where=OWN,
    ),
    Rule(
        "cudnn-cards",
        ("cudnn",),
        "cuDNN holds code for the card",
        "cuDNN support matrices; wheels, measured",
        unary=cuda.cudnn_cards,
        about="card",
    ),
    Rule(
        "cudnn-cuda",
        ("cudnn", "cuda"),
        "cuDNN is built for this CUDA",
        "cuDNN support matrices",
        binary=cuda.cudnn_cuda,
    ),
    Rule(
        "tensorflow-code",
        ("tensorflow",),
        "the wheel holds code for the card",
        "code inside the wheels, measured",
        unary=frameworks.tf_code,
        about="card",
    ),
    Rule(
        "tensorflow-python",
        ("tensorflow",),
        "the archive has the wheel's Python",
        "wheel tags; platforms.json",
        unary=frameworks.tf_python,
        without_gpu=True,
    ),
    Rule(
        "tensorflow-glibc",
        ("tensorflow",),
        "the platform's glibc runs the wheel",
        "PEP 600",
        unary=frameworks.tf_glibc,
        without_gpu=True,
    ),
    Rule(
        "tensorflow-avx",
        ("tensorflow",),
        "the CPU has AVX",
        "tensorflow/docs install/pip.md",
        unary=frameworks.tf_avx,
        without_gpu=True,
    ),
    Rule(
        "tensorflow-cuda",
        ("tensorflow", "cuda"),
        "TensorFlow's tested CUDA",
        "tensorflow/docs install/source.md",
        binary=frameworks.tf_cuda,
    ),
    Rule(
        "tensorflow-cudnn",
        ("tensorflow", "cudnn"),
        "TensorFlow's tested cuDNN",
        "tensorflow/docs install/source.md",
        binary=frameworks.tf_cudnn,
    ),
    Rule(
        "opencv-darknet",
        ("opencv",),
        "the Darknet importer is there",
        "modules/dnn of each sdist",
        unary=frameworks.opencv_darknet,
        without_gpu=True,
    ),
    Rule(
        "opencv-floor",
        ("opencv",),
        "the card reaches OpenCV's lowest capability",
        "modules/dnn/CMakeLists.txt; opencv PR #16218",
        unary=frameworks.opencv_floor,
        about="card",
    ),
    Rule(
        "opencv-sources",
        ("opencv",),
        "the sources are known by checksum",
        "opencv.json: artifacts",
        unary=frameworks.opencv_sources,
    ),
    Rule(
        "opencv-tools",
        ("opencv",),
        "the tools that build it are locked",
        "src/gpuhost/data/environments",
        unary=frameworks.opencv_tools,
    ),
    Rule(
        "opencv-wheel",
        ("opencv",),
        "a locked wheel suits the platform",
        "PEP 600; src/gpuhost/data/environments",
        unary=frameworks.opencv_wheel,
        with_gpu=False,
        without_gpu=True,
    ),
    Rule(
        "opencv-cuda",
        ("opencv", "cuda"),
        "OpenCV builds with this CUDA",
        "sources and tags of OpenCV",
        binary=frameworks.opencv_cuda,
    ),
    Rule(
        "opencv-cudnn",
        ("opencv", "cudnn"),
        "OpenCV builds with this cuDNN",
        "sources and tags of OpenCV",
        binary=frameworks.opencv_cudnn,
    ),
)

#: The rules about what stands beside a stack; the resolver obeys them when that is chosen.
BESIDE: Tuple[Rule, ...] = (
    Rule(
        "virtualbox-kernel",
        ("virtualbox",),
        "its modules compile against the kernel",
        "virtualbox.json: kernels, each with its source",
        unary=virtualbox.kernel,
        without_gpu=True,
    ),
)
