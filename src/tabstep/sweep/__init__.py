"""Sweeps: many runs with other values, that survive a kill, end what falls behind, and compare what came out.

A sweep is a directory, ``hydra.sweep.dir``:

========================  ==============================================================================
``sweep.json``            ``ledger.Header``: the space, objectives and directions, sampler, pruner, seed
``trials/000003.json``    ``ledger.Trial``: state, values, scores; whole or as it was before, at any kill
``3/``                    the directory of trial 3, as any run leaves it, with ``trial.json`` beside
``leaderboard.csv``       one row a trial, best first; ``leaderboard.parquet`` with typed columns
``report.html``           the same with pictures, one page; ``plots/`` has these as files (extra ``report``)
``best.yaml``             the best trial as an experiment; ``experiment/best.yaml`` is where Hydra finds it
``best.sh``               the command that runs it again
``optuna.journal``        the same trials in Optuna's storage, for its dashboard; made from the files above
========================  ==============================================================================

To read one, also while it runs or on another machine:

- ``ledger.read_sweep(directory)`` gives a ``Ledger``: ``header``, ``trials`` in the order of their numbers and
  ``path(trial)``, the directory of a trial with its ``report.json``, ``predictions/val.parquet`` and ``model/``.
- ``Trial.params`` are the values that differ, as texts of Hydra's grammar; ``leaderboard.plain_value`` makes numbers
  of them. ``Trial.values`` holds a number for each of ``header.objectives`` and is empty without a result.
  ``Trial.curve`` is the best first objective up to each epoch; ``Trial.scores`` are all numbers of the report.
  ``Trial.state`` is ``running`` (also: interrupted), ``complete``, ``pruned`` or ``failed``.
- ``leaderboard.standings(ledger)`` ranks them, ``leaderboard.rows(ledger)`` gives the table as dicts, and
  ``leaderboard.best_trial(ledger)`` the first.
- ``importance.importances(ledger, dimensions)`` gives the share of each key; ``space.parse_space`` reads
  ``f"{key}={text}"`` of ``header.space`` back into dimensions.

The layers: ``ledger`` (files, no Hydra, no Optuna) < ``reporting`` (inside a run) and ``leaderboard`` < ``space``,
``proposals`` (Hydra's grammar, Optuna's advice) < ``jobs``, ``launchers``, ``loop`` < ``start``, which Hydra's plugin
``hydra_plugins.tabstep_sweeper`` calls.
"""
