"""Values of a source as they may stand in a result."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.valuerep import DA, TM, PersonName

from pipeline.results import source_text

dates = st.dates(datetime.date(1800, 1, 1), datetime.date(2100, 1, 1))


@given(st.text())
def test_any_text_becomes_one_valid_long_string(value):
    cleaned = source_text.text(value)
    assert len(cleaned) <= 64
    assert "\\" not in cleaned
    assert cleaned == cleaned.strip(" ")
    assert all(c.isprintable() for c in cleaned)


@given(st.text(alphabet=st.characters(categories=("L", "N")), max_size=64))
def test_valid_text_passes_unchanged(value):
    assert source_text.text(value) == value


@given(st.text())
def test_any_text_becomes_a_valid_person_name(value):
    name = source_text.person_name(value)
    groups = name.split("=")
    assert len(groups) <= 3
    assert all(len(group) <= 64 and group.count("^") <= 4 for group in groups)
    assert "\\" not in name


@pytest.mark.parametrize(
    "name", ["Doe^Jane", "Müller^Jörg^^Dr.", "Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田^太郎"]
)
def test_valid_names_pass_unchanged(name):
    assert source_text.person_name(PersonName(name)) == name


@given(dates, st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%Y.%m.%d", "%Y/%m/%d"]))
def test_dates_are_read_in_every_form_devices_write(day, form):
    assert source_text.date(day.strftime(form)) == f"{day:%Y%m%d}"


@given(st.text(alphabet="0123456789-./ ", max_size=12))
def test_what_comes_out_as_a_date_is_one_or_empty(value):
    found = source_text.date(value)
    assert found == "" or DA(found) is not None


@pytest.mark.parametrize(
    "value", ["1950", "00000000", "19501301", "1950-1-1", "19500230", "", None, "1950.01-01"]
)
def test_what_is_no_date_is_empty(value):
    assert source_text.date(value) == ""


@given(st.times(), st.integers(0, 9), st.sampled_from(["", "+0100", "-05:00", "Z"]), st.booleans())
def test_times_are_read_with_colons_zone_and_any_decimals(moment, decimals, zone, colons):
    form = "%H:%M:%S" if colons else "%H%M%S"
    digits = f"{moment.microsecond:06d}000"[:decimals]
    found = source_text.time(moment.strftime(form) + (f".{digits}" if digits else "") + zone)
    assert found == moment.strftime("%H%M%S") + (f".{digits[:6]}" if digits else "")
    assert TM(found) is not None


@pytest.mark.parametrize("value", ["10", "1011", "101112", "101112.5", "235959.999999"])
def test_valid_times_pass_unchanged(value):
    assert source_text.time(value) == value


@pytest.mark.parametrize("value", ["246060", "1", "101", "10111", "10-11-12", "noon", "", None])
def test_what_is_no_time_is_empty(value):
    assert source_text.time(value) == ""


@given(st.text(max_size=6))
def test_codes_are_valid_or_empty(value):
    assert source_text.sex(value) in {"", "M", "F", "O"}
    assert source_text.laterality(value) in {"", "L", "R", "B", "U"}
    assert re.fullmatch(r"(\d{3}[DWMY])?", source_text.age(value))
    assert re.fullmatch(r"([+-]\d{4})?", source_text.zone(value))


@pytest.mark.parametrize(("value", "found"), [("m", "M"), ("F", "F"), ("U", ""), ("Male", ""), (None, "")])
def test_sex_is_a_code_of_the_standard_or_empty(value, found):
    assert source_text.sex(value) == found
