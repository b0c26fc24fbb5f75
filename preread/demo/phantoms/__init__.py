"""Synthetic anatomy with known truth: FLAIR heads, breast ultrasound, CT bodies.

Arrays only: `preread.demo.phantom_dicom` wraps them in DICOM.
"""

from preread.demo.phantoms.body import CtBody, ct_body
from preread.demo.phantoms.breast import BreastImage, BreastKind, breast_ultrasound
from preread.demo.phantoms.head import FlairHead, HeadAnatomy, flair_head, head_anatomy

__all__ = [
    "BreastImage",
    "BreastKind",
    "CtBody",
    "FlairHead",
    "HeadAnatomy",
    "breast_ultrasound",
    "ct_body",
    "flair_head",
    "head_anatomy",
]
