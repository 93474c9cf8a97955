"""`python -m gpuhost.cli`, which is the command `gpuhost`."""

import sys

from .main import main

sys.exit(main())
