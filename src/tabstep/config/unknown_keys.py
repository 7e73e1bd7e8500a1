"""A key that does not exist: the one that was probably meant, by likeness or by the habits of other templates."""

from __future__ import annotations

import difflib

from tabstep.config import key_types
from tabstep.errors import nearest

# What users of other templates type, and what it is called here.
HABITS = {
    "ckpt_path": "resume=PATH",
    "optimized_metric": "objective",
    "epochs": "trainer.max_epochs",
    "n_epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "learning_rate": "optimizer.lr",
    "target": "schema.label",
    "data.data_dir": "data.path",
    "model.lr": "optimizer.lr",
    "model.optimizer": "optimizer",
    "model.scheduler": "scheduler",
    "trainer.log_every_n_steps": "trainer.log_interval",
    "trainer.overfit_batches": "debug=overfit",
    "trainer.default_root_dir": "paths.output_dir",
    # Our own old names.
    "trainer.max_norm": "trainer.gradient_clip_val",
    "trainer.limit_batches": "trainer.limit_train_batches",
    "callbacks.max_grad_norm": "callbacks.fail_above_grad_norm",
}


def unknown_key(path: str) -> str:
    """Return the hint for a key that does not exist: the nearest one.

    >>> unknown_key("trainer.max_epoch"), unknown_key("train"), unknown_key("ckpt_path")
    ("did you mean 'trainer.max_epochs'?", "did you mean 'data.train'?", "did you mean 'resume=PATH'?")
    """
    if path in HABITS:
        return f"did you mean {HABITS[path]!r}?"
    if path.partition(".")[0] == "hydra":
        return "--cfg hydra prints those that there are"
    known = key_types.key_paths()
    parent, _, leaf = path.rpartition(".")
    namesakes = [p for p in known if p.rpartition(".")[2] == leaf]
    if namesakes and not parent:
        return f"did you mean {difflib.get_close_matches(path, namesakes, n=1, cutoff=0)[0]!r}?"
    siblings = [p for p in known if p.rpartition(".")[0] == parent]
    close = difflib.get_close_matches(leaf, [p.rpartition(".")[2] for p in siblings], n=1, cutoff=0.7)
    if close:
        return f"did you mean {f'{parent}.{close[0]}'.lstrip('.')!r}?"
    if namesakes:
        return f"did you mean {difflib.get_close_matches(path, namesakes, n=1, cutoff=0)[0]!r}?"
    return nearest(path, siblings or known)
