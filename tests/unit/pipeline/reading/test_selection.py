"""Which series a model takes, in which order, and the reason kept for each."""

import pytest

from models import applicability
from models.applicability import AnyOf, Applicability, Condition, Preference
from models.manifest import Manifest, ModelInput
from pipeline.reading.applicability import extent_refusal, judge, spacing_refusal
from pipeline.reading.selection import SeriesHeaders, representatives, select

FLAIR = Applicability(
    all=(
        Condition(attribute="Modality", op="equals", value="MR", code="not_mr", sentence="Reads MR only"),
        Condition(
            attribute="BodyPartExamined",
            op="in",
            value=("BRAIN", "HEAD"),
            unknown="accept",
            code="not_head",
            sentence="Reads heads only",
        ),
    ),
    any=(
        AnyOf(
            options=(
                (
                    applicability.Test(
                        attribute="SeriesDescription", op="matches", value=r"flair|dark.?fluid"
                    ),
                ),
                (
                    applicability.Test(attribute="InversionTime", op="between", value=(1600.0, 3000.0)),
                    applicability.Test(attribute="ScanningSequence", op="equals", value="IR"),
                ),
            ),
            code="not_flair",
            sentence="Needs a sequence with inversion recovery",
        ),
    ),
    none=(
        Condition(
            attribute="ImageType", op="equals", value="LOCALIZER", code="localizer", sentence="Is a localizer"
        ),
    ),
    min_slices=5,
    max_angle_from_axial_degrees=45.0,
    prefer=(Preference(attribute="ImageType", op="equals", value="ORIGINAL", weight=2.0),),
)


def manifest(rules=FLAIR, unit="series"):
    reading = ModelInput(name="image", unit=unit, applicability=rules)
    return Manifest.model_construct(id="brain-flair-lesion", inputs=(reading,))


@pytest.fixture
def series(make_stack):
    def make(uid, count=8, **attributes):
        headers = tuple(make_stack(count, series_uid=uid, **attributes))
        return SeriesHeaders(uid, headers, count)

    return make


def only(rules_or_manifest, *series):
    (selection,) = select([rules_or_manifest], series)
    return selection


def test_series_that_fits_is_taken_and_the_evidence_is_kept(series):
    selection = only(manifest(), series("1.1", SeriesDescription="AX T2 FLAIR", BodyPartExamined="BRAIN"))
    (taken,) = selection.candidates
    assert taken.rank == 1
    assert taken.sentence == (
        'taken: Body Part Examined "BRAIN", Series Description "AX T2 FLAIR", 8 images, 0° from axial.'
    )


def test_second_option_is_enough_when_all_of_its_tests_hold(series):
    fits = series("1.1", SeriesDescription="ax tirm", InversionTime=2500, ScanningSequence=["SE", "IR"])
    half = series("1.2", SeriesDescription="ax tirm", InversionTime=2500)
    selection = only(manifest(), fits, half)
    assert [c.series_uid for c in selection.candidates] == ["1.1"]


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"Modality": "CT", "SeriesDescription": "FLAIR"}, "NOT-MR"),
        ({"SeriesDescription": "T1 POST"}, "NOT-FLAIR"),
        ({"SeriesDescription": "FLAIR", "BodyPartExamined": "KNEE"}, "NOT-HEAD"),
        ({"SeriesDescription": "FLAIR", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "LOCALIZER"),
        ({"SeriesDescription": "FLAIR", "count": 3}, "TOO-FEW-SLICES"),
        ({"SeriesDescription": "FLAIR", "orientation": (0, 1, 0, 0, 0, -1)}, "ORIENTATION"),
    ],
)
def test_series_that_does_not_fit_keeps_the_code_and_what_was_found(attributes, code, series):
    (refused,) = only(manifest(), series("1.1", **attributes)).considered
    assert refused.rank is None
    assert refused.refusal.code == code
    assert refused.sentence.startswith("not taken: ")


def test_reason_names_the_value_that_was_found(series):
    (refused,) = only(manifest(), series("1.1", SeriesDescription="T1 POST")).considered
    assert 'Series Description "T1 POST"' in refused.sentence
    assert "no Inversion Time" in refused.sentence


def test_preferred_series_comes_first_then_more_slices_then_thinner(series):
    derived = series("1.1", count=30, SeriesDescription="FLAIR", ImageType=["DERIVED", "SECONDARY"])
    thick = series("1.2", count=20, SeriesDescription="FLAIR", ImageType=["ORIGINAL", "PRIMARY"], thickness=6)
    thin = series("1.3", count=20, SeriesDescription="FLAIR", ImageType=["ORIGINAL", "PRIMARY"], thickness=3)
    few = series("1.4", count=10, SeriesDescription="FLAIR", ImageType=["ORIGINAL", "PRIMARY"])
    selection = only(manifest(), derived, thick, thin, few)
    assert [c.series_uid for c in selection.candidates] == ["1.3", "1.2", "1.4", "1.1"]
    assert [c.rank for c in selection.candidates] == [1, 2, 3, 4]


