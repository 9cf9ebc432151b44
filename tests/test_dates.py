import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.errors import InputError
from cloudgan.sentinel2.dates import DateRange, parse_timestamp, solar_day

UTC = dt.UTC


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2020", dt.date(2020, 1, 1), dt.date(2020, 12, 31)),
        ("2020-02", dt.date(2020, 2, 1), dt.date(2020, 2, 29)),
        ("2020-04-03", dt.date(2020, 4, 3), dt.date(2020, 4, 3)),
        ("2020-04/2020-07", dt.date(2020, 4, 1), dt.date(2020, 7, 31)),
        ("2019/2020-02", dt.date(2019, 1, 1), dt.date(2020, 2, 29)),
        (" 2020-04-03 / 2020-05 ", dt.date(2020, 4, 3), dt.date(2020, 5, 31)),
        (
            "2020-04-03T10:00:00+02:00/2020-04-05",
            dt.datetime(2020, 4, 3, 8, tzinfo=UTC),
            dt.date(2020, 4, 5),
        ),
        (
            "2020-04-03T10:00:00/2020-04-03T11:30:00.5Z",
            dt.datetime(2020, 4, 3, 10, tzinfo=UTC),
            dt.datetime(2020, 4, 3, 11, 30, 0, 500_000, tzinfo=UTC),
        ),
    ],
)
def test_a_range_is_written_as_stac_writes_it(text, start, end):
    assert DateRange.parse(text) == DateRange(start, end)


@pytest.mark.parametrize(
    "text", ["../2020-05-01", "2020-05-01/..", "/2020-05-01", "2020-05-01/", "..", "../.."]
)
def test_open_intervals_are_refused_with_the_reason(text):
    with pytest.raises(InputError, match=r"open interval.*needs both ends.*name the first and the last"):
        DateRange.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2020-07/2020-04", "run backwards: swap"),
        ("2020-04-03T12:00:00Z/2020-04-03T11:00:00Z", "run backwards: swap"),
        ("2020-13", "no date that exists"),
        ("2020-02-30", "no date that exists"),
        ("0000", "no date that exists"),
        ("2020-04-03T25:00:00Z", "no date that exists"),
        ("0001-01-01T00:00:00+02:00", "no date that exists"),
        ("April", "'April' is no date"),
        ("2020-4", "'2020-4' is no date"),
        ("2020-04-03T10:00", "is no date"),
        ("2020-04/2020-05/2020-06", "neither a date nor start/end"),
        ("", "neither a date nor start/end"),
        ("\uff12\uff10\uff12\uff10", "no date"),
    ],
)
def test_what_names_no_range_is_refused_and_quoted(text, reason):
    with pytest.raises(InputError, match=reason) as caught:
        DateRange.parse(text)
    assert text.strip() in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_range_prints_as_it_was_written():
    assert str(DateRange.parse("2020-04/2020-07")) == "2020-04/2020-07"
    assert str(DateRange(dt.date(2020, 4, 1), dt.date(2020, 7, 31))) == "2020-04-01/2020-07-31"


def test_a_timestamp_without_a_zone_is_refused_in_code():
    with pytest.raises(InputError, match="names no time zone"):
        DateRange(dt.datetime(2020, 4, 3), dt.date(2020, 4, 4))


def test_day_bounds_compare_the_solar_day_and_timestamps_the_instant():
    instant = dt.datetime(2020, 4, 2, 22, 30, tzinfo=UTC)
    morning_of_the_third = dt.date(2020, 4, 3)
    assert DateRange.parse("2020-04-03").contains(instant, morning_of_the_third)
    assert not DateRange.parse("2020-04-02").contains(instant, morning_of_the_third)
    assert DateRange.parse("2020-04-02T22:00:00Z/2020-04-02T23:00:00Z").contains(
        instant, morning_of_the_third
    )
    assert not DateRange.parse("2020-04-02T23:00:00Z/2020-04-03").contains(instant, morning_of_the_third)


def test_a_server_is_asked_for_a_day_more_on_either_side():
    assert DateRange.parse("2020-04").utc_span() == (
        dt.datetime(2020, 3, 31, tzinfo=UTC),
        dt.datetime(2020, 5, 1, 23, 59, 59, 999_999, tzinfo=UTC),
    )
    exact = DateRange.parse("2020-04-03T10:00:00Z/2020-04-03T11:00:00Z")
    assert exact.utc_span() == (exact.start, exact.end)


def test_whole_years():
    assert DateRange.parse("2020-04/2020-07").whole_years() == DateRange.parse("2020")
    assert str(DateRange.parse("2019-11/2020-02").whole_years()) == "2019/2020"


@pytest.mark.parametrize(
    ("place", "epsg", "utc", "day"),
    [
        ("Austria", 32633, dt.datetime(2023, 8, 15, 9, 57, tzinfo=UTC), dt.date(2023, 8, 15)),
        ("Fiji, 177 E", 32760, dt.datetime(2023, 8, 14, 22, 20, tzinfo=UTC), dt.date(2023, 8, 15)),
        ("Aleutians, 177 W", 32601, dt.datetime(2023, 8, 15, 22, 40, tzinfo=UTC), dt.date(2023, 8, 15)),
        ("a southern zone", 32733, dt.datetime(2023, 8, 15, 23, 30, tzinfo=UTC), dt.date(2023, 8, 16)),
    ],
)
def test_solar_day(place, epsg, utc, day):
    assert solar_day(utc, epsg) == day


def test_timestamps_are_read_in_utc():
    assert parse_timestamp("2023-08-15T09:57:57.246000Z").isoformat() == "2023-08-15T09:57:57.246000+00:00"
    assert parse_timestamp("2023-08-15T11:57:57+02:00") == dt.datetime(2023, 8, 15, 9, 57, 57, tzinfo=UTC)
    with pytest.raises(ValueError, match="no RFC 3339 timestamp"):
        parse_timestamp("None")


days = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))


@given(days, days)
def test_what_is_printed_parses_back(one, other):
    start, end = sorted([one, other])
    dates = DateRange(start, end)
    assert DateRange.parse(str(dates)) == dates


@given(days, days, st.integers(1, 60), st.integers(0, 86_399))
def test_the_span_asked_for_holds_every_instant_of_the_days(one, other, zone, second):
    start, end = sorted([one, other])
    dates = DateRange(start, end)
    first, last = dates.utc_span()
    instant = dt.datetime.combine(one, dt.time(12), UTC) + dt.timedelta(seconds=second - 43_200)
    if dt.date(2, 1, 1) < one < dt.date(9999, 1, 1) and dates.contains(
        instant, solar_day(instant, 32600 + zone)
    ):
        assert first <= instant <= last


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_an_input_error(text):
    try:
        dates = DateRange.parse(text)
    except InputError:
        return
    assert dates.utc_span()[0] <= dates.utc_span()[1]


@given(st.dates(dt.date(1990, 1, 1), dt.date(2100, 1, 1)), st.integers(0, 400))
def test_a_widened_range_holds_so_many_days_more(first, more):
    widened = DateRange(first, first).widen(more)
    step = dt.timedelta(days=more)
    noon = dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)
    for day, contained in (
        (first - step, True),
        (first + step, True),
        (first - step - dt.timedelta(days=1), False),
    ):
        assert widened.contains(noon, day) == contained


def test_a_range_cannot_be_widened_beyond_the_calendar():
    with pytest.raises(InputError, match="5 days around 0001-01-03 leave the calendar"):
        DateRange.parse("0001-01-03").widen(5)
