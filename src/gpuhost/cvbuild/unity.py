"""Compiling several files of a module as one, which saves reading OpenCV's headers again for each of them.

Measured on twelve files of the DNN module's layers: 42.1 CPU-seconds one by one, 11.7 as one (OpenCV 4.14.0, gcc 12).
A hook of OpenCV's own build system turns it on, so no file of the sources is changed. It is on only for releases in
which the list of files that must stay alone was found by building; another release is built file by file.
"""

from __future__ import annotations

import re
from typing import Dict, Tuple

#: Modules whose files were built together. imgproc is none: half of its files define the same names.
MODULES = ("opencv_core", "opencv_imgcodecs", "opencv_dnn")
#: Files in one compile step: more saves little, and takes memory.
BATCH = 10
#: Files that stay alone, as patterns of CMake, by OpenCV release: they define names or macros that others have too.
ALONE: Dict[str, Tuple[str, ...]] = {
    "4.14.0": (
        r"\\.dispatch\\.cpp$",
        r"\\.(sse[0-9_]*|avx[0-9a-z_]*)\\.cpp$",
        r"/core/src/softfloat\\.cpp$",
        r"/dnn/src/torch/TH[A-Za-z]*\\.cpp$",
        r"/dnn/src/layers/cpu_kernels/[a-z0-9_]*\\.cpp$",
    ),
}

HOOK = """# Written by gpuhost: several files of a module are compiled as one.
if(the_module MATCHES "^({modules})$")
  get_target_property(__gpuhost_files ${{the_module}} SOURCES)
  foreach(__gpuhost_file IN LISTS __gpuhost_files)
    if(__gpuhost_file MATCHES "{alone}")
      set_source_files_properties("${{__gpuhost_file}}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
  set_target_properties(${{the_module}} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE {batch})
endif()
"""


def hook(opencv: str) -> str:
    """The text of the hook for a release, '' for one that is built file by file."""
    if opencv not in ALONE:
        return ""
    return HOOK.format(modules="|".join(MODULES), alone="|".join(ALONE[opencv]), batch=BATCH)


def word(opencv: str) -> str:
    """What stands in the cache key for the hook's folder: everything that the hook says."""
    return re.sub(r"\s+", " ", hook(opencv))