def test_order_of_the_series_does_not_change_the_choice(series):
    several = [series(f"1.{i}", SeriesDescription="FLAIR") for i in range(4)]
    one, other = only(manifest(), *several), only(manifest(), *reversed(several))
    assert one.candidates == other.candidates


def test_reports_segmentations_and_own_results_are_never_candidates():
    segmentation = SeriesHeaders(
        "1.1", (), 0, ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.4")
    )
    own = SeriesHeaders("1.2", (), 0, own=True)
    selection = only(manifest(), segmentation, own)
    assert selection.candidates == ()
    assert [c.refusal.code for c in selection.considered] == ["NOT-AN-IMAGE", "OWN-RESULT"]
    assert "2 Segmentation" in selection.considered[0].sentence


def test_localizer_among_the_slices_does_not_decide(series, make_slice):
    stack = series("1.1", SeriesDescription="FLAIR")
    scout = make_slice((0, 0, 0), SeriesDescription="FLAIR", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    mixed = SeriesHeaders("1.1", (scout, *stack.headers), 9)
    assert len(only(manifest(), mixed).candidates) == 1


def test_one_fitting_still_image_is_enough_for_a_model_of_images(make_slice):
    rules = Applicability(
        all=(Condition(attribute="Modality", op="equals", value="US", code="not_us", sentence="Reads US"),)
    )
    headers = tuple(make_slice((0, 0, 0), Modality=m) for m in ("OT", "OT", "US"))
    (taken,) = only(manifest(rules, unit="image"), SeriesHeaders("1.1", headers, 3)).candidates
    assert taken.rank == 1


@pytest.mark.parametrize(
    ("unknown", "fits"),
    [("refuse", False), ("accept", True)],
)
def test_unknown_attribute_means_what_the_rule_says(unknown, fits, make_slice):
    rules = Applicability(
        all=(
            Condition(
                attribute="BodyPartExamined",
                op="equals",
                value="BREAST",
                unknown=unknown,
                code="nnn",
                sentence="No",
            ),
        )
    )
    for value in (None, ""):
        assert (judge(rules, make_slice((0, 0, 0), BodyPartExamined=value)).refusal is None) is fits


@pytest.mark.parametrize(("wanted", "fits"), [(True, False), (False, True)])
def test_exists_asks_whether_the_attribute_is_known(wanted, fits, make_slice):
    rules = Applicability(
        all=(
            Condition(
                attribute="ContrastBolusAgent", op="exists", value=wanted, code="ccc", sentence="Contrast"
            ),
        )
    )
    assert (judge(rules, make_slice((0, 0, 0))).refusal is None) is fits


def test_angle_is_measured_from_the_named_plane(make_slice, make_oblique):
    image = make_slice((0, 0, 0), orientation=make_oblique(10, 20))
    for degrees, fits in ((19.0, False), (21.0, True)):
        rules = Applicability(
            all=(
                Condition(attribute="axial", op="within_angle", value=degrees, code="aaa", sentence="Axial"),
            )
        )
        assert (judge(rules, image).refusal is None) is fits


def test_spacing_outside_the_range_is_refused_and_unknown_spacing_is_not():
    rules = Applicability(pixel_spacing_mm=(0.3, 1.5), slice_spacing_mm=(1.0, 7.0))
    assert spacing_refusal(rules, (0.5, 0.5), 5.0) is None
    assert spacing_refusal(rules, None, None) is None
    assert spacing_refusal(rules, (0.5, 2.0), 5.0).code == "PIXEL-SPACING"
    assert spacing_refusal(rules, (0.5, 0.5), 9.0).code == "SLICE-SPACING"


def test_a_stack_that_covers_more_or_less_than_the_model_reads_is_refused():
    """A model of crops refuses a whole head, whatever the matrix."""
    rules = Applicability(field_of_view_mm=(20.0, 80.0), stack_extent_mm=(10.0, 80.0))
    crop = (36, 50, 35)
    assert extent_refusal(rules, crop, (1.0, 1.0), 1.0) is None
    head = extent_refusal(rules, (170, 256, 256), (0.94, 0.94), 1.0)
    assert head.code == "FIELD-OF-VIEW"
    assert "241 x 241 mm" in head.sentence
    assert extent_refusal(rules, crop, (0.3, 1.0), 1.0).code == "FIELD-OF-VIEW"
    assert extent_refusal(rules, crop, (1.0, 2.5), 1.0).code == "FIELD-OF-VIEW"
    assert extent_refusal(rules, crop, (1.0, 1.0), 3.0).code == "STACK-EXTENT"
    assert extent_refusal(rules, (5, 50, 35), (1.0, 1.0), 1.0).code == "STACK-EXTENT"
    # Both ends belong to the range; what is unknown is accepted, as with spacings.
    assert extent_refusal(rules, (80, 80, 20), (1.0, 1.0), 1.0) is None
    assert extent_refusal(rules, (1, 9000, 9000), None, None) is None
    assert extent_refusal(Applicability(), (1, 9000, 9000), (1.0, 1.0), 1.0) is None


def test_representatives_are_few_and_span_the_series():
    assert representatives(3) == [0, 1, 2]
    spread = representatives(2000)
    assert (spread[0], spread[-1], len(spread)) == (0, 1999, 7)
