"""`python -m gpuhost.doctor`."""

import sys

from .run import main

sys.exit(main())
