"""C-GET from a real archive: proof that results stand there, and the bytes to keep and measure."""

from collections.abc import Callable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GET  # type: ignore[attr-defined]

from db.records import ResultRecord
from pipeline.outbound.reactor_gate import keep_answers
from preread.demo.archive import send_at_once
from preread.demo.sender import ANSWER_SECONDS, Address

PENDING = (0xFF00, 0xFF01)


def retrieve(
    study_uid: str,
    results: Sequence[ResultRecord],
    *,
    archive: Address,
    calling_ae: str,
    keep: Callable[[str, bytes], None],
) -> str | None:
    """Fetch result objects of one study.

    Parameters
    ----------
    keep : called with SOP Instance UID and the object as a DICOM file

    Returns
    -------
    None when the archive gave them all, else what it answered; archives commonly let only known AE titles
    retrieve.
    """
    ae = AE(ae_title=calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ANSWER_SECONDS
    classes = sorted({result.sop_class for result in results})
    arrived: set[str] = set()

    def on_store(event: "evt.Event") -> int:
        sop_uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        arrived.add(sop_uid)
        keep(sop_uid, event.encoded_dataset())
        return 0x0000

    handlers: list[Any] = [(evt.EVT_C_STORE, on_store), (evt.EVT_CONN_OPEN, send_at_once)]
    association = ae.associate(
        archive.host,
        archive.port,
        ae_title=archive.ae_title,
        contexts=[build_context(GET), *(build_context(sop_class) for sop_class in classes)],
        ext_neg=[build_role(sop_class, scp_role=True) for sop_class in classes],
        evt_handlers=handlers,
    )
    keep_answers(association)
    if not association.is_established:
        return "no association for C-GET"
    try:
        for result in results:
            query = Dataset()
            query.QueryRetrieveLevel = "IMAGE"
            query.StudyInstanceUID = study_uid
            query.SeriesInstanceUID = result.series_uid
            query.SOPInstanceUID = result.sop_uid
            for status, _ in association.send_c_get(query, GET):
                code = getattr(status, "Status", None)
                if code is None or code not in (0x0000, *PENDING):
                    return f"C-GET answered {'nothing' if code is None else f'0x{code:04X}'}"
    except ValueError as error:  # pynetdicom: the archive accepted no context for C-GET
        return str(error)
    finally:
        association.release()
    missing = [result.kind for result in results if result.sop_uid not in arrived]
    return f"{', '.join(missing)} not found there" if missing else None
