"""What we replace in pynetdicom: the event that holds its reactor while a sender waits for an answer."""

import threading
from collections.abc import Iterator

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from config.settings import PeerSettings
from pipeline.outbound.association import Outgoing, associated, store, verification_kinds
from pipeline.outbound.reactor_gate import ReactorGate

ANY_DATASET = bytes.fromhex("0800600043530200") + b"MR"  # Modality, explicit VR little endian


@pytest.fixture
def peer() -> Iterator[PeerSettings]:
    ae = AE(ae_title="PEER")
    ae.add_supported_context(Verification)
    ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda event: 0x0000)]
    )
    assert server is not None
    yield PeerSettings(name="peer", ae_title="PEER", host="127.0.0.1", port=server.server_address[1])
    server.shutdown()


class LateReactor(ReactorGate):
    """Lets the sender go on exactly where pynetdicom's own event lets an answer be taken.

    The reactor has said that it is paused and was let through, but has not gone on yet.
    """

    def __init__(self, association: Association) -> None:
        super().__init__(association)
        self.was_let_through = threading.Event()
        self.may_go_on = threading.Event()
        self.holds_next = False

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        if self.holds_next:
            self.holds_next = False
            self.was_let_through.set()
            self.may_go_on.wait()
        return passed


def test_a_sender_waits_for_a_reactor_that_was_let_through(peer: PeerSettings) -> None:
    with associated(peer, verification_kinds(), calling_ae="TEST", answer_seconds=20) as association:
        gate = LateReactor(association)
        gate.holds_next = True
        association._reactor_checkpoint = gate
        gate.was_let_through.wait()
        assert association._is_paused, "what pynetdicom's senders look at is wrong here, as it always is"

        closed = threading.Event()

        def close() -> None:
            gate.clear()
            closed.set()

        sender = threading.Thread(target=close)
        sender.start()
        assert not closed.wait(0.3), "the sender went on while the reactor could still take its answer"
        gate.may_go_on.set()
        assert closed.wait(20)
        sender.join()
        gate.set()
        assert association.send_c_echo().Status == 0x0000


def test_no_answer_is_taken_from_a_sender_beside_a_busy_interpreter(peer: PeerSettings) -> None:
    answers: set[str] = set()
    stop = threading.Event()

    def be_busy() -> None:
        while not stop.is_set():
            sum(range(2000))

    busy = [threading.Thread(target=be_busy) for _ in range(4)]
    for thread in busy:
        thread.start()
    try:
        kind = (str(MRImageStorage), str(ExplicitVRLittleEndian))
        with associated(peer, [kind], calling_ae="TEST", answer_seconds=20) as association:
            for number in range(1, 40):
                item = Outgoing(kind[0], f"1.2.3.{number}", kind[1], ANY_DATASET)
                answers.add(store(association, item).status)
    finally:
        stop.set()
        for thread in busy:
            thread.join()
    assert answers == {"delivered"}


def test_the_reactor_that_ended_holds_nobody(peer: PeerSettings) -> None:
    with associated(peer, verification_kinds(), calling_ae="TEST", answer_seconds=20) as association:
        gate = association._reactor_checkpoint
        association.abort()
        association.join(20)
        gate.clear()
    assert isinstance(gate, ReactorGate)
    assert not gate.is_set()
