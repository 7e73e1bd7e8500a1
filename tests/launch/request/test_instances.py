from __future__ import annotations

import importlib.resources
import json

import pytest

from tabstep.launch.request.aws_facts import table
from tabstep.launch.request.instances import gpus, has_local_disk, is_gpu
from tabstep.launch.request.service_model import instance_types


def test_gpus_are_those_of_the_sdk() -> None:
    pytest.importorskip("sagemaker")
    file = importlib.resources.files("sagemaker") / "image_uri_config" / "instance_gpu_info.json"
    theirs = {name: info["Count"] for group in json.loads(file.read_text()).values() for name, info in group.items()}
    known = {name: count for name, count in theirs.items() if name in instance_types()}
    assert {name: gpus(name) for name in known} == known


def test_what_no_table_knows_is_not_taken_for_a_cpu() -> None:
    unknown = {name.split(".")[1] for name in instance_types() if gpus(name) is None}
    assert unknown == {"g7", "trn1", "trn1n", "trn2"}
    assert is_gpu("ml.g7.2xlarge")


def test_families_without_gpus() -> None:
    families = {name.split(".")[1] for name in instance_types() if gpus(name) == 0}
    assert {family[0] for family in families} == {"c", "m", "r", "t"}


def test_local_disks_are_of_families_that_exist() -> None:
    families = {name.split(".")[1] for name in instance_types()}
    assert set(table("instances")["local_disks"]) <= families
    assert has_local_disk("ml.g5.12xlarge")
