"""64-bit hashes of cells and rows, to find equal ones in bounded memory; equal text hashes alike in every split."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from tabstep.tables.column_types import to_float64, to_text

_MISSING: Final = np.uint64(0x9E3779B97F4A7C15)
_BASE: Final = np.uint64(0xD1342543DE82EF95)  # odd: a polynomial of the bytes modulo 2**64
_BYTE_VALUES: Final = np.random.default_rng(64).integers(1, 2**63, 256, dtype=np.uint64)
_BYTES_AT_ONCE: Final = 2**22


def mix(values: np.ndarray) -> np.ndarray:
    """Return the finaliser of splitmix64 of uint64 ``values`` (https://prng.di.unimi.it/splitmix64.c)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def distinct(hashes: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values; ``np.unique`` of numpy 2.4 takes ten times as long for millions of them."""
    ordered = np.sort(hashes)
    kept: np.ndarray = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
    return kept


def contained(hashes: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return ``(n,)`` bool: which of ``hashes`` are in ``ordered``, which is ascending and not empty.

    >>> contained(np.array([3, 9], dtype=np.uint64), np.array([1, 3], dtype=np.uint64)).tolist()
    [True, False]
    """
    place = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    found: np.ndarray = ordered[place] == hashes
    return found


def hash_numbers(values: np.ndarray) -> np.ndarray:
    """Return ``(n,)`` uint64 of float64 ``values``; every NaN hashes alike, and -0.0 as 0.0."""
    hashes = mix((values + 0.0).view(np.uint64))
    hashes[np.isnan(values)] = _MISSING
    return hashes


def hash_text(array: pa.Array) -> np.ndarray:
    """Return ``(n,)`` uint64 of a string array; nulls hash alike.

    >>> one, two = hash_text(pa.array(["a", "", None, "b"])), hash_text(pa.array(["b", "a"]))
    >>> bool(one[0] == two[1]), bool(one[3] == two[0]), len(set(one.tolist()))
    (True, True, 4)
    """
    array = array.cast(pa.large_string())
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    # in halves: the terms take 24 bytes and more for each byte of text
    if len(array) > 1 and offsets[-1] - offsets[0] > _BYTES_AT_ONCE:
        half = len(array) // 2
        return np.concatenate([hash_text(array[:half]), hash_text(array[half:])])
    lengths = np.diff(offsets)
    sums = np.zeros(len(array), dtype=np.uint64)
    if lengths.any():
        data = np.frombuffer(array.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
        starts = offsets[:-1] - offsets[0]
        powers = np.cumprod(np.full(int(lengths.max()), _BASE))
        terms = _BYTE_VALUES[data] * powers[np.arange(len(data)) - np.repeat(starts, lengths)]
        filled = lengths > 0
        sums[filled] = np.add.reduceat(terms, starts[filled])
    hashes = mix(sums + lengths.astype(np.uint64) * _BASE)
    if array.null_count:
        hashes[array.is_null().to_numpy(zero_copy_only=False)] = _MISSING
    return hashes


def hash_categories(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(n,)`` uint64 of a categorical column, and the hashes and the counts of its distinct values.

    A missing value hashes as ``hash_text`` does a null; the distinct values leave it out.
    """
    return hash_encoded(to_text(array).dictionary_encode())


def hash_encoded(encoded: pa.DictionaryArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what ``hash_categories`` does of a dictionary of texts, in which each stands once."""
    values = hash_text(encoded.dictionary)
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(values) + 1)[:-1]
    return np.append(values, _MISSING)[codes], values, counts


def hash_ids(array: pa.Array) -> np.ndarray:
    """Return ``(n,)`` uint64 of an id column, exact for integers."""
    # uint64 may hold more than int64 does
    if pa.types.is_integer(array.type) and array.null_count == 0 and array.type != pa.uint64():
        return mix(array.cast(pa.int64()).to_numpy(zero_copy_only=False).view(np.uint64))
    return hash_text(to_text(array))


def hash_column(array: pa.Array, *, numeric: bool) -> np.ndarray:
    """Return ``(n,)`` uint64 of a column by its role."""
    return hash_numbers(to_float64(array)) if numeric else hash_categories(array)[0]
