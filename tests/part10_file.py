"""DICOM files made of bytes, right or wrong in every detail one likes."""

from dicom_peer import CT, EXPLICIT, element, even


def file_meta(uid: str, *, sop_class: str = CT, extra: bytes = b"", syntax: str | None = EXPLICIT) -> bytes:
    elements = (
        element(2, 1, b"OB", b"\0\1")
        + element(2, 2, b"UI", even(sop_class.encode()))
        + element(2, 3, b"UI", even(uid.encode()))
        + (element(2, 0x10, b"UI", even(syntax.encode())) if syntax else b"")
        + extra
    )
    return element(2, 0, b"UL", len(elements).to_bytes(4, "little")) + elements


def dicom_file(
    uid: str, dataset: bytes, *, sop_class: str = CT, extra: bytes = b"", syntax: str | None = EXPLICIT
) -> bytes:
    head = file_meta(uid, sop_class=sop_class, extra=extra, syntax=syntax)
    return bytes(128) + b"DICM" + head + dataset
