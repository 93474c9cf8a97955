"""Parts of a plan that it has in one of several forms, where whoever reads it has made sure of the form."""

from __future__ import annotations

from ..shapes.lock import BuiltOpencv, Plan


def built(plan: Plan) -> BuiltOpencv:
    """Return the OpenCV of a plan that has it built on the host."""
    part = plan["opencv"]
    if part is None or part["source"] == "wheel":
        raise AssertionError("this plan has no OpenCV that is built")
    return part
