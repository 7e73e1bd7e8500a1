"""Keys of the group ``trainer``: how long, on what and how exactly a run trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tabstep.option_types import Count, Doc, Index, Positive, Range


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and on what the training runs."""

    max_epochs: Annotated[Count | None, Doc("most epochs; null trains until nothing improves")] = None
    max_time: Annotated[Positive | None, Doc("hours after which the run saves and stops")] = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[
        Literal["auto"] | Annotated[int, Range(ge=1, le=1024)], Doc("processes on this machine; auto is one a GPU")
    ] = 1
    num_nodes: Annotated[Count, Doc("machines")] = 1
    precision: Literal["16-mixed", "bf16-mixed", "32-true"] = "16-mixed"
    accumulate_grad_batches: Annotated[Count, Doc("batches of one optimizer step")] = 1
    gradient_clip_val: Annotated[Positive | None, Doc("gradient norm above which gradients are clipped")] = 1.0
    log_interval: Annotated[Index, Doc("batches between two batch lines; 0 prints none")] = 100
    deterministic: Annotated[bool, Doc("deterministic algorithms on a GPU")] = False
    limit_train_batches: Annotated[Count | None, Doc("batches of train that are used, for debugging")] = None
    limit_val_batches: Annotated[Count | None, Doc("batches of val that are used")] = None
    limit_test_batches: Annotated[Count | None, Doc("batches of test that are used")] = None
    fast_dev_run: Annotated[bool, Doc("one epoch of one batch of each split through every stage, limits or not")] = (
        False
    )
    detect_anomaly: Annotated[bool, Doc("torch's anomaly detection: slow, names the operation behind a NaN")] = False
