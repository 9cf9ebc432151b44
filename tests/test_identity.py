"""What differs between two identities; those of whole plans are compared in test_store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudgan.io.store.identity import describe_differences, translate_identity

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda parts: st.lists(parts), max_leaves=4
)
identities = st.dictionaries(st.sampled_from(["buffer", "model", "clip", "block"]), json_values)


@given(identities, identities)
def test_differences_name_what_differs_and_nothing_else(old, new):
    named = [line.partition(":")[0] for line in describe_differences(old, new)]
    assert named == [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


WANTED = {"format": 2, "model": "graph", "input_channels": ["mask"], "buffer": 6}
FORMER = {"cloudgan": "0.1.0", "model": "file", "buffer": 6}


def test_an_identity_of_format_1_is_that_of_the_same_bytes():
    assert translate_identity(FORMER, WANTED, ("another", "file")) == WANTED
    assert translate_identity(WANTED, WANTED, ()) == WANTED


def test_what_decides_bytes_in_format_1_is_still_compared():
    model = translate_identity(FORMER, WANTED, ("another",))
    assert describe_differences(model, WANTED) == ["model: file -> graph"]
    wider = translate_identity(FORMER | {"buffer": 7}, WANTED, ("file",))
    assert describe_differences(wider, WANTED) == ["buffer: 7 -> 6"]
    assert translate_identity(FORMER | {"cloudgan": "0.0.9"}, WANTED, ("file",)) != WANTED


@given(identities, identities)
def test_any_identity_can_be_translated(found, wanted):
    assert translate_identity(found, wanted, ("file",)) == found
