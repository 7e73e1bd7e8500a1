"""The linear model that a network begins as: fitted once, and kept in the cache for other runs on the same rows."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path

import safetensors.torch

from tabstep.baselines.linear import fit_start
from tabstep.models.linear import LinearModel
from tabstep.run.prepared import Prepared
from tabstep.system.cache import cached_text

# to be raised where the fit changes: the cache holds models of earlier versions
_VERSION = 1


def linear_start(prepared: Prepared, cache_dir: Path) -> LinearModel:
    """Return the linear model of train whose penalty val chooses."""
    encoder, train, val = prepared.encoder, prepared.tables["train"], prepared.tables["val"]
    rows = [[table.fingerprint, table.num_rows] for table in (train, val)]
    cardinalities, num_outputs = encoder.cardinalities, encoder.num_outputs

    def make() -> str:
        fitted = fit_start(train, val, encoder.task, cardinalities=cardinalities, num_outputs=num_outputs)
        # the cache keeps text
        return base64.b64encode(safetensors.torch.save(fitted.state_dict())).decode()

    text = cached_text(cache_dir, "linear-" + sha256(json.dumps([_VERSION, rows]).encode()).hexdigest()[:16], make)
    model = LinearModel(encoder.num_numeric, cardinalities, num_outputs)
    model.load_state_dict(safetensors.torch.load(base64.b64decode(text)))
    return model
