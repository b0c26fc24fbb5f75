"""What pixels may add to a header, for every way in which the two can stand to each other."""

import pytest
from pydicom.dataset import Dataset
from tiny_sorter import QUESTIONS

from models import applicability
from models.applicability import AnyOf, Applicability, Condition
from models.manifest import Manifest, ModelInput
from models.sorting.answers import UNKNOWN, Given, SeriesAnswers
from pipeline.reading.pixels_and_tags import (
    NOTHING_FOUND,
    Remarks,
    Standing,
    completed,
    possible_stand_ins,
    remarks,
    standing,
)
from pipeline.reading.selection import SeriesHeaders, select, worth_a_look

BODY, MODALITY, CONTRAST, QUALITY = QUESTIONS


def header(**attributes):
    made = Dataset()
    made.Modality = "MR"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def sure(question, name, score=0.99):
    return Given(question.name, name, name, score, True)


def unsure(question, name):
    return Given(question.name, name, name, 0.7, False)


def unknown(question):
    return Given(question.name, UNKNOWN, question.answers[0].name, 0.4, False)


def answers(*given):
    return SeriesAnswers("series-sorter 1.0.0", given)


ABSENT, EMPTY = header(), header(BodyPartExamined="")
SAME, OTHER = header(BodyPartExamined="BRAIN"), header(BodyPartExamined="BREAST")
DENIED, STRANGE = header(BodyPartExamined="KNEE"), header(BodyPartExamined="REGION 7")
ALL = (ABSENT, EMPTY, SAME, OTHER, DENIED, STRANGE)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            sure(BODY, "head"),
            (
                Standing.STANDS_IN,
                Standing.STANDS_IN,
                Standing.AGREES,
                Standing.CONTRADICTS,
                Standing.CONTRADICTS,
                Standing.OTHER_WORDS,
            ),
        ),
        (unsure(BODY, "head"), (Standing.UNSURE,) * 6),
        (unknown(BODY), (Standing.UNKNOWN,) * 6),
        (None, (Standing.UNKNOWN,) * 6),
    ],
    ids=["sure", "unsure", "unknown", "not-asked"],
)
def test_how_an_answer_stands_to_every_kind_of_header(given, expected):
    assert tuple(standing(BODY, given, one) for one in ALL) == expected


@pytest.mark.parametrize("index", range(6))
def test_without_a_sorter_nothing_is_added(index):
    assert remarks(QUESTIONS, None, ALL[index]) == NOTHING_FOUND


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("kind", ["unsure", "unknown"])
def test_an_answer_that_is_not_sure_does_nothing(index, kind):
    given = unsure(BODY, "head") if kind == "unsure" else unknown(BODY)
    assert remarks(QUESTIONS, answers(given), ALL[index]) == NOTHING_FOUND


@pytest.mark.parametrize("silent", [ABSENT, EMPTY], ids=["absent", "empty"])
def test_a_sure_answer_stands_in_where_the_header_is_silent_and_says_so_with_its_score(silent):
    found = remarks(QUESTIONS, answers(sure(BODY, "head")), silent)
    assert found == Remarks(
        (("BodyPartExamined", "HEAD"),),
        ("body part judged from the pixels: head, 0.99 (series-sorter 1.0.0)",),
    )


def test_a_sure_answer_that_the_header_gives_too_adds_nothing():
    assert remarks(QUESTIONS, answers(sure(BODY, "head")), SAME) == NOTHING_FOUND
    assert remarks(QUESTIONS, answers(sure(BODY, "head")), STRANGE) == NOTHING_FOUND


@pytest.mark.parametrize("contrary", [OTHER, DENIED], ids=["another-answer", "denied"])
def test_a_header_that_says_otherwise_is_doubted_in_words_and_nothing_stands_in(contrary):
    found = remarks(QUESTIONS, answers(sure(BODY, "head")), contrary)
    assert found.stand_ins == ()
    assert found.judged == ()
    assert found.doubts == (
        "The pixels look like another body part than the header says: head, 0.99 (series-sorter 1.0.0).",
    )


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        ({}, "mr_flair", Standing.STANDS_IN),
        ({"SeriesDescription": "AX FLAIR"}, "mr_flair", Standing.AGREES),
        ({"ProtocolName": "tirm_dark-fluid"}, "mr_flair", Standing.AGREES),
        ({"SeriesDescription": "AX T1 SE"}, "mr_flair", Standing.CONTRADICTS),
        # A description that is neither must not be written over: T2 is not on the list.
        ({"SeriesDescription": "AX T2 TSE"}, "mr_flair", Standing.OTHER_WORDS),
        ({"ProtocolName": "AX T2 TSE"}, "mr_flair", Standing.OTHER_WORDS),
        # Both words stand in it: whichever is right, it is no contradiction.
        ({"SeriesDescription": "AX T1 FLAIR"}, "mr_flair", Standing.AGREES),
        ({"SeriesDescription": "AX T1 FLAIR"}, "mr_t1", Standing.AGREES),
        ({"Modality": "CT"}, "mr_t1", Standing.CONTRADICTS),
        ({"Modality": "CT"}, "ct", Standing.AGREES),
        ({"Modality": "MR"}, "ct", Standing.CONTRADICTS),
        ({"Modality": "OT"}, "ct", Standing.OTHER_WORDS),
    ],
)
def test_how_the_technique_stands_to_descriptions_and_modality(attributes, name, expected):
    assert standing(MODALITY, sure(MODALITY, name), header(**attributes)) is expected


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        ({}, "with", Standing.STANDS_IN),
        ({"ContrastBolusAgent": "GD"}, "with", Standing.AGREES),
        ({"ContrastBolusAgent": "GD"}, "without", Standing.CONTRADICTS),
        ({"SeriesDescription": "T1 POST"}, "without", Standing.CONTRADICTS),
        ({"SeriesDescription": "T1 PRE"}, "with", Standing.CONTRADICTS),
        ({"SeriesDescription": "T1 WITHOUT CONTRAST"}, "without", Standing.AGREES),
        ({"SeriesDescription": "T1"}, "with", Standing.OTHER_WORDS),
    ],
)
def test_how_contrast_stands_to_agent_and_description(attributes, name, expected):
    assert standing(CONTRAST, sure(CONTRAST, name), header(**attributes)) is expected


