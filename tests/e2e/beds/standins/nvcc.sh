#!/bin/sh
# Stand-in for nvcc: tells its version, and compiles nothing.
case "${1:-}" in
    --version | -V)
        echo "nvcc: NVIDIA (R) Cuda compiler driver
Copyright (c) 2005-2022 NVIDIA Corporation
Built on Wed_Sep_21_10:33:58_PDT_2022
Cuda compilation tools, release @SERIES@, V@COMPILER@
Build cuda_@SERIES@.r@SERIES@/compiler.0_0"
        ;;
    *) echo "nvcc fatal   : this is a stand-in, which compiles nothing" >&2; exit 1 ;;
esac
