"""How states, times, names and sizes are written."""

import datetime
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preread.web import words

NOW = datetime.datetime(2026, 3, 4, 12, 0, tzinfo=datetime.UTC)


@given(st.text())
def test_plain_text_is_one_line_without_control_or_direction_characters(text: str) -> None:
    shown = words.plain(text)
    assert "\n" not in shown
    assert not set(shown) & set(map(chr, [*range(32), 127, *range(0x80, 0xA0), 0x202E, 0x2066, 0x200B]))


@given(st.text(alphabet=string.ascii_letters + " -'"))
def test_plain_text_keeps_what_can_be_read(text: str) -> None:
    assert words.plain(text) == " ".join(text.split())


def test_a_direction_override_is_shown_as_a_replacement() -> None:
    assert words.plain("DOE\u202eEOD") == "DOE\ufffdEOD"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("DOE^JANE", "DOE, JANE"),
        ("DOE^JANE^M^DR^PHD", "DOE, JANE M DR PHD"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("DOE", "DOE"),
        ("^^^^", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_person_name_is_read_family_name_first(name, shown) -> None:
    assert words.person(name) == shown


@given(st.text())
def test_any_person_name_can_be_shown(name: str) -> None:
    assert isinstance(words.person(name), str)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "0 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
        (None, "–"),
        (-3, "0 s"),
    ],
)
def test_a_span_has_at_most_two_units(seconds, shown) -> None:
    assert words.span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (6.3e6, "6.3 MB"),
        (8.25e10, "82.5 GB"),
        (2e12, "2.0 TB"),
        (2.5e5, "250 kB"),
    ],
)
def test_a_size_has_three_figures(count, shown) -> None:
    assert words.size(count) == shown


def test_a_clock_time_says_the_day_only_when_it_is_another() -> None:
    today = words.clock(NOW - datetime.timedelta(minutes=5), NOW)
    assert len(today) == 5
    assert today.count(":") == 1
    assert words.clock(NOW - datetime.timedelta(days=2), NOW).startswith("Mon ")
    assert words.clock(NOW - datetime.timedelta(days=20), NOW) == "12 Feb"
    assert words.clock(NOW - datetime.timedelta(days=400), NOW).endswith("2025")
    assert words.clock(None, NOW) == "–"


@pytest.mark.parametrize(
    ("number", "thing", "shown"),
    [
        (1, "image", "1 image"),
        (0, "image", "0 images"),
        (2, "study", "2 studies"),
        (3, "series", "3 series"),
        (2, "try", "2 tries"),
    ],
)
def test_counted_things_agree_with_their_number(number, thing, shown) -> None:
    assert words.counted(number, thing) == shown


def test_a_dicom_date_is_written_with_dashes_and_anything_else_as_it_came() -> None:
    assert words.dicom_date("19500203") == "1950-02-03"
    assert words.dicom_date("1950") == "1950"
    assert words.dicom_date("") == ""


def test_the_words_before_a_reason_are_not_said_twice() -> None:
    assert words.reason("not taken: the sequence is T1") == "the sequence is T1"
    assert words.reason("MR FLAIR") == "MR FLAIR"
