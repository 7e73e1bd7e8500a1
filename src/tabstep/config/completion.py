"""Completion of the command line in a shell: a script that holds every word, so that a press of Tab starts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tabstep.config import key_types
from tabstep.config.command_line import SWITCHES, VALUE_FLAGS
from tabstep.config.conf_directory import group_options

_SCRIPT: Final = r"""# Completion for tabstep, scripts/train and ./train.py in bash.
# In zsh, first: autoload -U bashcompinit && bashcompinit
_tabstep_train_words='
{train}
'
_tabstep_commands='
{commands}
'
_tabstep_flags() {{
    case "$1" in
{cases}
    esac
}}
_tabstep_reply() {{
    # A word such as model=mlp is several ones to the shell: complete it whole, and give back what follows the last "=".
    local line="${{COMP_LINE:0:COMP_POINT}}" word candidate
    word="${{line##* }}"
    COMPREPLY=()
    while IFS= read -r candidate; do
        [[ -n "$candidate" && "$candidate" == "$word"* ]] || continue
        [[ "$word" == *=* ]] && candidate="${{candidate#"${{word%=*}}="}}"
        COMPREPLY+=("$candidate")
    done
    if [[ ${{#COMPREPLY[@]}} -eq 1 && "${{COMPREPLY[0]}}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
}}
_tabstep_train() {{ _tabstep_reply <<< "$_tabstep_train_words"; }}
_tabstep() {{
    if [[ $COMP_CWORD -le 1 ]]; then
        _tabstep_reply <<< "$_tabstep_commands"
    elif [[ "${{COMP_WORDS[1]}}" == train ]]; then
        _tabstep_train
    else
        _tabstep_reply <<< "$(_tabstep_flags "${{COMP_WORDS[1]}}")"
    fi
}}
complete -o default -F _tabstep tabstep
complete -o default -F _tabstep_train scripts/train ./train.py
"""


def completion_script(flags: Mapping[str, Sequence[str]], conf_dirs: Sequence[Path]) -> str:
    """Return a script for bash; ``flags`` has those of each command but ``train``, whose words are keys and options."""
    cases = [f"        {name}) printf '%s\\n' {' '.join(found)} ;;" for name, found in flags.items()]
    return _SCRIPT.format(
        train="\n".join(sorted(_train_words(conf_dirs))),
        commands="\n".join(["train", *flags]),
        cases="\n".join(cases),
    )


def _train_words(conf_dirs: Sequence[Path]) -> Iterator[str]:
    yield from (*VALUE_FLAGS, *SWITCHES)
    options = group_options(conf_dirs)
    yield from (f"{group}={option}" for group, found in options.items() for option in found)
    for path, variants in key_types.key_paths().items():
        if key_types.groups(variants[0]) or path.endswith(".name"):
            continue
        values = dict.fromkeys(value for variant in variants for value in _values(variant))
        yield from (f"{path}={value}" for value in values) if values else (f"{path}=",)


def _values(annotation: object) -> Iterator[str]:
    """Yield the values that a key takes, where there are few."""
    yield from key_types.choices(annotation)
    if any(key_types.bare(member) is bool for member in key_types.members(annotation)):
        yield from ("true", "false")
