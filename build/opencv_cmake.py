#!/usr/bin/env python3
"""Build OpenCV with CUDA for the cards that are there, as a wheel, and prove it: `--help` says how.

The logic is in the package `gpuhost.cvbuild`; `gpuhost.cli.opencv` gives it the catalog.
"""

import sys

from gpuhost.cli.opencv import main

if __name__ == "__main__":
    sys.exit(main())
