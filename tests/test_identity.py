"""What differs between two identities; those of whole plans are compared in test_store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudgan.io.store.identity import describe_differences

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda parts: st.lists(parts), max_leaves=4
)
identities = st.dictionaries(st.sampled_from(["buffer", "model", "clip", "block"]), json_values)


@given(identities, identities)
def test_differences_name_what_differs_and_nothing_else(old, new):
    told = [line.partition(":")[0] for line in describe_differences(old, new)]
    assert told == [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
