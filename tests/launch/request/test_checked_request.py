"""The request that is sent is the one that was rendered and checked; everything that is wrong is told together."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("sagemaker")

from tests.launch.jobs import settings_of, spec_of

from tabstep.errors import ProblemsError
from tabstep.launch.request import render
from tabstep.launch.request.checked_request import checked_request


def test_a_sound_job_is_rendered_as_it_is() -> None:
    spec = spec_of(settings_of())
    assert checked_request(spec) == render.request(spec)


def test_known_problems_come_first_and_each_once() -> None:
    spec = replace(spec_of(settings_of()), job_name="a_b", max_run=0)
    with pytest.raises(ProblemsError) as caught:
        checked_request(spec, ["data.train: is missing", "data.train: is missing"])
    assert [line.partition(": ")[0] for line in caught.value.problems] == [
        "data.train",
        "launch.job_name",
        "launch.max_run",
    ]


def test_what_keeps_the_sdk_from_rendering_hides_nothing_else() -> None:
    spec = replace(
        spec_of(settings_of()), job_name="a_b", role="", subnets=("subnet-0123456789abcdef0",), image_uri=None
    )
    with pytest.raises(ProblemsError) as caught:
        checked_request(spec, ["launch.role: is missing"])
    assert [line.partition(": ")[0] for line in caught.value.problems] == ["launch.role", "launch.job_name"]
