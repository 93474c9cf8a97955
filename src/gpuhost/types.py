"""The shapes of values that more than one room handles.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

from typing import Any, Dict

#: A JSON object.
Json = Dict[str, Any]
