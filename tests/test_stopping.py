"""When a run stops because all its units fail for one reason."""

from __future__ import annotations

from cloudgan.distributed.report import FailedUnit, UnitReport
from cloudgan.distributed.stopping import IN_A_ROW, FailureRow, name_reason

DONE = UnitReport(0, 1, 1, 0, 0, 0, {}, (), {})


def failed(unit: int, reason: str, asset: str | None = None) -> FailedUnit:
    return FailedUnit(unit, "EPSG:32633", (0, 0, 1, 1), ("2020-05-05", "2020-05-20"), (), asset, reason, 3)


def row_of(*units: FailedUnit | UnitReport) -> FailureRow:
    row = FailureRow()
    for unit in units:
        row.add(unit)
    return row


def test_units_that_fail_of_a_full_disk_end_the_run():
    refused = [failed(number, f"unit {number} refused a write (No space left)") for number in range(IN_A_ROW)]
    assert row_of(*refused).is_hopeless(1)
    assert not row_of(*refused[1:]).is_hopeless(1)
    assert not row_of(*refused[:5], DONE, *refused[5:]).is_hopeless(1)


def test_what_is_in_flight_together_may_fail_together():
    refused = [failed(number, "refused a write") for number in range(30)]
    assert not row_of(*refused).is_hopeless(16)
    assert row_of(*refused).is_hopeless(15)


def test_units_that_fail_for_different_reasons_do_not_end_it():
    mixed = [failed(number, "no numbers" if number % 2 else "refused a write") for number in range(100)]
    assert not row_of(*mixed).is_hopeless(1)


def test_a_broken_file_is_asked_about_once_and_then_known():
    units = [failed(number, "item S2A could not be read: asset red, 403", "B04.tif") for number in range(100)]
    row = row_of(*units[:IN_A_ROW])
    assert row.is_doubtful(1)
    assert not row.is_hopeless(1)
    row.trust_workers()
    for unit in units[IN_A_ROW:]:
        row.add(unit)
        assert not row.is_doubtful(1)
        assert not row.is_hopeless(1)


def test_reasons_are_one_though_items_bands_and_numbers_differ():
    one = failed(1, "item S2A_33UXP_20200505 could not be read: asset green, HTTP response code: 403; run")
    other = failed(2, "item S2B_33UWP_20200510 could not be read: asset red, HTTP response code: 403; run")
    gone = failed(3, "item S2B_33UWP_20200510 could not be read: asset red, No such file; run")
    assert name_reason(one) == name_reason(other) != name_reason(gone)
