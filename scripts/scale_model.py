"""What measured rates come to at 1, 10 and 100 billion rows: hours, dollars, and where machines stop to help.

    python scripts/scale_model.py [ROWS_A_SECOND]        rows a second of one machine's core; by default those measured

A model and no measurement. A step ends when its slowest rank does: each rank's time is drawn from a lognormal, and now
and then a rank is slower by a factor; then gradients are summed in a ring. Shards of unequal size, dealt out largest
first, say how long the fullest machine prepares. Seeded: the same table every time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from tabstep.launch.request.cost import load_prices

STEPS = 4_000
"""Steps that are simulated: the mean of a step is then known to about a hundredth."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines of one type and what they do; every default that is no measurement is an assumption.

    ``noise`` is the sigma of a rank's lognormal time, ``straggling`` how often a rank is ``slower`` times as slow,
    ``skew`` the sigma of the lognormal sizes of ``shards``.
    """

    machines: int
    cores: int = 8
    rows_per_core: float = 50_000.0
    rows_per_rank: int = 4_096
    parameters: int = 1_000_000
    bytes_per_second: float = 1.25e9
    latency: float = 50e-6
    noise: float = 0.05
    straggling: float = 0.001
    slower: float = 5.0
    shards: int = 1_024
    skew: float = 0.5

    @property
    def rows_per_machine(self) -> float:
        """Rows that a machine trains in a second, by itself."""
        return self.cores * self.rows_per_core


def step_seconds(cluster: Cluster, *, seed: int = 0) -> float:
    """Return the mean seconds of a step: the slowest of the ranks, one a machine, and the sum of the gradients."""
    rng = np.random.default_rng(seed)
    shape = (STEPS, cluster.machines)
    factors = np.exp(cluster.noise * rng.standard_normal(shape) - cluster.noise**2 / 2)
    factors = np.where(rng.random(shape) < cluster.straggling, factors * cluster.slower, factors)
    alone = cluster.rows_per_rank / cluster.rows_per_machine
    return alone * float(factors.max(axis=1).mean()) + ring_seconds(cluster)


def ring_seconds(cluster: Cluster) -> float:
    """Return the seconds of a ring's sum: each machine sends ``2 (n - 1) / n`` of the gradients in as many turns."""
    n = cluster.machines
    size = 4 * cluster.parameters
    return 2 * (n - 1) * (size / n / cluster.bytes_per_second + cluster.latency)


def fullest_share(cluster: Cluster, *, seed: int = 0) -> float:
    """Return the rows of the fullest machine over those of the mean one, shards dealt out largest first."""
    sizes = np.exp(cluster.skew * np.random.default_rng(seed).standard_normal(cluster.shards))
    loads = np.zeros(cluster.machines)
    for size in sorted(sizes, reverse=True):
        loads[loads.argmin()] += size
    return float(loads.max() / loads.mean())


def table_rows(rows: float, base: Cluster, dollars: float, preparing: float) -> Iterator[tuple[str, ...]]:
    """Yield a row for each number of machines: hours of an epoch and of preparing, dollars of both, efficiency."""
    for machines in (1, 4, 16, 64, 256):
        cluster = replace(base, machines=machines)
        rate = machines * cluster.rows_per_rank / step_seconds(cluster)
        epoch, prepare = rows / rate / 3600, rows / preparing / machines * fullest_share(cluster) / 3600
        yield (
            f"{rows / 1e9:,.0f} billion",
            f"{machines}",
            f"{rate / 1e6:,.2f} M",
            f"{rate / machines / cluster.rows_per_machine:.2f}",
            f"{prepare:,.2f} h",
            f"{epoch:,.2f} h",
            f"${math.ceil(dollars * machines * (epoch + prepare)):,}",
        )


def main(words: list[str]) -> None:
    """Print a table for ml.m5.4xlarge (8 cores) in us-east-1."""
    base = Cluster(machines=1, rows_per_core=float(words[0]) if words else Cluster.rows_per_core)
    dollars = load_prices(None)["us-east-1"]["ml.m5.4xlarge"]
    title = f"{base.rows_per_core:,.0f} rows/s a core, {base.cores} cores and ${dollars} an hour a machine"
    table = Table("rows", "machines", "rows/s", "efficiency", "preparing", "an epoch", "both", title=title)
    for rows in (1e9, 1e10, 1e11):
        for row in table_rows(rows, base, dollars, preparing=87_000.0 * base.cores):
            table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
