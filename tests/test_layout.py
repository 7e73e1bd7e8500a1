"""Where tests lie: each module's at its own path, and what a module leaves to the tests of another, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TESTS = ROOT / "src" / "tabstep", ROOT / "tests"
AT_THEIR_PATHS = 0.95

THINGS = {
    "conf/test_options": "conf",
    "examples/test_notebook": "examples",
    "examples/test_own_model": "examples/own_model",
    "launch/test_policies": "policies",
    "scripts/test_check": "scripts/check",
    "scripts/test_docs": "scripts/docs",
    "scripts/test_generated_docs": "scripts/generated_docs.py",
    "scripts/test_quality": "scripts/quality.py",
    "scripts/test_generated_tables": "scripts/generated_tables.py",
    "scripts/test_scale_model": "scripts/scale_model.py",
    "sweep/test_plugin": "src/hydra_plugins/tabstep_sweeper.py",
    "test_contributing": "CONTRIBUTING.md",
    "test_dockerfile": "Dockerfile",
    "test_layout": "tests",
    "test_pins": "constraints.txt",
    "test_readme": "README.md",
}
"""Tests of what is no module of the package."""

JOURNEYS = {
    "faults/test_commands": "damaged files and failing storage, through the commands alone",
    "faults/test_configurations": "overrides that mean nothing, through the command alone",
    "faults/test_damage": "finished runs and caches of which a file is lost or changed",
    "faults/test_kinds": "each type in train beside each at predict, through the predictor and the handler",
    "faults/test_odd_requests": "requests that are not what they say, through the handler alone",
    "faults/test_requests": "hostile requests, through the handler alone",
    "faults/test_s3": "a bucket that fails, through what reads and writes there",
    "faults/test_storage": "storage that fails beneath every system call, through the commands alone",
    "faults/test_surroundings": "variables of a cluster and clocks that jump, through the commands alone",
    "run/test_own_step": "a step and metrics of one's own, from the configuration to a resumed run",
    "run/test_shown_once": "what a run says, from the command line to its last line",
    "run/test_resume": "runs that are killed anywhere",
    "serving/test_container": "an artifact as a container has it, without this package",
    "serving/test_sagemaker": "an artifact behind the SDK's own server and model",
    "sweep/test_kills": "sweeps that are killed anywhere",
    "sweep/test_other_launchers": "launchers that others made for Hydra",
    "sweep/test_ranks_in_trials": "several processes in each trial",
    "test_bad_input": "hostile tables, full disks and signals, through the commands alone",
}
"""Tests that go through many modules, and whose way it is."""

COVERED = {
    "analysis/explained_rows": "analysis/test_explain",
    "tables/missing_words": "tables/test_csv",
    "config/data_rules": "config/test_parse",
    "encoding/encoder_cache": "encoding/test_encoder",
    "run/prepared": "run/test_prepare",
    "run/text_formats": "run/test_prepare",
    "system/surroundings": "faults/test_surroundings",
    "tables/typed_table": "tables/test_source",
    "component_source": "test_registry",
    "api/finished_run": "api/test_train",
    "analysis/dependence": "analysis/test_permutation",
    "analysis/explanation": "analysis/test_explain",
    "analysis/explanation_tables": "analysis/test_explain",
    "analysis/run_analysis": "analysis/test_run_report",
    "analysis/run_page": "analysis/test_run_report",
    "analysis/run_pictures": "analysis/test_run_report",
    "analysis/sections/column_tables": "analysis/test_run_report",
    "analysis/sections/confusion_tables": "analysis/test_run_report",
    "analysis/sections/facts": "analysis/test_run_report",
    "analysis/sections/provenance_tables": "analysis/test_run_report",
    "analysis/sections/score_tables": "analysis/test_run_report",
    "analysis/sections/threshold_slider": "analysis/test_run_report",
    "analysis/sampled_rows": "analysis/test_explain",
    "analysis/stored_predictions": "analysis/test_ensemble",
    "analysis/sweep_report": "sweep/test_plots",
    "artifact/load": "artifact/test_save",
    "artifact/member": "artifact/test_predictor",
    "artifact/onnx_search": "artifact/test_onnx_encoder",
    "artifact/onnx_times": "artifact/test_onnx_encoder",
    "artifact/prediction_files": "artifact/test_predictor",
    "checks/checks": "checks/test_check_splits",
    "checks/columns": "checks/test_check_splits",
    "checks/labels": "checks/test_check_splits",
    "checks/profile": "checks/test_leaks",
    "checks/rows": "checks/test_check_splits",
    "commands/arguments": "test_cli",
    "commands/models": "test_cli",
    "commands/runs": "test_cli",
    "commands/tables": "test_cli",
    "config/compose": "conf/test_options",
    "config/key_types": "config/test_parse",
    "config/local_tables": "api/test_train",
    "config/rules": "config/test_parse",
    "config/settings/callbacks": "config/settings/test_settings",
    "config/settings/classifier": "config/settings/test_settings",
    "config/settings/data": "config/settings/test_settings",
    "config/settings/launch": "config/settings/test_settings",
    "config/settings/logger": "config/settings/test_settings",
    "config/settings/loss": "config/settings/test_settings",
    "config/settings/metrics": "config/settings/test_settings",
    "config/settings/optimizer": "config/settings/test_settings",
    "config/settings/paths": "config/settings/test_settings",
    "config/settings/report": "config/settings/test_settings",
    "config/settings/scheduler": "config/settings/test_settings",
    "config/settings/schema": "config/settings/test_settings",
    "config/settings/trainer": "config/settings/test_settings",
    "config/unknown_keys": "config/test_parse",
    "config/values": "config/test_parse",
    "encoding/statistics_fit": "encoding/test_target_statistics",
    "launch/launch": "launch/test_submit",
    "launch/pipeline/registration": "launch/pipeline/test_pipeline",
    "launch/pipeline/step": "launch/pipeline/test_pipeline",
    "launch/pipeline/variables": "launch/pipeline/test_model_hyperparameters",
    "option_types": "test_registry",
    "run/build_scores": "run/test_build",
    "run/build_trainer": "run/test_build",
    "run/evaluation": "run/test_export",
    "run/done_file": "run/test_export",
    "run/fold_weights": "run/test_folds",
    "run/fold_report": "run/test_folds",
    "run/fold_results": "run/test_folds",
    "run/directories": "run/test_folds",
    "run/run": "run/test_prepare",
    "run/sharded_fit": "run/test_prepare_shards",
    "run/sharded_train": "run/test_prepare_shards",
    "run/showing": "run/test_shown_once",
    "run/worker": "sweep/test_runners",
    "serving/limits": "serving/test_handler",
    "serving/request_error": "serving/test_fields",
    "serving/feature_table": "serving/test_fields",
    "serving/request_rows": "serving/test_handler",
    "sweep/best": "sweep/test_run_sweep",
    "sweep/compose_trials": "sweep/test_loop",
    "sweep/runner_interface": "sweep/test_loop",
    "sweep/html_report": "sweep/test_plots",
    "sweep/optuna_study": "sweep/test_samplers",
    "sweep/progress_view": "sweep/test_leaderboard",
    "sweep/select_launcher": "sweep/test_run_sweep",
    "sweep/summary": "sweep/test_run_sweep",
    "sweep/validate": "sweep/test_run_sweep",
    "system/parent_watch": "sweep/test_runners",
    "tables/arrow_stream": "tables/test_source",
    "system/terminal": "system/test_exits",
    "tables/footers": "tables/test_source",
    "tables/readers": "tables/test_csv",
    "tables/row_groups": "tables/test_split_file",
    "tabstep": "test_entry",
    "tracking/wandb_files": "tracking/test_wandb",
    "training/callbacks/when_to_save": "training/test_classifier",
    "training/progress": "training/test_classifier",
    "training/shard_loader": "run/test_prepare_shards",
}
"""Modules that are tested through the one that uses them, and where."""


def modules() -> Iterator[str]:
    """Yield every module that defines something; of a package that does, its name once more."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_bytes())
        if any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign) for node in tree.body):
            folder = path.parent.relative_to(SOURCE)
            yield (folder / (path.parent.name if path.stem == "__init__" else path.stem)).as_posix()


