"""The structured report: what it says, what it points to, and what it never claims."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread

from pipeline.reading.refusals import refuse
from pipeline.results.citation import SliceReference
from pipeline.results.outline import signed_area
from pipeline.results.seg import build_seg
from pipeline.results.source_repair import bare_copy, repair_source
from pipeline.results.sr import SR_CLASS_UIDS, build_not_analysed_sr, build_sr
from pipeline.results.write import to_part10


def written(sources, source, labels=None, *, model=None, class_name=None, class_scores=None, **options):
    model = model or sources.model
    labels = sources.lesion_labels(source) if labels is None else labels
    findings = sources.findings_of(source, labels, model, class_name, class_scores)
    author = sources.authorship_of(source, model)
    repaired = repair_source(source)
    seg = build_seg(repaired, labels, findings.lesions, author) if findings.lesions else None
    report = build_sr([repaired], findings, {0: seg} if seg else {}, author, **options)
    return dcmread(BytesIO(to_part10(report))), seg, findings


def walk(item):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def meaning(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if item.get("ConceptNameCodeSequence") else ""


def groups(report):
    return [item for item in walk(report) if meaning(item) == "Measurement Group"]


def numbers(group):
    return {
        meaning(item): (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def only(group, name):
    (item,) = (item for item in group.ContentSequence if meaning(item) == name)
    return item


def has(group, name):
    return any(meaning(item) == name for item in group.ContentSequence)


def texts(report):
    return [
        item.TextValue
        for item in walk(report)
        if item.get("ValueType") == "TEXT" and meaning(item) == "Comment"
    ]


def no_labels(source):
    return np.zeros(source.volume.shape, np.uint16)


def test_volume_and_axes_in_the_report_are_those_of_the_mask(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    report, _, findings = written(sources, source, labels)
    with_volume = [numbers(group) for group in groups(report) if "Volume" in numbers(group)]
    assert len(with_volume) == 2
    for number, found in enumerate(with_volume, start=1):
        volume = np.count_nonzero(labels == number) * 0.9 * 0.7 * 5.0 / 1000
        assert found["Volume"] == (pytest.approx(volume, abs=5e-5), "mL")
        lesion = findings.lesions[number - 1].lesion
        assert found["Long Axis"] == (pytest.approx(lesion.long_axis_mm, abs=1e-3), "mm")
        assert found["Short Axis"] == (pytest.approx(lesion.short_axis_mm, abs=1e-3), "mm")
        assert found["Probability"] == (lesion.score, "1")


def test_each_lesion_has_two_groups_with_the_tracking_of_its_segment(sources, source_name):
    source = sources.matrix()[source_name]()
    report, seg, _ = written(sources, source)
    for segment in seg.SegmentSequence:
        mine = [
            group
            for group in groups(report)
            if segment.TrackingUID == only(group, "Tracking Unique Identifier").UID
        ]
        assert len(mine) == 2
        assert {only(group, "Tracking Identifier").TextValue for group in mine} == {segment.TrackingID}
        assert sum(has(group, "Image Region") for group in mine) == 1


def test_uncalibrated_image_is_reported_in_pixels_and_no_millimetre(sources):
    source = sources.series([sources.header("US")], placed=False, spacing=None)
    report, _, findings = written(sources, source)
    units = {unit for group in groups(report) for _, unit in numbers(group).values()}
    assert units == {"{pixels}", "1"}
    areas = [numbers(group)["Area"][0] for group in groups(report) if has(group, "Image Region")]
    assert areas == [tracked.lesion.area_px for tracked in findings.lesions]


def test_calibrated_image_is_reported_in_square_millimetres(sources):
    source = sources.series([sources.header("US")], placed=False)
    labels = sources.lesion_labels(source)
    report, _, _ = written(sources, source, labels)
    areas = [numbers(group)["Area"] for group in groups(report) if has(group, "Image Region")]
    assert areas == [
        (pytest.approx(np.count_nonzero(labels == number) * 0.9 * 0.7, abs=1e-3), "mm2") for number in (1, 2)
    ]


def test_outline_is_closed_and_encloses_the_lesion_of_the_key_image(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    report, _, findings = written(sources, source, labels)
    regions = [only(group, "Image Region") for group in groups(report) if has(group, "Image Region")]
    for tracked, region in zip(findings.lesions, regions, strict=True):
        points = np.array(region.GraphicData).reshape(-1, 2)
        assert region.GraphicType == "POLYLINE"
        assert np.array_equal(points[0], points[-1])
        mask = labels[tracked.lesion.key_slice] == tracked.lesion.label
        rows, columns = np.nonzero(mask)
        # Pixel centres lie at index + 0.5, so the outline starts half a pixel before the first one.
        assert points.min(axis=0).tolist() == [columns.min(), rows.min()]
        assert points.max(axis=0).tolist() == [columns.max() + 1, rows.max() + 1]
        assert signed_area(points[:-1, ::-1]) == mask.sum() - 0.5
        (image,) = region.ContentSequence
        key = source.frames[tracked.lesion.key_slice]
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == key.sop_uid


def test_reference_names_frames_or_segments_and_never_both(sources, source_name):
    report, _, _ = written(sources, sources.matrix()[source_name]())
    for item in walk(report):
        for reference in item.get("ReferencedSOPSequence", ()):
            assert not ("ReferencedFrameNumber" in reference and "ReferencedSegmentNumber" in reference)


def test_segment_of_a_volume_is_reported_with_the_images_it_was_drawn_on(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    report, seg, _ = written(sources, source, labels)
    (group, _) = [group for group in groups(report) if has(group, "Referenced Segment")]
    segment = only(group, "Referenced Segment").ReferencedSOPSequence[0]
    assert (segment.ReferencedSOPInstanceUID, segment.ReferencedSegmentNumber) == (seg.SOPInstanceUID, 1)
    images = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in group.ContentSequence
        if meaning(item) == "Source Image for Segmentation"
    }
    drawn = np.flatnonzero((labels == 1).any(axis=(1, 2)))
    assert images == {source.frames[i].sop_uid for i in drawn}


def test_evidence_and_image_library_name_every_image_and_the_segmentation(sources, source_name):
    source = sources.matrix()[source_name]()
    report, seg, _ = written(sources, source)
    evidence = {
        item.ReferencedSOPInstanceUID: item.ReferencedSOPClassUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }
    classes = {frame.sop_uid: frame.sop_class for frame in source.frames}
    assert evidence == {**classes, seg.SOPInstanceUID: seg.SOPClassUID}
    (library,) = (item for item in walk(report) if meaning(item) == "Image Library")
    images = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item.ReferencedSOPSequence[
            0
        ].ReferencedSOPClassUID
        for item in walk(library)
        if item.ValueType == "IMAGE"
    }
    assert images == classes


@pytest.mark.parametrize("sr_class", list(SR_CLASS_UIDS))
def test_nothing_is_verified_and_a_device_observed(sources, sr_class):
    report, _, _ = written(sources, sources.series(sources.stack()), sr_class=sr_class)
    assert report.SOPClassUID == SR_CLASS_UIDS[sr_class]
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert "VerifyingObserverSequence" not in report
    (observer,) = (item for item in report.ContentSequence if meaning(item) == "Observer Type")
    assert observer.ConceptCodeSequence[0].CodeMeaning == "Device"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_report_of_another_class_is_another_object(sources):
    source = sources.series(sources.stack())
    uids = {written(sources, source, sr_class=one)[0].SOPInstanceUID for one in SR_CLASS_UIDS}
    assert len(uids) == 3


def test_no_finding_is_said_with_codes_and_no_number(sources):
    source = sources.series(sources.stack())
    report, _, _ = written(sources, source, no_labels(source))
    (group,) = groups(report)
    assert numbers(group) == {}
    assert only(group, "Presence of property").ConceptCodeSequence[0].CodeValue == "272519000"
    summary = only(group, "CAD Processing and Findings Summary").ConceptCodeSequence[0]
    assert summary.CodeMeaning == "All algorithms succeeded; without findings"
    assert sources.model.negative_statement in texts(report)


def test_class_is_coded_and_scores_are_text_since_bare_numbers_stop_viewers(sources):
    source = sources.series([sources.header("US", ImageLaterality="L")], placed=False)
    scores = {"benign": 0.07, "malignant": 0.91, "normal": 0.02}
    report, _, _ = written(
        sources, source, no_labels(source), model=sources.breast, class_name="malignant", class_scores=scores
    )
    (group,) = groups(report)
    assert numbers(group) == {}
    assert only(group, "Classification").ConceptCodeSequence[0].CodeValue == "21594007"
    assert "Scores: malignant 0.91, benign 0.07, normal 0.02." in texts(report)


def test_site_carries_the_side_of_the_image(sources):
    source = sources.series([sources.header("US", ImageLaterality="L")], placed=False)
    report, _, _ = written(sources, source, model=sources.breast)
    sites = [item for item in walk(report) if meaning(item) == "Finding Site"]
    assert sites
    for site in sites:
        assert site.ConceptCodeSequence[0].CodeMeaning == "Breast"
        assert site.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning == "Left"


def test_limits_of_use_stand_in_every_report(sources):
    for labels in (None, np.zeros((8, 48, 40), np.uint16)):
        report, _, _ = written(sources, sources.series(sources.stack()), labels)
        assert "Research use. Not verified by a physician." in texts(report)
        assert sources.model.card_line in texts(report)


def test_repairs_and_notes_are_told_in_the_report(sources):
    source = sources.series(sources.stack(FrameOfReferenceUID=None))
    report, _, _ = written(sources, source)
    assert any("frame of reference" in text for text in texts(report))


def test_predecessor_is_cited_and_the_text_says_that_it_is_replaced(sources):
    source = sources.series(sources.stack())
    earlier, _, _ = written(sources, source)
    report, _, _ = written(sources, source, predecessors=[earlier])
    (study,) = report.PredecessorDocumentsSequence
    item = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert item.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    assert any("replaces the earlier report" in text for text in texts(report))


def test_private_scheme_is_identified(sources):
    report, _, _ = written(sources, sources.series(sources.stack()))
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99PREREAD"


def test_not_analysed_is_partial_coded_and_never_negative(sources):
    header = sources.header("US", sources.classes["US-RETIRED"])
    refusal = refuse("TOO-FEW-SLICES", what="The stack", slices=3, least=5)
    source = sources.series([header], placed=False)
    report = build_not_analysed_sr(
        [bare_copy(header)],
        [SliceReference(str(header.SOPInstanceUID), str(header.SOPClassUID), None)],
        refusal,
        sources.authorship_of(source),
    )
    assert report.CompletionFlag == "PARTIAL"
    (group,) = groups(report)
    finding = only(group, "Finding").ConceptCodeSequence[0]
    reason = only(group, "Reason").ConceptCodeSequence[0]
    assert (finding.CodeValue, finding.CodingSchemeDesignator) == ("NOT-ANALYSED", "99PREREAD")
    assert (reason.CodeValue, reason.CodingSchemeDesignator) == ("TOO-FEW-SLICES", "99PREREAD")
    assert refusal.remedy in texts(report)
    assert "Absent" not in str(report)
