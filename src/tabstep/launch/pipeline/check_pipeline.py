"""Validates a whole pipeline before it is sent: names of its steps, and the size of its definition."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from tabstep.errors import raise_problems
from tabstep.launch.request import sdk, service_model

# Source: github.com/aws-sagemaker-mlops/sagemaker-model-building-pipeline-definition-JSON-schema
_STEP_NAME: Final = re.compile(r"[A-Za-z0-9\-_]{1,64}")
_SHOWN: Final = 3  # of the largest steps


def check_pipeline(pipeline: Any) -> None:
    """Check a ``sagemaker.workflow.pipeline.Pipeline`` before it is sent: the SDK and botocore do not.

    Raises:
        ProblemsError: its name, the name of a step or the size of its definition is none that the service takes.
    """
    with sdk.quiet():
        definition = pipeline.definition()
    named = [f"pipeline{line}" for line in service_model.violations(pipeline.name, "PipelineName")]
    raise_problems([*named, *_definition_problems(definition)])


def _definition_problems(definition: str) -> Iterator[str]:
    sizes = {step["Name"]: len(json.dumps(step)) for step in json.loads(definition)["Steps"]}
    for name in sizes:
        if not _STEP_NAME.fullmatch(name):
            yield f"step {name!r}: a name has 1 to 64 letters, digits, dashes and underscores"
    most = service_model.shapes()["PipelineDefinition"]["max"]
    if len(definition) > most:
        largest = ", ".join(
            f"{name} ({sizes[name]:,})" for name in sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN]
        )
        yield (
            f"pipeline: its definition has {len(definition):,} characters, at most {most:,} are allowed: make several "
            f"pipelines of its {len(sizes)} steps; the largest: {largest}"
        )
