"""The catalog, the rules, the resolver, plans and locks. Pure: nothing here prints or parses a command line."""

import importlib.util
import shlex
import sys

# A collection's user installs these by hand, and Ansible shows of a plugin that cannot be loaded no more than this.
_MISSING = [name for name in ("fastjsonschema", "rich") if importlib.util.find_spec(name) is None]
if _MISSING:
    _PIP = f"{shlex.quote(sys.executable)} -m pip install {' '.join(_MISSING)}"
    raise ImportError(f"gpuhost needs {' and '.join(_MISSING)}. Type: {_PIP}")
