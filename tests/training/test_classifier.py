"""The LightningModule against a bare loop over the same batches: the same weights, to the last bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from tabstep.encoding.encoded_table import EncodedTable
from tabstep.errors import UserError
from tabstep.models import build_model
from tabstep.schema import Split
from tabstep.training.callbacks.when_to_save import Checkpointer, SaveRule
from tabstep.training.checkpoint_store import CheckpointStore
from tabstep.training.classifier import Classifier
from tabstep.training.datamodule import Batch, Batching, TableDataModule, num_batches
from tabstep.training.epoch_order import EpochOrder, batch_seed
from tabstep.training.losses import build_loss
from tabstep.training.metrics import build_metrics
from tabstep.training.optimizers import build_optimizer
from tabstep.training.progress import StepOptions, Target
from tabstep.training.schedulers import build_scheduler
from tabstep.training.scores import EpochScores
from tabstep.training.stopping import StopRule

ROWS, EPOCHS, BATCH = 210, 2, 32


def table(split: str, rows: int) -> EncodedTable:
    rng = np.random.default_rng(rows)
    x_num = rng.standard_normal((rows, 3)).astype(np.float32)
    x_cat = rng.integers(0, 6, (rows, 2)).astype(np.int32)
    y = (x_num[:, 0] + x_cat[:, 1] - 3 + rng.standard_normal(rows) > 0).astype(np.int64)
    return EncodedTable(split=split, fingerprint="", x_num=x_num, x_cat=x_cat, y=y, rows_file=Path("none"))


TABLES: dict[Split, EncodedTable] = {"train": table("train", ROWS), "val": table("val", 70)}


def new_model() -> nn.Module:
    torch.manual_seed(5)
    return build_model(
        "mlp",
        num_numeric=3,
        cardinalities=[6, 6],
        num_outputs=1,
        width=16,
        depth=2,
        dropout=0.2,
        num_bins=4,
        embedding_dim=4,
    )


def classifier(
    model: nn.Module,
    *,
    class_weights: list[float] | None = None,
    scheduler: dict[str, Any] | None = None,
    fused: bool | None = None,
    **options: Any,
) -> Classifier:
    steps = math.ceil(num_batches(ROWS, BATCH) / 1)
    return Classifier(
        model,
        build_loss("auto", task="binary", class_weights=class_weights),
        {split: EpochScores(build_metrics("binary", 1), "binary", binned=False) for split in ("train", "val")},
        target=Target(task="binary", num_outputs=1, input_names=("a", "b", "c")),
        options=StepOptions(
            **{"seed": 7, "batch_size": BATCH, "max_epochs": EPOCHS, "gradient_clip_val": 0.5, **options}
        ),
        make_optimizer=partial(new_optimizer, fused=fused),
        make_schedule=lambda optimizer: build_scheduler(
            **(scheduler or {"name": "cosine", "warmup": 0.2, "final_ratio": 0.1}),
            optimizer=optimizer,
            max_epochs=EPOCHS,
            steps_per_epoch=steps,
        ),
    )


new_optimizer: Callable[..., torch.optim.Optimizer] = partial(
    build_optimizer, "adamw", lr=0.01, weight_decay=0.1, betas=[0.9, 0.99]
)


def fit(
    module: Classifier, tmp_path: Path, *, batch_size: int = BATCH, accumulate: int = 1, plugins: Sequence[Any] = ()
) -> Classifier:
    batching = Batching(batch_size=batch_size, eval_batch_size=40, shuffle_window=10_000, seed=7)
    checkpointer = Checkpointer(
        CheckpointStore(tmp_path / "checkpoints"),
        save_rule=SaveRule(),
        stop_rule=StopRule(max_epochs=EPOCHS),
        monitor="val_loss",
        fingerprint={},
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        callbacks=[checkpointer],
        plugins=[checkpointer.store, *plugins],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
    )
    trainer.fit(module, datamodule=TableDataModule(TABLES, batching))
    return module


def batches_of(epoch: int, batch_size: int = BATCH) -> list[Batch]:
    order = EpochOrder(ROWS, seed=7, epoch=epoch, window=10_000).rows(0, ROWS)
    part = TABLES["train"]
    edges = [batch_size * index for index in range(num_batches(ROWS, batch_size))] + [ROWS]
    chosen = [order[start:end] for start, end in itertools.pairwise(edges)]
    return [Batch(*(torch.from_numpy(array[rows]) for array in (part.x_num, part.x_cat, part.y))) for rows in chosen]


def bare_loop(
    model: nn.Module, *, class_weights: list[float] | None = None, of_rows: bool = False
) -> tuple[nn.Module, list[float]]:
    """Train in plain torch and return the weights with the mean loss of each epoch.

    ``of_rows``: the weights are those of the rows of a class, which tell how many there are.
    """
    optimizer = new_optimizer(model)
    steps = num_batches(ROWS, BATCH)
    schedule = build_scheduler(
        "cosine", optimizer, max_epochs=EPOCHS, steps_per_epoch=steps, warmup=0.2, final_ratio=0.1
    )
    weight = torch.ones(2) if class_weights is None else torch.tensor(class_weights)
    shift = torch.zeros(()) if of_rows else weight[1].log() - weight[0].log()
    means = []
    for epoch in range(EPOCHS):
        total = 0.0
        for index, batch in enumerate(batches_of(epoch)):
            torch.manual_seed(batch_seed(7, epoch, index, 0))
            losses = nn.functional.binary_cross_entropy_with_logits(
                model(batch.x_num, batch.x_cat).squeeze(1) + shift, batch.y.float(), reduction="none"
            )
            loss = (losses * weight[batch.y]).sum() / weight[batch.y].sum()
            optimizer.zero_grad()
            loss.backward()
            # in the order of the optimizer, on which the last bit of the norm depends
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 0.5)
            optimizer.step()
            schedule.step()
            total += float((losses.detach() * weight[batch.y]).sum())
        means.append(total / float(weight[torch.from_numpy(TABLES["train"].y)].sum()))
    return model, means


def same(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.mark.parametrize("class_weights", [None, [1.0, 3.0]])
def test_training_is_that_of_a_bare_loop_bit_for_bit(class_weights: list[float] | None, tmp_path: Path) -> None:
    module = fit(classifier(new_model(), class_weights=class_weights), tmp_path)
    model, means = bare_loop(new_model(), class_weights=class_weights)
    assert same(module.model, model)
    history = module.progress.history
    assert [row["train_loss"] for row in history] == pytest.approx(means, abs=1e-6)
    assert [row["step"] for row in history] == [7, 14]
    assert module.progress.skipped == 0


def test_weights_of_rows_are_those_of_a_bare_loop_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y = TABLES["train"].y
    weighted = replace(TABLES["train"], weight=np.float32([1.0, 3.0])[y])
    monkeypatch.setitem(TABLES, "train", weighted)
    module = fit(classifier(new_model()), tmp_path)
    model, means = bare_loop(new_model(), class_weights=[1.0, 3.0], of_rows=True)
    assert same(module.model, model)
    assert [row["train_loss"] for row in module.progress.history] == pytest.approx(means, abs=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batches_and_windows_without_weight_change_nothing(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = np.zeros(ROWS, dtype=np.float32)
    weight[:3] = 1.0  # of 210 rows: most windows have none of them
    monkeypatch.setitem(TABLES, "train", replace(TABLES["train"], weight=weight))
    module = fit(_no_dropout(classifier(new_model(), batch_size=16)), tmp_path, batch_size=16, accumulate=accumulate)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert not same(module.model, new_model())
    (first, *_) = module.progress.history
    assert 0.0 < first["train_loss"] < 5.0


def test_micro_batches_add_up_to_the_big_batch_exactly_also_with_class_weights(tmp_path: Path) -> None:
    # Without dropout, whose masks depend on the batch. 210 rows: the last window is uneven.
    weights = [1.0, 5.0]
    big = classifier(new_model(), class_weights=weights, batch_size=64)
    whole = fit(_no_dropout(big), tmp_path / "a", batch_size=64)
    parts = fit(
        _no_dropout(classifier(new_model(), class_weights=weights, batch_size=16)),
        tmp_path / "b",
        batch_size=16,
        accumulate=4,
    )
    assert whole.progress.step == parts.progress.step
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def _no_dropout(module: Classifier) -> Classifier:
    for part in module.model.modules():
        if hasattr(part, "p"):
            part.p = 0.0
    return module


def test_the_average_of_weights_is_the_one_that_is_validated(tmp_path: Path) -> None:
    module = fit(classifier(new_model(), ema_decay=0.8), tmp_path)
    plain = fit(classifier(new_model()), tmp_path / "plain")
    assert same(module.model, plain.model)  # averaging does not touch training
    assert not same(module.eval_model, module.model)
    module.eval_model.eval()
    val = TABLES["val"]
    with torch.no_grad():
        z = module.eval_model(torch.from_numpy(val.x_num), torch.from_numpy(val.x_cat)).squeeze(1)
    expected = nn.functional.binary_cross_entropy_with_logits(z, torch.from_numpy(val.y).float())
    assert module.progress.history[-1]["val_loss"] == pytest.approx(float(expected), abs=1e-6)
    assert all(not name.startswith("ema") or not p.requires_grad for name, p in module.named_parameters())


def test_plateau_follows_the_monitored_loss_once_an_epoch(tmp_path: Path) -> None:
    scheduler = {"name": "plateau", "monitor": "val_loss", "factor": 0.5, "patience": 0, "min_lr": 0.0}
    module = classifier(new_model(), scheduler=scheduler)
    seen: list[float] = []

    def record(row: dict[str, float]) -> None:
        seen.append(row["val_loss"])

    module.epoch_listeners.append(record)
    fit(module, tmp_path)
    worse = seen[1] >= seen[0] * (1 - 1e-4)
    assert module.trainer.optimizers[0].param_groups[0]["lr"] == (0.005 if worse else 0.01)


@pytest.mark.parametrize(("every", "left"), [(7, 0.0), (1_000, 1e-36 * 0.9**7)])
def test_the_momentum_of_a_unit_that_is_off_does_not_slow_down_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, left: float
) -> None:
    monkeypatch.setattr("tabstep.training.classifier._STEPS_TO_DROP", every)
    model = new_model()
    layer = cast(nn.Linear, cast(nn.Sequential, model.backbone)[0])
    with torch.no_grad():
        layer.weight[0], layer.bias[0] = 0.0, -10.0
    module = classifier(model)

    def shrink(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            module.trainer.optimizers[0].state[layer.bias]["exp_avg"][0] = 1e-36

    module.epoch_listeners.append(shrink)
    fit(module, tmp_path)
    assert module.progress.step == 14
    momentum = module.trainer.optimizers[0].state[layer.bias]["exp_avg"][0]
    assert float(momentum) == pytest.approx(left, rel=1e-3, abs=0.0)


def test_steps_that_the_grad_scaler_leaves_out_are_counted_and_harm_nothing(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
    module = fit(
        classifier(new_model(), ema_decay=0.9, fused=False),
        tmp_path,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
    )
    skipped = module.progress.skipped
    assert 0 < skipped < module.progress.step == 14
    assert scaler.get_scale() == 2.0 ** (26 - skipped)
    assert module.progress.history[-1]["skipped_steps"] == skipped
    assert module.progress.history[-1]["train_loss"] < 0.8
    state = CheckpointStore(tmp_path / "checkpoints").newest()
    assert state is not None
    assert state[1]["MixedPrecision"]["scale"] == scaler.get_scale()


class Broken(nn.Module):
    """A model that goes wrong at a given call."""

    def __init__(self, at: int, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.at, self.how, self.calls = new_model(), at, how, 0

    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        self.calls += self.training
        logits: Tensor = self.inner(x_num, x_cat)
        return self.how(logits) if self.calls == self.at else logits


@pytest.mark.parametrize(
    ("at", "how", "message"),
    [
        (9, lambda z: z * math.nan, r"loss is nan at epoch 2, batch 2.*optimizer\.lr"),
        (3, lambda z: z * math.inf, r"loss is (nan|inf) at epoch 1, batch 3"),
        (1, torch.sigmoid, "ends in sigmoid"),
        (1, lambda z: z.squeeze(1), "fit targets"),
        (2, lambda z: (z - z.detach()).abs().sqrt(), r"gradient of .* is not finite at epoch 1, batch 2"),
    ],
)
def test_guards_stop_a_run_with_cause_and_remedy(at: int, how: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fit(classifier(Broken(at, how)), tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        state = CheckpointStore(tmp_path).load_checkpoint(path)["state_dict"]
        assert all(bool(tensor.isfinite().all()) for tensor in state.values()), "a broken state was saved"


def test_an_exploding_gradient_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gradient norm .* above callbacks\.fail_above_grad_norm=1e-06"):
        fit(classifier(new_model(), fail_above_grad_norm=1e-6), tmp_path)


def test_labels_out_of_range_are_refused_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = TABLES["train"].y.copy()
    bad[:] = 2
    monkeypatch.setitem(vars(TABLES["train"]), "y", bad)
    with pytest.raises(UserError, match="labels: class 2 is out of range"):
        fit(classifier(new_model()), tmp_path)