def test_quality_is_never_held_against_a_header():
    for name in ("fine", "noisy", "blurred"):
        assert remarks(QUESTIONS, answers(sure(QUALITY, name)), ABSENT) == NOTHING_FOUND


def test_a_header_is_completed_in_a_copy():
    for original in (header(), header(BodyPartExamined="")):
        whole = completed(original, Remarks((("BodyPartExamined", "HEAD"),)))
        assert whole.BodyPartExamined == "HEAD"
        assert whole.Modality == "MR"
        assert not original.get("BodyPartExamined")


def test_what_may_stand_in_is_every_answer_to_what_is_open():
    assert possible_stand_ins(QUESTIONS, header(BodyPartExamined="HEAD", SeriesDescription="T2")) == []
    open_body = possible_stand_ins(QUESTIONS, header(SeriesDescription="T2"))
    assert {one.stand_ins for one in open_body} == {
        (("BodyPartExamined", "HEAD"),),
        (("BodyPartExamined", "BREAST"),),
    }
    everything = possible_stand_ins(QUESTIONS, header())
    assert (("BodyPartExamined", "HEAD"), ("SeriesDescription", "FLAIR")) in {
        one.stand_ins for one in everything
    }


RULES = Applicability(
    all=(Condition(attribute="Modality", op="equals", value="MR", code="not_mr", sentence="Reads MR"),),
    any=(
        AnyOf(
            options=((applicability.Test(attribute="SeriesDescription", op="matches", value="flair"),),),
            code="not_flair",
            sentence="Reads FLAIR",
        ),
        AnyOf(
            options=((applicability.Test(attribute="BodyPartExamined", op="matches", value="head|brain"),),),
            code="not_head",
            sentence="Reads heads",
        ),
    ),
)
MANIFEST = Manifest.model_construct(
    id="flair", inputs=(ModelInput(name="image", unit="series", applicability=RULES),)
)
FLAIR_HEAD = answers(sure(BODY, "head"), sure(MODALITY, "mr_flair", 0.97))


def series(one, given=None):
    return SeriesHeaders("1.1", (one,), 20, found=remarks(QUESTIONS, given, one))


def considered(one, given=None):
    (selection,) = select([MANIFEST], [series(one, given)])
    (found,) = selection.considered
    return found


def test_a_silent_series_is_taken_for_its_pixels_and_the_reason_names_sorter_and_scores():
    assert considered(header()).rank is None
    taken = considered(header(), FLAIR_HEAD)
    assert taken.rank == 1
    assert taken.sentence == (
        "taken: body part judged from the pixels: head, 0.99 (series-sorter 1.0.0), "
        "technique judged from the pixels: MR FLAIR, 0.97 (series-sorter 1.0.0), 20 images."
    )


def test_one_silent_attribute_is_filled_and_the_others_are_quoted_as_they_are():
    taken = considered(header(SeriesDescription="AX FLAIR"), FLAIR_HEAD)
    assert 'Series Description "AX FLAIR"' in taken.sentence
    assert "body part judged from the pixels" in taken.sentence
    assert '"HEAD"' not in taken.sentence


def test_pixels_that_show_something_else_leave_the_refusal_as_it_was():
    breast = answers(sure(BODY, "breast"), sure(MODALITY, "mr_flair"))
    found = considered(header(), breast)
    assert found.rank is None
    assert found.refusal == considered(header()).refusal


def test_a_series_of_another_modality_is_not_taken_whatever_it_looks_like():
    assert considered(header(Modality="OT"), FLAIR_HEAD).rank is None


def test_a_doubt_is_told_with_the_choice_and_does_not_change_it():
    fits = header(SeriesDescription="AX FLAIR", BodyPartExamined="BRAIN")
    breast = answers(sure(BODY, "breast"))
    found = considered(fits, breast)
    assert found.rank == 1
    assert found.sentence.endswith("than the header says: breast, 0.99 (series-sorter 1.0.0).")
    refused = considered(header(SeriesDescription="AX T1", BodyPartExamined="BRAIN"), FLAIR_HEAD)
    assert refused.rank is None
    assert "MR FLAIR, 0.97" in refused.sentence


@pytest.mark.parametrize(
    ("one", "is_worth"),
    [
        (header(), True),
        (header(SeriesDescription="AX FLAIR"), True),
        (header(BodyPartExamined="HEAD"), True),
        (header(SeriesDescription="AX FLAIR", BodyPartExamined="HEAD"), False),  # taken already
        (header(SeriesDescription="AX T2", BodyPartExamined="HEAD"), False),  # nothing is left open
        (header(Modality="CT"), False),  # no answer would help
    ],
    ids=["silent", "no-body-part", "no-description", "fits", "says-other", "other-modality"],
)
def test_only_series_that_an_answer_could_bring_to_a_model_are_worth_a_look(one, is_worth):
    assert worth_a_look(QUESTIONS, [MANIFEST], [series(one)]) == (["1.1"] if is_worth else [])
