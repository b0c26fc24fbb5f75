"""The segmentation: the mask that was written is the mask that is read, by two readers."""

from io import BytesIO

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from pipeline.results.seg import build_seg
from pipeline.results.source_repair import repair_source
from pipeline.results.write import to_part10


def written(sources, source, labels=None, model=None):
    labels = sources.lesion_labels(source) if labels is None else labels
    model = model or sources.model
    findings = sources.findings_of(source, labels, model)
    repaired = repair_source(source)
    seg = build_seg(repaired, labels, findings.lesions, sources.authorship_of(source, model))
    return dcmread(BytesIO(to_part10(seg))), labels, findings


def plain_masks(seg, source):
    """Labels by pydicom and numpy alone: unpacked bits, mapped by the reference to the source image."""
    frames = int(seg.NumberOfFrames)
    bits = np.unpackbits(
        np.frombuffer(seg.PixelData, np.uint8), count=frames * seg.Rows * seg.Columns, bitorder="little"
    )
    index_of = {(f.sop_uid, f.frame_number): i for i, f in enumerate(source.frames)}
    labels = np.zeros(source.volume.shape, np.uint16)
    for group, plane in zip(
        seg.PerFrameFunctionalGroupsSequence, bits.reshape(frames, seg.Rows, seg.Columns), strict=True
    ):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        frame = image.get("ReferencedFrameNumber")
        place = index_of[str(image.ReferencedSOPInstanceUID), None if frame is None else int(frame)]
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert not (labels[place] * plane).any()
        labels[place][plane == 1] = number
    return labels


def highdicom_masks(seg, source):
    """Labels by highdicom, which reads by instance or by frame of the instance."""
    read = highdicom.seg.Segmentation.from_dataset(seg)
    numbers = [frame.frame_number for frame in source.frames]
    uids = [frame.sop_uid for frame in source.frames]
    if numbers[0] is None:
        planes = read.get_pixels_by_source_instance(
            uids, combine_segments=True, ignore_spatial_locations=True
        )
        return planes
    if int(seg.NumberOfFrames) == 0:
        return np.zeros(source.volume.shape, np.uint16)
    return read.get_pixels_by_source_frame(
        uids[0],
        numbers,
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


def test_mask_read_back_by_two_readers_equals_the_mask_written(sources, source_name):
    source = sources.matrix()[source_name]()
    seg, labels, _ = written(sources, source)
    assert np.array_equal(plain_masks(seg, source), labels)
    assert np.array_equal(highdicom_masks(seg, source), labels)


def test_empty_segmentation_has_every_slice_of_the_source_and_no_pixel_set(sources, source_name):
    source = sources.matrix()[source_name]()
    seg, labels, _ = written(sources, source, np.zeros(source.volume.shape, np.uint16))
    assert int(seg.NumberOfFrames) == len(source.frames)
    assert np.array_equal(plain_masks(seg, source), labels)
    assert np.array_equal(highdicom_masks(seg, source), labels)
    (segment,) = seg.SegmentSequence
    assert "TrackingUID" not in segment
    cited = [
        (str(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber"))
        for group in seg.PerFrameFunctionalGroupsSequence
        for image in group.DerivationImageSequence[0].SourceImageSequence
    ]
    assert sorted(cited, key=str) == sorted(((f.sop_uid, f.frame_number) for f in source.frames), key=str)


def test_references_name_what_the_source_really_is(sources, source_name):
    source = sources.matrix()[source_name]()
    seg, _, _ = written(sources, source)
    uids = {frame.sop_uid for frame in source.frames}
    classes = {frame.sop_class for frame in source.frames}
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.series_uid
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == list(
        dict.fromkeys(frame.sop_uid for frame in source.frames)
    )
    found = list(references(seg))
    assert {uid for uid, _ in found} <= uids
    assert {sop_class for _, sop_class in found} == classes


def references(dataset):
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                if "ReferencedSOPInstanceUID" in item:
                    yield item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID
                yield from references(item)


def test_reference_of_a_private_class_is_cited_as_it_is(sources):
    source = sources.series(sources.stack(4, sop_class=sources.classes["PRIVATE"]))
    seg, _, _ = written(sources, source)
    assert {sop_class for _, sop_class in references(seg)} == {sources.classes["PRIVATE"]}


def test_distance_of_slices_is_written_where_the_stack_is_not_even(sources):
    headers = [one for i, one in enumerate(sources.stack(8, SliceThickness=2.5)) if i != 2]
    seg, _, _ = written(sources, sources.series(headers))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == 5.0
    assert float(measures.SliceThickness) == 2.5
    assert [float(v) for v in measures.PixelSpacing] == [0.9, 0.7]


def test_positions_and_frame_of_reference_are_those_of_the_source(sources):
    source = sources.series(sources.stack(orientation=sources.tilted))
    seg, _, _ = written(sources, source)
    headers = {str(h.SOPInstanceUID): h for h in source.headers}
    assert seg.FrameOfReferenceUID == source.headers[0].FrameOfReferenceUID
    for group in seg.PerFrameFunctionalGroupsSequence:
        header = headers[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(position, [float(v) for v in header.ImagePositionPatient])


def test_single_segment_is_identified_in_every_frame_and_not_shared(sources):
    source = sources.series(sources.stack())
    seg, _, _ = written(sources, source, sources.lesion_labels(source, lesions=1))
    assert "SegmentIdentificationSequence" not in seg.SharedFunctionalGroupsSequence[0]
    assert all(
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
        for group in seg.PerFrameFunctionalGroupsSequence
    )


def test_image_without_coordinates_has_an_empty_patient_orientation(sources):
    seg, _, _ = written(sources, sources.series([sources.header("US")], placed=False))
    assert "PatientOrientation" in seg
    assert not seg.PatientOrientation
    assert "PixelMeasuresSequence" not in seg.SharedFunctionalGroupsSequence[0]


def test_segments_say_what_they_are_and_who_made_them(sources):
    seg, _, findings = written(sources, sources.series(sources.stack()))
    assert seg.SegmentationType == "BINARY"
    assert [s.SegmentNumber for s in seg.SegmentSequence] == [1, 2]
    assert [s.TrackingUID for s in seg.SegmentSequence] == [t.tracking_uid for t in findings.lesions]
    colours = set()
    for segment in seg.SegmentSequence:
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("brain-flair-lesion", "1.2.0")
        assert "ab" * 32 in str(algorithm.AlgorithmParameters)
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
        assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
        colours.add(tuple(segment.RecommendedDisplayCIELabValue))
    assert len(colours) == 2
    assert seg.ContentCreatorName == "preread^AI"
    assert seg.DeviceSerialNumber == "preread-test"
    assert seg.SeriesNumber == 9001


def test_equipment_names_scanner_library_and_this_run(sources):
    source = sources.series(sources.stack())
    seg, _, _ = written(sources, source)
    makers = [item.Manufacturer for item in seg.ContributingEquipmentSequence]
    assert makers[:2] == ["Maker", "preread"]
    ours = seg.ContributingEquipmentSequence[1]
    assert ours.ManufacturerModelName == "preread/brain-flair-lesion"
    assert sources.authorship_of(source).key.digest_of_run() in ours.ContributionDescription
    assert seg.file_meta.ImplementationVersionName.startswith("PREREAD")


def test_labels_without_their_lesions_make_no_segmentation(sources):
    source = sources.series(sources.stack())
    with pytest.raises(ValueError, match="0 lesions for labels up to 2"):
        build_seg(repair_source(source), sources.lesion_labels(source), [], sources.authorship_of(source))
