"""UIDs of results are valid, repeatable and recognisably ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from config.identity import IMPLEMENTATION_UID, is_own_uid, own_uid

roots = st.sampled_from([None, "1.2.3", "1.2.826.0.1.3680043.10.1234", "2.999." + "1" * 30])


@given(st.binary(max_size=100), roots)
def test_a_result_uid_is_valid_repeatable_and_own(canonical: bytes, root: str | None) -> None:
    uid = own_uid(canonical, root=root)
    assert UID(uid).is_valid
    assert len(uid) <= 64
    assert uid == own_uid(canonical, root=root)
    assert is_own_uid(uid, root=root)


@given(st.lists(st.binary(max_size=20), unique=True, min_size=2, max_size=20), roots)
def test_different_inputs_give_different_uids(inputs: list[bytes], root: str | None) -> None:
    assert len({own_uid(item, root=root) for item in inputs}) == len(inputs)


@given(st.integers(min_value=0, max_value=10**38))
def test_a_foreign_uid_is_not_own(number: int) -> None:
    assert not is_own_uid(f"2.25.{number}")
    assert not is_own_uid(f"1.2.840.{number}", root="1.2.3")


def test_the_implementation_uid_is_valid() -> None:
    assert UID(IMPLEMENTATION_UID).is_valid


def test_a_root_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="digits"):
        own_uid(b"", root="1." + "2" * 50)
