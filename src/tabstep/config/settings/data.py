"""Keys of the group ``data``: where tables are, how they are split, encoded and cut into batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from tabstep.option_types import Count, Doc, OpenFraction, Range
from tabstep.registry import ENCODERS, READERS, PluginSettings


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How columns become numbers; fitted on the train split only."""

    scaling: Annotated[Literal["quantile", "robust", "standard"], Doc("how numeric columns are scaled")] = "quantile"
    max_categories: Annotated[Count, Doc("values that a column keeps; less frequent ones become one rare value")] = (
        10000
    )
    min_frequency: Annotated[
        Literal["auto"] | Count,
        Doc("rows that a value needs, or it is rare; auto: 1, or 2 where most values stand once"),
    ] = "auto"
    statistics: Annotated[bool, Doc("rates of the target by categories and combinations of them, where they help")] = (
        True
    )
    columns: Annotated[
        dict[str, Annotated[PluginSettings, ENCODERS]],
        Doc("classes of other packages that make inputs of a column, beside its own: name and options of each"),
    ] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How val is held out of train where there is none, or how train is cut into folds."""

    group: Annotated[str | None, Doc("column whose equal values stay in one split, as customer")] = None
    time: Annotated[str | None, Doc("column by which the latest rows are held out")] = None


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """What reads a location: ours, by what lies there, or a function of another package that returns a table."""

    name: Annotated[
        Literal["default"], Doc("what reads a location: default, or a function of another package, package.module:Name")
    ] = "default"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the tables are and how they are cut into batches. With no location at all: the built-in table."""

    path: Annotated[str | None, Doc("directory with train/, val/ and test/, or train.parquet or .csv, … in it")] = None
    train: Annotated[str | None, Doc("parquet or CSV: a file, a directory or a glob")] = None
    val: Annotated[str | None, Doc("as train; null holds out val_share of train")] = None
    test: Annotated[str | None, Doc("as train; null leaves the test out")] = None
    reader: Annotated[ReaderSettings | PluginSettings, READERS] = field(default_factory=ReaderSettings)
    partitioning: Annotated[Literal["none", "hive"], Doc("hive reads key=value directories as columns")] = "none"
    sharded: Annotated[bool, Doc("each machine has a part of train's files; they pass them on to each other first")] = (
        False
    )
    shards: Annotated[
        Literal["file"] | Count | None,
        Doc("cuts train into so many virtual shards, or one a file: each rank reads its own alone"),
    ] = None
    val_share: Annotated[OpenFraction, Doc("share of train that is held out when there is no val")] = 0.2
    folds: Annotated[
        Annotated[int, Range(ge=2, le=1000)] | None,
        Doc("trains so many models, each row being val of one of them, and averages them"),
    ] = None
    fold: Annotated[Count | None, Doc("trains this one of the folds alone, counted from 1")] = None
    batch_size: Annotated[
        Literal["auto"] | Count,
        Doc("rows of a training batch, on all devices together; auto: by those of train"),
    ] = "auto"
    eval_batch_size: Annotated[Count, Doc("rows of a batch of val and test")] = 8192
    shuffle_window: Annotated[
        Literal["auto"] | Count,
        Doc("rows of a larger table that are shuffled together; auto: 2,000,000, or those that fit into 512 MiB"),
    ] = "auto"
    in_memory: Annotated[
        Literal["auto"] | bool,
        Doc("whether encoded rows lie in memory or stay on disk; auto: by their size and the memory that is free"),
    ] = "auto"
    checks: Annotated[Literal["strict", "warn", "off"], Doc("whether an error of the data checks ends the run")] = (
        "strict"
    )
    builtin_rows: Annotated[int, Range(ge=1000), Doc("rows of the built-in table")] = 40000
    drop_unlabeled: Annotated[bool, Doc("leaves rows without a label out, instead of ending with an error")] = False
    split: SplitSettings = field(default_factory=SplitSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
