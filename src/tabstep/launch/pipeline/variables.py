"""Variables of a pipeline: parameters, outputs of earlier steps, facts of an execution; known when it runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from tabstep.launch.request import sdk


def is_variable(value: Any) -> bool:
    """Tell whether a value is one; without the SDK there are none."""
    plain = value is None or isinstance(value, str | int | float | list | dict | tuple)
    if plain or find_spec("sagemaker") is None:
        return False
    sdk.sagemaker()
    with sdk.quiet():
        from sagemaker.workflow import is_pipeline_variable

    return bool(is_pipeline_variable(value))


def joined(base: Any, name: Any) -> Any:
    """Join an address and a name: now where both are known, else when the pipeline runs."""
    if isinstance(base, str) and isinstance(name, str):
        return f"{base}/{name}"
    from sagemaker.workflow.functions import Join

    values = base.values if isinstance(base, Join) else [base]
    return Join(on="/", values=[*values, name])
