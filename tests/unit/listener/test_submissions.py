"""What came another way than the loop's own is answered after the commit, not by too short a wait."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from db.spool import SpoolWriter
from listener.admission import OUT_OF_RESOURCES, Admission
from listener.intake import Intake, Sender
from listener.notices import ReadNotice
from listener.submissions import Submissions, SubmittedMessage

SENDER = Sender("PACS", "PREREAD", "10.0.0.1")
NOTICE = ReadNotice("mpps", "completed", "1.2.3.4", "1.2.3", {})


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    peers = [{"name": "pacs", "ae_title": SENDER.calling_ae, "host": SENDER.address}]
    admission = Admission(Settings.model_validate({"peers": peers}), {})
    with SpoolWriter(tmp_path, store="instances", segment_bytes=1 << 16) as spool:
        yield Intake(spool, admission=admission, instance_bytes_max=1 << 20, buffered_bytes_max=1 << 20)


def test_who_waited_in_vain_for_the_commit_is_not_told_that_it_is_durable(intake: Intake) -> None:
    submissions, submission = Submissions(lambda: None), SubmittedMessage(SENDER, NOTICE)
    assert submissions.submit(submission)
    submissions.step(intake)
    refusal = submission.wait(0)
    assert refusal is not None
    assert refusal.status == OUT_OF_RESOURCES
    submissions.seal()
    intake.spool.commit()
    submissions.committed()
    assert submission.wait(0) is None


def test_what_comes_after_a_commit_was_begun_waits_for_the_next(intake: Intake) -> None:
    submissions = Submissions(lambda: None)
    before, after = SubmittedMessage(SENDER, NOTICE), SubmittedMessage(SENDER, NOTICE)
    for submission in (before, after):
        assert submissions.submit(submission)
        submissions.step(intake)
        if submission is before:
            submissions.seal()
    submissions.committed()
    assert before.wait(0) is None
    assert after.wait(0) is not None
    submissions.seal()
    submissions.committed()
    assert after.wait(0) is None
