"""What the Python that runs Ansible needs, and what is said where it is missing."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from typing import Any

import pytest

from gpuhost import planning


@pytest.mark.parametrize("missing", [["fastjsonschema"], ["rich"], ["fastjsonschema", "rich"]])
def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, missing: list[str]) -> None:
    """Ansible shows the message of a plugin that cannot be imported, and nothing else."""
    real = importlib.util.find_spec

    def find(name: str, package: Any = None) -> Any:
        """Find all but what is missing."""
        return None if name in missing else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(ImportError, match=f"^gpuhost needs {' and '.join(missing)}. Type: ") as raised:
        runpy.run_path(str(planning.__file__))
    assert str(raised.value).endswith(f"{sys.executable} -m pip install {' '.join(missing)}")