def its_test(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}".lstrip("/")


def functions_of(path: Path) -> list[ast.FunctionDef]:
    functions = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)]
    return [function for function in functions if function.name.startswith("test_")]


def has_fast_test(path: Path) -> bool:
    """Tell whether a file has a test that is not marked slow."""
    return any(not any("mark.slow" in ast.unparse(each) for each in test.decorator_list) for test in functions_of(path))


FILES = {path.relative_to(TESTS).with_suffix("").as_posix(): path for path in sorted(TESTS.rglob("test_*.py"))}
MODULES = list(modules())


@pytest.mark.parametrize("module", MODULES)
def test_a_fast_test_covers_each_module(module: str) -> None:
    test = its_test(module)
    if module in COVERED:
        assert test not in FILES, f"{module} has its own test: take it out of COVERED"
        test = COVERED[module]
    assert test in FILES, f"{module} has no tests/{test}.py: write it"
    assert has_fast_test(FILES[test]), f"{test} has slow tests alone: add a fast one for {module}"


def test_tests_lie_at_the_paths_of_what_they_test() -> None:
    of_modules = {its_test(module) for module in MODULES}
    elsewhere = FILES.keys() - of_modules - THINGS.keys()
    assert elsewhere == JOURNEYS.keys()
    counts = {name: len(functions_of(path)) for name, path in FILES.items()}
    assert sum(counts[name] for name in elsewhere) <= (1 - AT_THEIR_PATHS) * sum(counts.values())


def test_no_name_here_is_out_of_date() -> None:
    assert COVERED.keys() <= {*MODULES}
    assert {*THINGS} <= FILES.keys()
    assert all((ROOT / thing).exists() for thing in THINGS.values())
