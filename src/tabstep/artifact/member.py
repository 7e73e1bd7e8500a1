"""One encoder with its network: raw rows to logits and calibrated probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tabstep.encoding.encoder import Encoder
from tabstep.models.probabilities import member_weights, pooled, probabilities
from tabstep.tables.record_batch import bounded_rows

CHUNK_ROWS = 16_384


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A fitted encoder and a trained model, and the weight of their probabilities among those of other members.

    ``temperature`` divides the logits: one number, or one a label of a multilabel task. ``thresholds`` are those above
    which a probability of the positive class, or of each label, is a prediction of it.
    """

    encoder: Encoder
    model: nn.Module
    weight: float = 1.0
    temperature: tuple[float, ...] = (1.0,)
    thresholds: tuple[float, ...] = (0.5,)

    def probabilities_of(self, batch: pa.RecordBatch) -> NDArray[np.float32]:
        """Encode one raw batch and return its probabilities ``(n, classes)``; binary has both columns."""
        return self.spread(self.logits(*self.encoder.transform(batch)))

    def logits(self, x_num: NDArray[np.float32], x_cat: NDArray[np.int32]) -> Tensor:
        """Return logits ``(n, num_outputs)`` float32 of encoded rows, computed in chunks on the model's device.

        They are those of the model: no temperature has been applied. Members of an ensemble are pooled, by their
        weights where it has some.
        """
        weights = member_weights(self.model)
        return self._outputs(x_num, x_cat, lambda logits: pooled(logits, self.encoder.task, weights))

    def unpooled(self, x_num: NDArray[np.float32], x_cat: NDArray[np.int32]) -> Tensor:
        """Return what the model itself returns, as ``logits``: of an ensemble, ``(n, k, num_outputs)``."""
        return self._outputs(x_num, x_cat, Tensor.float)

    @torch.inference_mode()
    def _outputs(
        self, x_num: NDArray[np.float32], x_cat: NDArray[np.int32], finished: Callable[[Tensor], Tensor]
    ) -> Tensor:
        device = next(self.model.parameters()).device
        size = bounded_rows(CHUNK_ROWS, x_num.shape[1] + x_cat.shape[1])
        parts = [
            finished(
                self.model(
                    torch.from_numpy(x_num[start : start + size]).to(device),
                    torch.from_numpy(x_cat[start : start + size]).to(device),
                )
            )
            # once for no rows too: the result has its shape then
            for start in range(0, max(len(x_num), 1), size)
        ]
        return torch.cat(parts)

    def calibrated(self, logits: Tensor) -> Tensor:
        """Return logits divided by the temperature."""
        if all(value == 1.0 for value in self.temperature):
            return logits
        return logits / torch.tensor(self.temperature, dtype=logits.dtype, device=logits.device)

    def spread(self, logits: Tensor) -> NDArray[np.float32]:
        """Turn the model's logits into one column of calibrated probability a class."""
        probs = probabilities(self.calibrated(logits), self.encoder.task).cpu()
        if self.encoder.task == "binary":
            probs = torch.stack([1.0 - probs, probs], dim=1)
        return probs.numpy()
