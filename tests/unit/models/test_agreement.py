import numpy as np
import pytest

from models.evaluation.agreement import bland_altman, icc

# Shrout and Fleiss 1979, table 2: six targets, four judges. They give ICC(2,1) as 0.29.
JUDGES = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_the_published_example_has_its_published_correlation() -> None:
    assert icc(JUDGES) == pytest.approx(0.2898, abs=5e-5)


def test_a_constant_offset_lowers_agreement_though_not_correlation() -> None:
    truth = np.arange(1.0, 9.0)
    assert icc(np.column_stack([truth, truth])) == pytest.approx(1)
    assert np.corrcoef(truth, truth + 3)[0, 1] == pytest.approx(1)
    assert icc(np.column_stack([truth, truth + 3])) == pytest.approx(6 / (6 + 4.5))


def test_bias_and_limits_of_known_differences() -> None:
    truth = np.array([10.0, 20.0, 30.0, 40.0])
    report = bland_altman(truth + np.array([1.0, 3.0, 1.0, 3.0]), truth)
    assert report.bias == 2
    assert report.relative_bias == pytest.approx(0.08)
    assert report.limits == pytest.approx((2 - 1.96 * np.sqrt(4 / 3), 2 + 1.96 * np.sqrt(4 / 3)))


def test_one_case_has_no_limits() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        bland_altman(np.ones(1), np.ones(1))
    with pytest.raises(ValueError, match="two subjects"):
        icc(np.ones((1, 2)))
    with pytest.raises(ValueError, match="the same"):
        icc(np.ones((3, 2)))
