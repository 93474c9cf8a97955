"""Compiling several files of a module as one, which saves reading OpenCV's headers again for each of them.

The gain is in docs/reference/opencv-build.md. Hooks of OpenCV's own build system turn it on, so no file of the sources
is changed: CMake merges the C++ files by itself; for CUDA files it does not, so a hook writes files that include them
into the build folder. It is on only for releases in which the list of files that must stay alone was found by building;
another release is built file by file.
"""

from __future__ import annotations

import re
from typing import Dict, Tuple

#: Modules whose files were built together.
MODULES = ("opencv_core", "opencv_imgproc", "opencv_imgcodecs", "opencv_dnn")
#: Files in one compile step: more saves little, and takes memory.
BATCH = 10
#: CUDA files in one compile step, none of which must stay alone: two steps for the DNN module's 25, for two cores.
CUDA_BATCH = 13
#: Files that stay alone, as patterns of CMake, by OpenCV release: they define names or macros that others have too.
ALONE: Dict[str, Tuple[str, ...]] = {
    "4.14.0": (
        r"\\.dispatch\\.cpp$",
        r"\\.(sse[0-9_]*|avx[0-9a-z_]*)\\.cpp$",
        r"/core/src/softfloat\\.cpp$",
        # Those of colours, of distances, and those that bring softfloat.hpp, whose functions others then call.
        r"/imgproc/src/(color|color_lab|distransform|emd|imgwarp|resize)\\.cpp$",
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

#: The module's sources are listed here, and no compile step is made of any of them yet. It may run twice in a folder.
CUDA_HOOK = r"""# Written by gpuhost: several CUDA files of a module are compiled as one.
if(the_module MATCHES "^({modules})$")
  set(__gpuhost_files "${{OPENCV_MODULE_${{the_module}}_SOURCES}}")
  list(FILTER __gpuhost_files INCLUDE REGEX "\\.cu$")
  list(FILTER OPENCV_MODULE_${{the_module}}_SOURCES EXCLUDE REGEX "\\.cu$")
  set(__gpuhost_count 0)
  foreach(__gpuhost_file IN LISTS __gpuhost_files)
    math(EXPR __gpuhost_place "${{__gpuhost_count}} % {batch}")
    if(__gpuhost_place EQUAL 0)
      math(EXPR __gpuhost_number "${{__gpuhost_count}} / {batch}")
      set(__gpuhost_merged "${{CMAKE_CURRENT_BINARY_DIR}}/{merged}${{__gpuhost_number}}.cu")
      file(WRITE "${{__gpuhost_merged}}" "")
      list(APPEND OPENCV_MODULE_${{the_module}}_SOURCES "${{__gpuhost_merged}}")
    endif()
    file(APPEND "${{__gpuhost_merged}}" "#include \"${{__gpuhost_file}}\"\n")
    math(EXPR __gpuhost_count "${{__gpuhost_count}} + 1")
  endforeach()
endif()
"""
#: What the merged CUDA files are called, before their number.
MERGED = "gpuhost_cuda_"


def hooks(opencv: str) -> Dict[str, str]:
    """Return the hooks for a release, text by file name; none for one that is built file by file."""
    if opencv not in ALONE:
        return {}
    modules = "|".join(MODULES)
    return {
        "POST_CREATE_MODULE_LIBRARY.cmake": HOOK.format(modules=modules, alone="|".join(ALONE[opencv]), batch=BATCH),
        "PRE_CREATE_MODULE_LIBRARY.cmake": CUDA_HOOK.format(modules=modules, merged=MERGED, batch=CUDA_BATCH),
    }


def word(opencv: str) -> str:
    """Return what stands in the cache key for the hooks' folder: everything that the hooks say."""
    return re.sub(r"\s+", " ", "".join(text for _, text in sorted(hooks(opencv).items())))
