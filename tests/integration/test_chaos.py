"""A short version of `tests/chaos.py`, whose whole stands in docs/reliability.md."""

from __future__ import annotations

from chaos import chaos


def test_runs_under_random_faults_end_in_the_same_bytes_or_in_a_failure_that_a_rerun_heals(tmp_path):
    tally = chaos(3, seed=1, folder=tmp_path)
    assert tally.losses == []
    assert sum(tally.ends.values()) == 3
    assert tally.ends["lost"] == 0
    assert tally.faults.total() > 0
