"""Every reason of not analysed can be read and acted on."""

import re
import string

import pytest

from pipeline.reading.refusals import REASONS, meanings, refuse


@pytest.mark.parametrize("code", sorted(REASONS))
def test_each_code_has_a_sentence_a_meaning_and_a_remedy(code):
    assert re.fullmatch(r"[A-Z]+(-[A-Z]+)*", code)
    parts = {name: 1 for _, name, _, _ in string.Formatter().parse(REASONS[code].sentence) if name}
    refusal = refuse(code, **parts)
    assert refusal.code == code
    assert refusal.sentence.endswith(".")
    assert refusal.remedy.endswith(".")
    assert meanings()[code]


def test_sentence_with_a_part_missing_is_our_mistake_and_raises():
    with pytest.raises(KeyError):
        refuse("TOO-FEW-SLICES", slices=3)
