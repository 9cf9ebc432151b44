"""What differs between two identities; those of whole plans are compared in test_store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloudgan.io.store.identity import compute_plan_digest, describe_differences, is_made_for

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda parts: st.lists(parts), max_leaves=4
)
identities = st.dictionaries(st.sampled_from(["buffer", "model", "clip", "block"]), json_values)


@given(identities, identities)
def test_differences_name_what_differs_and_nothing_else(old, new):
    named = [line.partition(":")[0] for line in describe_differences(old, new)]
    assert named == [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


@given(identities, identities)
def test_a_store_whose_identity_was_lost_is_known_by_its_digest(one, other):
    lost = {"digest": compute_plan_digest(one)}
    assert is_made_for(lost, other) == is_made_for(one, other) == (one == other)
    assert not is_made_for(None, other)
