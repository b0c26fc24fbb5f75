"""pynetdicom's private parts that `listener.adopted` and `listener.negotiate` rely on are as we think."""

import inspect

from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import build_context, negotiate_as_acceptor
from pynetdicom.transport import AssociationSocket


def test_socket_reads_each_pdu_by_its_header_first() -> None:
    source = inspect.getsource(DULServiceProvider._read_pdu_data)
    assert "self.socket.recv(6)" in source
    assert "(OSError, TimeoutError)" in source, "an OSError of recv must end the association, not the thread"


def test_socket_has_the_parts_that_are_overridden_or_used() -> None:
    assert list(inspect.signature(AssociationSocket.recv).parameters) == ["self", "nr_bytes"]
    assert isinstance(AssociationSocket.ready, property)
    source = inspect.getsource(AssociationSocket)
    for part in ("self._is_connected", "event_queue", '"Evt17"', "client_socket"):
        assert part in source, part


def test_whole_message_waits_in_a_queue_that_can_be_asked() -> None:
    assert "self.msg_queue.put((context_id" in inspect.getsource(DIMSEServiceProvider.receive_primitive)
    assert "self.dimse.get_msg(block=False)" in inspect.getsource(Association._run_reactor)
    assert "self.socket.ready" in inspect.getsource(DULServiceProvider._is_transport_event)


def test_association_runs_its_reactor_in_a_method_that_can_be_wrapped() -> None:
    assert "make_target(self.run_reactor)" in inspect.getsource(Association.__init__)
    assert list(inspect.signature(Association.set_socket).parameters) == ["self", "socket"]
    assert MODE_ACCEPTOR == "acceptor"


def test_association_without_a_server_is_allowed() -> None:
    assert "if self._server and sock.socket:" in inspect.getsource(Association.run_reactor)


def test_acceptor_takes_the_first_of_our_syntaxes_that_the_peer_proposes() -> None:
    proposed = build_context("1.2.840.10008.1.1", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
    proposed.context_id = 1
    ours = build_context("1.2.840.10008.1.1", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    (result,), _ = negotiate_as_acceptor([proposed], [ours])
    assert (result.result, result.transfer_syntax) == (0, ["1.2.840.10008.1.2.1"])


def test_requestor_reads_through_an_attribute_that_can_be_replaced_when_it_is_connected() -> None:
    source = inspect.getsource(AssociationSocket.connect)
    assert source.index("self._is_connected = True") < source.index("evt.EVT_CONN_OPEN")
    assert not hasattr(AssociationSocket, "__slots__")


def test_aborting_frees_an_association_whose_answers_were_not_all_read() -> None:
    assert "self._reactor_checkpoint.set()" in inspect.getsource(Association._abort_blocking)


def test_reactor_asks_its_event_on_each_turn_while_it_says_that_it_is_paused() -> None:
    source = inspect.getsource(Association._run_reactor)
    turn = "self._is_paused = True\n            self._reactor_checkpoint.wait()"
    assert turn in source
    assert source.index(turn) < source.index("self.dimse.get_msg(block=False)")
    assert "self._reactor_checkpoint: threading.Event" in inspect.getsource(Association.__init__)


def test_reactor_gives_answers_to_our_reports_to_the_method_that_is_overridden() -> None:
    assert "self._serve_request(msg, cast(int, context_id))" in inspect.getsource(Association._run_reactor)
    assert list(inspect.signature(Association._serve_request).parameters) == ["self", "msg", "context_id"]


def test_report_may_be_sent_whatever_role_was_negotiated() -> None:
    source = inspect.getsource(Association.send_n_event_report)
    assert 'self._get_valid_context(meta_uid or class_uid, "", None)' in source
    assert source.count("self._reactor_checkpoint.set()") == 1
