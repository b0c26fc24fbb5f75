"""An instance reaches the spool whole, streamed or gathered, or leaves nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_peer import CT, EXPLICIT, ct_dataset, new_uid
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Settings
from db.spool import SpoolWriter, replay
from db.spool_files import SpoolFiles
from db.spool_records import RUN, segments_of
from listener.admission import (
    CANNOT_UNDERSTAND,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES,
    Admission,
)
from listener.intake import Announced, Incoming, Intake, Sender
from listener.pdu import PeerError

SENDER = Sender('PACS "1"', "PREREAD", "10.0.0.1")
SEGMENT_BYTES = 1 << 16


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SpoolWriter]:
    with SpoolWriter(tmp_path, store="instances", segment_bytes=SEGMENT_BYTES) as writer:
        yield writer


def intake_of(spool: SpoolWriter, *, instance_bytes: int = 1 << 20, buffered_bytes: int = 1 << 20) -> Intake:
    peers = [{"name": "pacs", "ae_title": SENDER.calling_ae, "host": "10.0.0.1"}]
    return Intake(
        spool,
        admission=Admission(Settings.model_validate({"peers": peers}), {}),
        instance_bytes_max=instance_bytes,
        buffered_bytes_max=buffered_bytes,
        clock=lambda: 1234.5678,
    )


def begin(intake: Intake, uid: str, *, sender: Sender = SENDER) -> Incoming:
    return intake.begin(sender, Announced(CT.encode(), uid.encode(), CT, EXPLICIT))


def feed(incoming: Incoming, dataset: bytes, *, step: int) -> None:
    for at in range(0, len(dataset), step):
        incoming.add(memoryview(dataset)[at : at + step])
        incoming.spill()


def kept(tmp_path: Path) -> list[tuple[bytes, bytes]]:
    return [(item.meta, bytes(item.dataset)) for item in replay(tmp_path, "instances")]


def runs(tmp_path: Path) -> list[int]:
    headers = segments_of(SpoolFiles(), tmp_path / "instances").values()
    return [header.number for header in headers if header and header.kind == RUN]


@pytest.mark.parametrize("pixels", [0, 5_000, 100_000])
def test_instance_is_kept_with_who_sent_it(tmp_path: Path, spool: SpoolWriter, pixels: int) -> None:
    intake, uid = intake_of(spool), new_uid()
    dataset = ct_dataset(uid, pixels=os.urandom(pixels))
    incoming = begin(intake, uid)
    feed(incoming, dataset, step=7_000)
    assert incoming.finish() is None
    spool.commit()
    meta = (
        '{"calling":"PACS \\"1\\"","called":"PREREAD","address":"10.0.0.1",'
        f'"transfer_syntax":"{EXPLICIT}","sop_class":"{CT}","sop_instance":"{uid}","received_at":1234.568}}'
    )
    assert kept(tmp_path) == [(meta.encode(), dataset)]
    assert intake.buffered_bytes == 0


def test_instances_stream_early_when_all_together_hold_too_much(tmp_path: Path, spool: SpoolWriter) -> None:
    intake = intake_of(spool, buffered_bytes=10_000)
    uids = [new_uid() for _ in range(5)]
    datasets = {uid: ct_dataset(uid, pixels=os.urandom(4_000)) for uid in uids}
    under_way = {uid: begin(intake, uid) for uid in uids}
    for uid, incoming in under_way.items():
        feed(incoming, datasets[uid], step=1_000)
        assert intake.buffered_bytes <= 11_000
    assert [incoming.finish() for incoming in under_way.values()] == [None] * 5
    spool.commit()
    assert [dataset for _, dataset in kept(tmp_path)] == list(datasets.values())
    assert runs(tmp_path)


@pytest.mark.parametrize("pixels", [5_000, 100_000])
def test_abandoned_and_lying_instances_leave_nothing(tmp_path: Path, spool: SpoolWriter, pixels: int) -> None:
    intake, uid = intake_of(spool), new_uid()
    dataset = ct_dataset(uid, pixels=bytes(pixels))
    left = begin(intake, uid)
    feed(left, dataset[:-10], step=7_000)
    left.abandon()
    lying = begin(intake, uid)
    feed(lying, dataset[:-10], step=7_000)
    refusal = lying.finish()
    assert refusal is not None
    assert refusal.status == CANNOT_UNDERSTAND
    spool.commit()
    assert (kept(tmp_path), runs(tmp_path), intake.buffered_bytes) == ([], [], 0)


def test_too_large_instance_is_refused_and_an_endless_one_is_a_peer_error(
    tmp_path: Path, spool: SpoolWriter
) -> None:
    intake, uid = intake_of(spool, instance_bytes=50_000), new_uid()
    incoming = begin(intake, uid)
    feed(incoming, ct_dataset(uid, pixels=bytes(60_000)), step=5_000)
    refusal = incoming.finish()
    assert refusal is not None
    assert refusal.status == OUT_OF_RESOURCES
    endless = begin(intake, uid)
    with pytest.raises(PeerError):
        feed(endless, ct_dataset(uid, pixels=bytes(200_000)), step=5_000)
    endless.abandon()
    assert (kept(tmp_path), runs(tmp_path)) == ([], [])


def test_caller_that_is_not_allowed_any_more_is_refused_before_its_dataset(spool: SpoolWriter) -> None:
    incoming = begin(intake_of(spool), new_uid(), sender=Sender("OTHER", "PREREAD", "10.0.0.1"))
    assert incoming.refusal is not None
    assert incoming.refusal.status == NOT_AUTHORIZED


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(500, 9_000), st.sampled_from("fal")), max_size=6),
    st.integers(5_000, 100_000),
)
def test_any_mix_of_fates_keeps_exactly_the_finished(
    tmp_path_factory: pytest.TempPathFactory, fates: list[tuple[int, int, str]], buffered_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    expected = []
    with SpoolWriter(folder, store="instances", segment_bytes=SEGMENT_BYTES) as spool:
        intake = intake_of(spool, buffered_bytes=buffered_bytes)
        under_way = []
        for pixels, step, fate in fates:
            uid = new_uid()
            dataset = ct_dataset(uid, pixels=os.urandom(pixels))
            incoming = begin(intake, uid)
            feed(incoming, dataset if fate != "l" else dataset[:-1], step=step)
            under_way.append((incoming, dataset, fate))
        for incoming, dataset, fate in under_way:
            if fate == "a":
                incoming.abandon()
            elif (incoming.finish() is None) == (fate == "f"):
                expected += [dataset] if fate == "f" else []
            else:
                pytest.fail("a lie was taken or a truth refused")
        spool.commit()
        assert intake.buffered_bytes == 0
        assert [dataset for _, dataset in kept(folder)] == expected
