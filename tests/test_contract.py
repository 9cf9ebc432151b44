"""Contracts: formats 1 and 2 say the same, a round trip loses nothing, what cannot be supplied is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudgan.errors import GeneratorError
from cloudgan.model.contract import FORMAT, Channel, Contract, Source
from cloudgan.sentinel2.bands import BANDS

CONTRACT = {
    "format": 2,
    "name": "mean",
    "version": "1",
    "input_channels": [
        "target:green", "mask", "nearest-before:nir", "nearest-before:days", "nearest-after:nir",
        "nearest-after:days", "before-1:green", "after-3:days",
    ],
    "output_bands": ["green", "nir"],
    "tile": 32,
    "predicts_uncertainty": True,
    "training": {"psnr": 33.5},
}  # fmt: skip
FORMAT_1 = {
    "format": 1,
    "name": "mean",
    "version": "1",
    "planes": [
        "cloudy:green", "mask", "before:nir", "before:age", "after:nir", "after:age", "earlier:green",
        "later3:age",
    ],
    "bands": ["green", "nir"],
    "tile": 32,
    "foretells": True,
    "training": {"psnr": 33.5},
}  # fmt: skip


def parse(raw):
    return Contract.parse(json.dumps(raw), "model.onnx")


def without(name):
    return {key: value for key, value in CONTRACT.items() if key != name}


# What a contract says


def test_a_contract_states_what_goes_in_and_comes_out():
    contract = parse(CONTRACT)
    assert contract.input_channels[:4] == (
        Channel(Source.TARGET, "green"),
        Channel(Source.MASK),
        Channel(Source.NEAREST_BEFORE, "nir"),
        Channel(Source.NEAREST_BEFORE),
    )
    assert contract.input_channels[-1] == Channel(Source.AFTER, None, 3)
    assert contract.output_bands == ("green", "nir")
    assert contract.tile == 32
    assert contract.predicts_uncertainty
    assert contract.output_channels == 3
    assert contract.training == {"psnr": 33.5}


def test_both_formats_say_the_same():
    assert parse(FORMAT_1) == parse(CONTRACT)
    assert parse(FORMAT_1).as_json() == CONTRACT


def test_a_contract_needs_no_model_card_and_no_uncertainty():
    assert parse(without("training")).training == {}
    assert not parse(without("predicts_uncertainty")).predicts_uncertainty


def test_the_bands_to_read_are_those_of_the_output_and_then_those_that_channels_add():
    names = ["target:blue", "target:green", "mask", "nearest-before:days"]
    contract = parse(CONTRACT | {"input_channels": names, "output_bands": ["nir", "green"]})
    assert contract.input_bands == ("nir", "green", "blue")


@pytest.mark.parametrize(
    ("names", "sees_time", "dates"),
    [
        (["target:green", "mask"], False, 0),
        (["target:green", "nearest-after:days"], True, 0),
        (["nearest-before:green"], True, 0),
        (["before-1:green", "after-3:days", "before-2:green"], True, 3),
    ],
)
def test_the_channels_say_how_many_dates_are_needed(names, sees_time, dates):
    contract = parse(CONTRACT | {"input_channels": names})
    assert (contract.sees_time, contract.dates_each_side) == (sees_time, dates)


# Round trips

dated = st.sampled_from([Source.BEFORE, Source.AFTER])
nearest = st.sampled_from([Source.NEAREST_BEFORE, Source.NEAREST_AFTER])
bands = st.sampled_from(sorted(BANDS))
channels = st.one_of(
    st.just(Channel(Source.MASK)),
    st.builds(Channel, st.just(Source.TARGET), bands),
    st.builds(Channel, nearest, st.none() | bands),
    st.builds(Channel, dated, st.none() | bands, st.integers(1, 9)),
)


@given(channels)
def test_the_name_of_a_channel_is_parsed_to_the_same_channel(channel):
    assert Channel.parse(str(channel)) == channel


@given(
    st.lists(channels, min_size=1, max_size=12),
    st.lists(bands, min_size=1, max_size=4, unique=True),
    st.booleans(),
)
def test_a_contract_survives_a_round_trip(input_channels, output_bands, predicts_uncertainty):
    contract = Contract(
        "any", "2", tuple(input_channels), tuple(output_bands), 64, predicts_uncertainty, {"steps": 3}
    )
    raw = contract.as_json()
    assert raw["format"] == FORMAT
    assert parse(raw) == contract


def name_in_format_1(channel):
    words = {
        Source.TARGET: "cloudy", Source.NEAREST_BEFORE: "before", Source.NEAREST_AFTER: "after",
        Source.BEFORE: "earlier", Source.AFTER: "later",
    }  # fmt: skip
    if channel.source is Source.MASK:
        return "mask"
    order = str(channel.order) if channel.order > 1 else ""
    return f"{words[channel.source]}{order}:{channel.band or 'age'}"


@given(channels)
def test_every_channel_has_a_name_in_format_1_too(channel):
    assert Channel.parse(name_in_format_1(channel), 1) == channel


@pytest.mark.parametrize(("form", "names"), [(1, CONTRACT["input_channels"]), (2, FORMAT_1["planes"])])
def test_names_of_the_other_format_are_refused(form, names):
    for name in names:
        if name != "mask":
            with pytest.raises(ValueError, match="no input channel"):
                Channel.parse(name, form)


# What is refused


def test_a_model_without_a_contract_is_refused():
    with pytest.raises(
        GeneratorError, match=r"model\.onnx is an ONNX model without a cloudgan contract; use"
    ):
        Contract.parse(None, "model.onnx")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "null",
        '"text"',
        *(json.dumps(without(name)) for name in CONTRACT if name not in ("training", "predicts_uncertainty")),
    ],
)
def test_a_contract_that_is_broken_or_lacks_a_part_is_refused(text):
    with pytest.raises(GeneratorError, match=r"model\.onnx has a broken contract \(.*\); use a file that"):
        Contract.parse(text, "model.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"tile": "large"},
        {"input_channels": None},
        {"input_channels": 3},
        {"output_bands": None},
        {"training": "long"},
    ],
)
def test_a_contract_of_wrong_types_is_refused(change):
    with pytest.raises(GeneratorError, match="has a broken contract"):
        parse(CONTRACT | change)


@pytest.mark.parametrize(
    "name",
    [
        "target:",
        "target:days",
        "estimate:days",
        "estimate-1:red",
        "target:days:red",
        "sar:vv",
        "masks",
        "before:red",
        "before-0:red",
        "3",
        "",
    ],
)
def test_an_unknown_channel_is_refused_by_name(name):
    with pytest.raises(GeneratorError, match=r"has a broken contract .*(no input channel|has no days)"):
        parse(CONTRACT | {"input_channels": ["mask", name]})


def test_a_missing_part_of_a_contract_is_named():
    with pytest.raises(GeneratorError, match=r"KeyError.*input_channels"):
        parse(without("input_channels"))


@pytest.mark.parametrize("version", [0, 3, "1"])
def test_a_contract_of_another_format_is_refused(version):
    with pytest.raises(
        GeneratorError, match=f"has a contract of format {version}, and formats 1 and 2 are read; use"
    ):
        parse(CONTRACT | {"format": version})


@pytest.mark.parametrize("change", [{"input_channels": []}, {"output_bands": []}, {"tile": 0}, {"tile": -32}])
def test_a_contract_that_cannot_be_supplied_is_refused(change):
    match = r"asks for channels \[.*\] of -?\d+ pixels and gives bands \[.*\], which cloudgan cannot supply"
    with pytest.raises(GeneratorError, match=match):
        parse(CONTRACT | change)


@pytest.mark.parametrize("band", ["../../home/me/x", "time", "uncertainty", "a/b", "", [], None])
def test_a_band_that_would_not_be_an_array_of_its_own_is_refused(band):
    """Bands name the arrays of the store."""
    with pytest.raises(GeneratorError, match="which cloudgan cannot supply"):
        parse(CONTRACT | {"output_bands": [band]})
