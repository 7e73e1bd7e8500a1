"""Text that holds numbers or times: which of it a run reads as such, and what it says of the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tabstep.config.settings import SchemaSettings
from tabstep.run.prepared import Attention
from tabstep.system.sanitize import printable
from tabstep.tables.describe import written_formats
from tabstep.tables.infer_schema import ID_NAME, LABEL_NAMES
from tabstep.tables.source import ParquetSource

_FEW: Final = 32
"""Texts of which fewer differ, in four rows each and more, name groups."""
_SHOWN: Final = 16
_READ_SHOWN: Final = 3
_WIDTH: Final = 100
_PLAIN: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*")
"""What needs no quotes on the command line."""
_NAME: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*( [A-Za-z0-9_]+)*")
"""Names of columns that a mapping on the command line takes as they are."""


@dataclass(frozen=True, kw_only=True)
class TextFormats:
    """Formats by column: what is ``certain`` is read, of ``others`` a person is told.

    ``words`` are what stands between the numbers of a column, which are taken for categories because of it.
    """

    certain: Mapping[str, str]
    others: Mapping[str, str]
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)


def text_formats(source: ParquetSource, schema: SchemaSettings) -> TextFormats:
    """Return the format of each text that nobody has said a role or a format of, where its first rows have one.

    Certain are those by which nothing else can be meant; but a few texts that come again and again name groups, such as
    cohorts or sizes, and are as good a category.
    """
    label = [schema.label] if isinstance(schema.label, str) else schema.label or []
    stated = {schema.id, *label, schema.weight, *(schema.numeric or []), *schema.drop, *schema.parse}
    if schema.categorical is not None:  # exact: no other text is a feature
        return TextFormats(certain={}, others={})
    # what a name makes a label or an id, where none is stated, is no feature
    free = [
        name
        for name in source.arrow_schema.names
        if name not in stated
        and (label or name.lower() not in LABEL_NAMES)
        and (schema.id is not None or not ID_NAME.fullmatch(name))
    ]
    found = written_formats(source, free)
    words = {name: each.words for name, each in found.items() if each.words}
    forms = {name: each for name, each in found.items() if not each.words}
    certain = {name for name, each in forms.items() if each.certain and each.distinct >= min(_FEW, each.texts / 4)}
    return TextFormats(
        certain={name: each.form for name, each in forms.items() if name in certain},
        others={name: each.form for name, each in forms.items() if name not in certain},
        words=words,
    )


def reading_certain(schema: SchemaSettings, forms: TextFormats) -> SchemaSettings:
    """Return settings by which text is read as the number or the time that it can only be."""
    return replace(schema, parse={**schema.parse, **forms.certain})


def format_lines(forms: TextFormats) -> Iterator[str | Attention]:
    """Say which text is read, and how to have the rest read, which a model may be much worse without."""
    yield from _certain_line(forms.certain)
    for cause, remedy in (*_format_hint(forms.others), *_words_hint(forms.words)):
        yield Attention(shown=cause, warnings=[f"{cause}; {remedy}"])
        yield remedy


def _certain_line(forms: Mapping[str, str]) -> Iterator[str]:
    r"""Say which texts are read as numbers and times, and how to keep one as it is.

    >>> print(*_certain_line({"price": "number"}), sep="\n")
    text that is read as numbers and times: price (number); '+schema.parse={price: text}' keeps one as it is
    """
    if forms:
        shown = [f"{printable(name)} ({form})" for name, form in forms.items()]
        some = ", ".join(shown[:_READ_SHOWN]) + ", ..." * (len(shown) > _READ_SHOWN)
        first = next(iter(forms))
        kept = first if _NAME.fullmatch(first) else "NAME"
        yield f"text that is read as numbers and times: {some}; '+schema.parse={{{kept}: text}}' keeps one as it is"


def _format_hint(forms: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    r"""Say which texts are numbers or dates that nobody asked to be read as such, and how to ask.

    >>> print(*next(_format_hint({"Monthly Bill": "number", "day": "%d.%m.%Y"})), sep="\n")
    text that looks like numbers or dates is taken for categories: Monthly Bill (number), day (%d.%m.%Y)
    to read them as such: '+schema.parse={Monthly Bill: number, day: "%d.%m.%Y"}'
    """
    if not forms:
        return
    some = ", ".join(f"{printable(name)} ({form})" for name, form in list(forms.items())[:_SHOWN])
    pairs = (f"{name}: {form}" if _PLAIN.fullmatch(form) else f'{name}: "{form}"' for name, form in forms.items())
    remedy = f"to read them as such: '+schema.parse={{{', '.join(pairs)}}}'"
    if len(remedy) > _WIDTH or not all(map(_NAME.fullmatch, forms)):  # a command in two lines cannot be copied
        remedy = "`tabstep schema` writes a schema that reads them as such"
    yield f"text that looks like numbers or dates is taken for categories: {some}", remedy


def _words_hint(words: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    r"""Say which numbers are taken for categories because of a word between them.

    >>> print(*next(_words_hint({"income": ("keine Angabe",), "age": ("old", "young")})), sep="\n")
    numbers are taken for categories, for a text between them: income ('keine Angabe'), age ('old', 'young')
    where such a text stands for no value, leave its cells empty
    """
    if not words:
        return
    shown = (f"{printable(name)} ({', '.join(map(repr, texts))})" for name, texts in list(words.items())[:_SHOWN])
    cause = f"numbers are taken for categories, for a text between them: {', '.join(shown)}"
    yield cause, "where such a text stands for no value, leave its cells empty"
