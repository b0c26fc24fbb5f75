"""Findings in words."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.results.words import headline, is_urgent, length_words, volume_words


@pytest.mark.parametrize(
    ("volume", "words"), [(63.46, "63.5"), (14.2, "14.2"), (1.306, "1.31"), (0.0421, "0.042"), (0.1, "0.10")]
)
def test_volumes_have_about_three_figures(volume, words):
    assert volume_words(volume) == words


@pytest.mark.parametrize(("length", "words"), [(31.4, "31"), (9.96, "10"), (9.94, "9.9"), (0.5, "0.5")])
def test_lengths_are_whole_from_ten(length, words):
    assert length_words(length) == words


def test_headline_of_a_volume_sums_volumes_and_names_the_longest_axis(sources):
    source = sources.series(sources.stack())
    labels = sources.lesion_labels(source)
    assert headline(sources.findings_of(source, labels)) == "2 lesions · 1.73 mL · long axis 12 mm"
    one = (labels == 1).astype(np.uint16)
    assert headline(sources.findings_of(source, one)) == "1 lesion · 0.87 mL · long axis 12 mm"
    assert headline(sources.findings_of(source, labels * 0)) == "no lesion found"


def test_headline_of_an_image_names_class_and_size(sources):
    source = sources.series([sources.header("US")], placed=False)
    labels = (sources.lesion_labels(source) == 1).astype(np.uint16)
    scores = {"malignant": 0.914, "benign": 0.05, "normal": 0.036}
    found = sources.findings_of(source, labels, sources.breast, "malignant", scores)
    assert headline(found) == "malignant 0.91 · 10 × 6.4 mm"
    assert is_urgent(found)
    assert not is_urgent(sources.findings_of(source, labels, sources.breast, "benign", scores))


def test_uncalibrated_image_is_told_in_pixels(sources):
    source = sources.series([sources.header("US")], placed=False, spacing=None)
    labels = (sources.lesion_labels(source) == 1).astype(np.uint16)
    assert headline(sources.findings_of(source, labels)) == "1 lesion · 11 × 9 px"


def test_class_without_outline_is_not_told_as_no_lesion_found(sources):
    source = sources.series([sources.header("US")], placed=False)
    labels = np.zeros(source.volume.shape, np.uint16)
    scores = {"malignant": 0.6, "benign": 0.3, "normal": 0.1}
    found = sources.findings_of(source, labels, sources.breast, "malignant", scores)
    assert headline(found) == "malignant 0.60 · no lesion outlined"
    negative = replace(found, class_name="normal", class_scores={"normal": 0.93})
    assert headline(negative) == "normal 0.93 · no lesion found"
