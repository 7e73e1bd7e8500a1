"""A launcher of another package: a function that takes a run over, and returns its exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabstep.errors import UserError
from tabstep.registry import LAUNCHERS, PluginSettings


def launch_by(launcher: PluginSettings, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Call ``launcher(config, overrides, **options)``, which returns the exit status of the run.

    Args:
        config: the composed configuration as plain containers.
        overrides: of the command line, without those of ``launch``: with them alone it is a run where it is called.

    Raises:
        UserError: its options are wrong, it fails, or it returns another status than 0, which becomes the command's.
    """
    LAUNCHERS.check(launcher.name, launcher.options)
    found = LAUNCHERS.load(launcher.name)
    own = [text for text in overrides if text.lstrip("+~").partition("=")[0].partition(".")[0] != LAUNCHERS.key]
    try:
        status = found(dict(config), own, **launcher.options)
    except UserError:
        raise
    except Exception as error:  # of somebody else's code
        raise UserError(f"launch: {launcher.name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if isinstance(status, bool) or not isinstance(status, int):
        raise UserError(f"launch: {launcher.name} returned {status!r}, an exit status is due: 0 where all went well")
    if status != 0:
        failed = UserError(f"launch: {launcher.name} ended with the exit status {status}")
        failed.exit_code = status
        raise failed
