"""What each page says, with studies and without, and that a peer's text stays text."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from db.records import WorkerRecord
from db.refusals import refuse_association
from db.starting_early import queue_early_plan
from db.workers import beat
from models.ood.gauge import Likeness

RESEARCH = "Research use. Not verified by a physician."
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "No study yet"),
        ("/queue", "Nothing runs."),
        ("/queue", "No worker runs"),
        ("/node", "Refused associations"),
        ("/login", ""),
    ],
)
def test_an_empty_node_says_what_to_do_next(page, path, says) -> None:
    assert says in page.get(path).text


def test_an_empty_worklist_names_title_and_port_to_send_to(page) -> None:
    text = page.get("/").text
    assert "PREREAD" in text
    assert "peers" in text


@pytest.mark.parametrize("path", ["/", "/queue", "/models", "/node", "/studies/1", "/nowhere"])
def test_the_research_sentence_stands_on_every_page(brain_node, brain_page, path) -> None:
    assert RESEARCH in brain_page.get(path).text


def test_the_worklist_shows_finding_delivery_and_time(brain_node, brain_page) -> None:
    text = brain_page.get("/").text
    assert "DOE, JANE" in text
    assert "A1023" in text
    assert "2 lesions · 4.07 mL · long axis 16 mm" in text
    assert re.search(r'PACS1 <span class="num">3/3</span>', text)
    assert re.search(r'class="c-span num">\d+ s<', text)


def test_the_worklist_puts_the_urgent_first(node, page) -> None:
    urgent = node.breast()
    node.clock.step(60)
    later = node.brain()
    text = page.get("/").text
    assert text.index(f"study-{node.id_of(urgent)}") < text.index(f"study-{node.id_of(later)}")
    assert "urgent finding" in text


def test_an_input_unlike_the_training_cases_is_flagged_on_worklist_and_study_page(node, page, seeded) -> None:
    volume, labels = seeded.small_brain()
    study_uid = node.receive(seeded.mr_series(volume))
    node.whole(study_uid)
    node.planned(study_uid, model=seeded.BRAIN_MODEL)
    likeness = Likeness("near", 1.84, 1.41, ("number of slices 6, among training cases 18 to 45",), False)
    node.analysed(study_uid, labels, likeness=likeness)
    node.delivered()
    assert "long axis 16 mm · unusual input" in page.get("/").text
    text = page.get(f"/studies/{node.id_of(study_uid)}").text
    assert "<b>Unusual input:</b>" in text
    assert "1.8 times as far from them as a typical one, limit 1.4" in text
    assert "number of slices 6, among training cases 18 to 45" in text


def test_a_usual_input_is_not_flagged(brain_node, brain_page) -> None:
    assert "nusual input" not in brain_page.get("/").text + brain_page.get("/studies/1").text


@pytest.mark.parametrize("lesions", [True, False])
def test_what_was_found_early_is_shown_while_the_study_still_receives(node, page, seeded, lesions) -> None:
    volume, labels = seeded.small_brain()
    study_uid = node.receive(seeded.mr_series(volume))
    view = node.view(study_uid)
    (series,) = view.series
    assert queue_early_plan(
        node.db,
        view.study.id,
        1,
        series.series_uid,
        whole={series.series_uid: series.instances},
        because="all 6 named are here",
        source="mpps",
    )
    node.planned(study_uid, model=seeded.BRAIN_MODEL)
    node.analysed(study_uid, labels if lesions else labels * 0)
    text = page.get("/").text
    assert "receiving, 6 images so far" in text
    assert ("2 lesions · 4.07 mL" in text) == lesions


def test_a_later_revision_shows_no_findings_of_the_one_before(brain_node, brain_page, seeded) -> None:
    late = seeded.mr_series(np.full((1, 32, 32), 100.0), study_uid=brain_node.uid_of(1))
    brain_node.receive(late)
    text = brain_page.get("/").text
    assert "receiving, 7 images so far" in text
    assert "2 lesions" not in text


def test_each_state_has_a_shape_and_a_word_besides_its_colour(brain_node, brain_page, seeded) -> None:
    refused = brain_node.receive(
        seeded.mr_series(np.full((4, 32, 32), 100.0), Modality="CT", SOPClassUID=seeded.CT)
    )
    brain_node.whole(refused)
    brain_node.planned(refused, model=None, sentence="No installed model wants any of the 1 series")
    failed = brain_node.receive(seeded.mr_series(np.full((6, 32, 32), 100.0)))
    brain_node.whole(failed)
    brain_node.planned(failed, model=seeded.BRAIN_MODEL)
    brain_node.broken(error="the pixels would take too much", remedy="Raise worker.memory_gib.")
    brain_node.receive(seeded.mr_series(np.full((3, 32, 32), 100.0)))
    text = brain_page.get("/").text
    pattern = r'icon icon-(\w+)"(?:(?!</svg>).)*</svg><span class="unseen">([^<]+)<'
    signs = dict(re.findall(pattern, text, re.DOTALL))
    assert signs["finding"] == "finding"
    assert signs["skipped"] == "not analysed"
    assert signs["failed"] == "failed"
    assert signs["running"] == "receiving"
    assert "not analysed: No installed model wants any of the 1 series" in text
    assert "receiving, 3 images so far" in text


@pytest.mark.parametrize(
    ("chip", "shown"), [("findings", 1), ("none", 0), ("failed", 0), ("all", 1), ("nonsense", 1)]
)
def test_a_chip_filters_the_list(brain_node, brain_page, chip, shown) -> None:
    text = brain_page.get(f"/?chip={chip}").text
    assert text.count("data-row") == shown


def test_a_period_leaves_older_studies_out_and_offers_them(node, page) -> None:
    node.clock.step(-3 * 86400)
    node.brain()
    node.clock.step(3 * 86400)
    assert page.get("/").text.count("data-row") == 0
    assert "Show all 1 study" in page.get("/").text
    assert page.get("/?period=week").text.count("data-row") == 1
    assert page.get("/?period=ever").text.count("data-row") == 1


@pytest.mark.parametrize("words", ["A1023", "a1023", "P-4711", "doe", "  Doe "])
def test_a_search_finds_by_accession_id_and_name(brain_node, brain_page, token, words) -> None:
    form = {"token": token(brain_page), "search": words}
    assert brain_page.post("/search", data=form).text.count("data-row") == 1
    assert brain_page.post("/live/worklist", data={**form, "chip": "failed"}).text.count("data-row") == 1


def test_a_search_that_finds_nothing_says_so(brain_node, brain_page, token) -> None:
    assert (
        "Nothing found" in brain_page.post("/search", data={"token": token(brain_page), "search": "zzz"}).text
    )


def test_no_address_of_a_page_holds_an_identity(brain_node, brain_page, token) -> None:
    for path in ("/", "/studies/1", "/queue", "/node"):
        text = brain_page.get(path).text
        for address in re.findall(r'(?:href|src|action|hx-get|hx-post)="([^"]*)"', text):
            assert not re.search(r"doe|jane|4711|a1023|19500203", address, re.IGNORECASE), address
    assert 'method="post" action="/search"' in brain_page.get("/").text
    assert (
        "data-row" not in brain_page.get("/?search=zzz&period=ever").text
        or "A1023" in brain_page.get("/?search=zzz").text
    )


def test_hidden_identities_are_nowhere_in_the_text(brain_node, brain_page, token) -> None:
    assert (
        brain_page.post("/view", data={"token": token(brain_page), "hide": "1", "next": "/"}).status_code
        == 303
    )
    for path in ("/", "/studies/1", "/queue"):
        text = brain_page.get(path).text
        for secret in ("DOE", "JANE", "Jane", "P-4711", "A1023", "1950"):
            assert secret not in text, (path, secret)
    assert brain_page.get("/studies/1/results/3/picture.png").status_code == 403
    brain_page.post("/view", data={"token": token(brain_page), "hide": "0"})
    assert "DOE, JANE" in brain_page.get("/").text


def test_light_is_a_choice_that_stays(page, token) -> None:
    assert 'class="dark"' in page.get("/").text
    page.post("/view", data={"token": token(page), "light": "1"})
    assert 'class="light"' in page.get("/queue").text


def test_a_living_part_answers_204_until_something_changed(brain_node, brain_page, token) -> None:
    text = brain_page.get("/").text
    seen = re.search(r'"seen": "([0-9a-f]+)"', text)[1]
    form = {"token": token(brain_page), "chip": "all", "period": "day", "offset": "0", "seen": seen}
    assert brain_page.post("/live/worklist", data=form).status_code == 204
    brain_node.breast()
    answer = brain_page.post("/live/worklist", data=form)
    assert answer.status_code == 200
    assert answer.text.count("data-row") == 2


@pytest.mark.parametrize("part", ["/live/queue", "/live/node", "/live/studies/1"])
def test_the_other_living_parts_answer(brain_node, brain_page, token, part) -> None:
    state = re.search(r'"state": "([^"]+)"', brain_page.get("/studies/1").text)[1]
    answer = brain_page.post(part, data={"token": token(brain_page), "state": state})
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith(("<div", "<section"))


def test_an_open_study_page_is_loaded_again_when_its_state_changed(brain_node, brain_page, token) -> None:
    answer = brain_page.post("/live/studies/1", data={"token": token(brain_page), "state": "1-receiving"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (204, "true")


def test_the_study_page_shows_findings_series_objects_and_timeline(node, page, seeded) -> None:
    volume, labels = seeded.small_brain()
    flair = seeded.mr_series(volume)
    study_uid = str(flair[0].StudyInstanceUID)
    node.receive(flair)
    node.receive(seeded.mr_series(volume, study_uid=study_uid, SeriesDescription="AX T1", SeriesNumber=3))
    node.whole(study_uid)
    node.planned(study_uid, model=seeded.BRAIN_MODEL)
    node.analysed(study_uid, labels)
    node.delivered()
    text = page.get("/studies/1").text
    for words in ("3.60 mL", "16 × 16 mm", "0.94", "0.47 mL"):
        assert words in text
    assert re.search(r"<b>taken</b> by brain-test: MR FLAIR", text)
    assert re.search(r"<b>not taken</b> by brain-test: the sequence is T1", text)
    for kind in ("seg.dcm", "sr.dcm", "sc.dcm", "picture.png"):
        assert kind in text
    assert "whole: no new image for 2 s, 12 images" in text
    assert "SEG delivered to PACS1" in text
    assert "second look at axial T2 FLAIR" in text
    assert text.count("data-lesion") == 2


def test_the_class_scores_of_a_breast_study_are_listed_highest_first(node, page) -> None:
    node.breast()
    text = page.get("/studies/1").text
    assert re.findall(r"<dt>(\w+)</dt><dd><meter", text) == ["malignant", "benign", "normal"]


def test_a_failed_analysis_shows_error_remedy_and_retry(node, page, seeded) -> None:
    failed = node.receive(seeded.mr_series(np.full((6, 32, 32), 100.0)))
    node.whole(failed)
    node.planned(failed, model=seeded.BRAIN_MODEL)
    node.broken(error="the pixels would take too much", remedy="Raise worker.memory_gib.")
    for path in ("/studies/1", "/queue"):
        text = page.get(path).text
        assert "the pixels would take too much" in text
        assert "Raise worker.memory_gib." in text
        assert "Try again" in text


def test_a_conflict_is_shown_with_who_sent_it(node, page, seeded) -> None:
    images = seeded.mr_series(np.full((3, 32, 32), 100.0))
    node.receive(images)
    images[0].PixelData = b"\1" * len(images[0].PixelData)
    node.receive(images[:1], source="OTHER")
    assert "1 conflict" in page.get("/").text
    text = page.get("/studies/1").text
    assert "other bytes" in text
    assert "OTHER" in text


def test_older_results_stay_and_are_named_after_a_new_revision(brain_node, brain_page, seeded) -> None:
    study_uid = brain_node.uid_of(1)
    brain_node.again(study_uid)
    brain_node.planned(study_uid, model=seeded.BRAIN_MODEL)
    brain_node.analysed(study_uid, seeded.small_brain()[1])
    text = brain_page.get("/studies/1").text
    assert "revision 2" in text
    assert "of revision 1" in text


@pytest.mark.parametrize(
    "path",
    [
        "/studies/99",
        "/studies/99/viewer/1",
        "/studies/1/slices/1/99.png",
        "/studies/1/slices/77/0.png",
        "/studies/1/results/99/seg.dcm",
        "/studies/1/results/1/picture.png",
        "/nowhere",
        "/studies/99999999999999999999",
    ],
)
def test_what_is_not_here_is_said_to_be_not_here(brain_node, brain_page, path) -> None:
    assert brain_page.get(path).status_code == 404


def test_a_slice_is_a_grey_picture_at_the_window_asked_for(brain_node, brain_page) -> None:

    def picture(query: str) -> np.ndarray:
        answer = brain_page.get(f"/studies/1/slices/1/3.png{query}")
        assert answer.headers["content-type"] == "image/png"
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    first = picture("")
    assert first.shape == (64, 64)
    assert picture("?center=240&width=2")[24, 26] > 100
    assert picture("?center=500&width=2").max() == 0
    assert np.array_equal(picture("?center=nan&width=nonsense"), first)


def test_the_viewer_marks_the_slices_that_hold_lesions(brain_node, brain_page, seeded) -> None:
    text = brain_page.get("/studies/1/viewer/1").text
    truth = [int(i) for i in np.flatnonzero(seeded.small_brain()[1].any(axis=(1, 2)))]
    assert f'data-marks="{truth}"' in text
    assert text.count("<rect") == len(truth)
    assert '<span class="edge edge-left">R</span>' in text
    assert '<span class="edge edge-top">A</span>' in text
    assert RESEARCH in text


def test_the_objects_can_be_downloaded_as_they_were_stored(brain_node, brain_page) -> None:
    study_uid = brain_node.uid_of(1)
    for result in brain_node.view(study_uid).results:
        answer = brain_page.get(f"/studies/1/results/{result.id}/{result.kind.lower()}.dcm")
        assert answer.headers["content-disposition"] == (
            f'attachment; filename="study-1-{result.kind.lower()}-{result.id}.dcm"'
        )
        assert answer.content == brain_node.store.read(result.location)
        assert str(dcmread(io.BytesIO(answer.content)).SOPInstanceUID) == result.sop_uid


def test_the_summary_picture_is_the_one_that_was_sent(brain_node, brain_page) -> None:
    study_uid = brain_node.uid_of(1)
    (capture,) = [result for result in brain_node.view(study_uid).results if result.kind == "SC"]
    answer = brain_page.get(f"/studies/1/results/{capture.id}/picture.png")
    stored = dcmread(io.BytesIO(brain_node.store.read(capture.location))).pixel_array
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), stored)


@pytest.mark.parametrize("path", ["/", "/studies/1", "/studies/1/viewer/1", "/queue", "/node"])
def test_text_of_a_peer_stays_text(node, page, path) -> None:
    node.brain(
        PatientName=HOSTILE,
        PatientID=HOSTILE,
        AccessionNumber=HOSTILE,
        StudyDescription=HOSTILE,
        SeriesDescription=HOSTILE,
        PatientSex="<b>",
        PatientBirthDate="<i>",
        deliver=False,
    )
    node.delivered(status="park", detail=HOSTILE)
    refuse_association(
        node.db, calling_ae="<u>AE</u>", called_ae="<u>", address="<u>", reason=HOSTILE, remedy=HOSTILE
    )
    text = page.get(path).text
    for markup in ("<script>alert", "<img src=x", "<b>\n", "<i>", "<u>"):
        assert markup not in text
    assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(\S{2})", text)


def test_a_series_that_cannot_be_shown_says_why(node, page, seeded) -> None:
    image = seeded.mr_series(np.full((1, 32, 32), 100.0))[0]
    image.PixelData = image.PixelData[:100]
    node.receive([image])
    answer = page.get("/studies/1/slices/1/0.png")
    assert answer.status_code == 422
    assert "could not be decoded" in answer.text


def test_bytes_that_are_gone_are_told_where_the_slices_would_stand(brain_node, brain_page) -> None:
    brain_node.spool.close()
    for segment in (brain_node.settings.spool_folder / "instances").glob("*.seg"):
        segment.unlink()
    answer = brain_page.get("/studies/1/viewer/1")
    assert answer.status_code == 200
    assert "This series cannot be shown" in answer.text
    assert "2 lesions" in brain_page.get("/studies/1").text
    assert brain_page.get("/studies/1/slices/1/0.png").status_code == 500


def test_the_queue_shows_stage_worker_and_parked_deliveries(node, page, seeded, token) -> None:
    node.brain(deliver=False)
    node.delivered(status="park", detail="called AE title not recognised")
    running = node.receive(seeded.mr_series(np.full((6, 32, 32), 100.0)))
    node.whole(running)
    node.planned(running, model=seeded.BRAIN_MODEL)
    beat(
        node.db,
        WorkerRecord(
            "worker-1", 7, "ward", "cpu", "predicting", None, 1_500_000_000, ("brain-flair-lesion",)
        ),
    )
    text = page.get("/queue").text
    assert text.count("called AE title not recognised") == 3
    assert "Retry all 3" in text
    assert "for a free worker" in text
    assert "1.5 GB" in text
    page.post("/deliveries/retry-parked", data={"token": token(page)})
    assert "called AE title" not in page.get("/queue").text.split("On their way")[0]


def test_one_delivery_can_be_retried_or_dropped(node, page, token) -> None:
    study_uid = node.brain(deliver=False)
    node.delivered(status="park", detail="away")
    form = {"token": token(page), "next": "/queue"}
    assert page.post("/deliveries/1/retry", data=form).headers["location"] == "/queue"
    page.post("/deliveries/2/drop", data=form)
    assert [d.state for d in node.view(study_uid).deliveries] == ["queued", "dropped", "parked"]


def test_a_study_is_analysed_and_sent_again_on_request(brain_node, brain_page, token) -> None:
    study_uid = brain_node.uid_of(1)
    form = {"token": token(brain_page), "next": "/studies/1?series=1"}
    answer = brain_page.post("/studies/1/send", data=form)
    assert answer.headers["location"] == "/studies/1?series=1"
    assert {d.state for d in brain_node.view(study_uid).deliveries} == {"queued"}
    brain_page.post("/studies/1/analyse", data=form)
    view = brain_node.view(study_uid)
    assert view.study.revision == 2
    assert any("person" in event.text for event in view.events)


def test_a_study_that_still_receives_cannot_be_asked_again(node, page, token, seeded) -> None:
    node.receive(seeded.mr_series(np.full((3, 32, 32), 100.0)))
    answer = page.post("/studies/1/analyse", data={"token": token(page)})
    assert answer.status_code == 409
    assert "still receives" in answer.text


def test_a_job_can_be_cancelled_and_tried_again(node, page, token, seeded) -> None:
    study_uid = node.receive(seeded.mr_series(np.full((3, 32, 32), 100.0)))
    node.whole(study_uid)
    form = {"token": token(page)}
    page.post("/jobs/1/cancel", data=form)
    assert node.view(study_uid).jobs[0].state == "cancelled"
    page.post("/jobs/1/retry", data=form)
    assert node.view(study_uid).jobs[0].state == "queued"


def test_asking_for_a_job_that_is_not_here_is_told_in_words(page, token) -> None:
    answer = page.post("/jobs/99/retry", data={"token": token(page)})
    assert answer.status_code == 409
    assert "There is no job 99" in answer.text


def test_the_models_page_shows_purpose_figures_data_and_digest(node, page) -> None:
    text = page.get("/models").text
    for package in node.packages.values():
        manifest = package.manifest
        assert package.digest in text
        assert manifest.title in text
        assert "Runs on this node" in text
        for row in manifest.evaluation:
            assert f"{row.value:.3f}" in text
            assert f"{row.ci95[0]:.3f} to {row.ci95[1]:.3f}" in text


def test_a_package_that_was_changed_is_shown_as_one_that_does_not_run(node, page) -> None:
    (node.folder / "packages" / "brain-test" / "weights.bin").write_bytes(b"changed")
    text = page.get("/models").text
    assert "Does not run" in text
    assert "does not have the checksum" in text


def test_a_package_of_ones_own_names_the_setting_that_lets_it_run(make_node, browse) -> None:
    node = make_node()
    settings = node.settings.model_copy(
        update={"packages": node.settings.packages.model_copy(update={"accepted": {}})}
    )
    node.settings = settings
    assert "packages.accepted" in browse(node).get("/models").text


def test_the_node_page_shows_checks_peers_and_refusals_with_remedies(node, page) -> None:
    refuse_association(
        node.db,
        calling_ae="OLDCT",
        called_ae="PREREAD",
        address="10.4.2.17",
        reason="the calling AE title is not configured",
        remedy="Add a peer with ae_title OLDCT to `peers`.",
    )
    text = page.get("/node").text
    assert "Add a peer with ae_title OLDCT to <code>peers</code>." in text
    for words in ("listener", "database", "disk", "PACS1", "SQLite", "pynetdicom"):
        assert words in text
    assert "<code>preread serve</code>" in text


def test_plain_dicom_is_marked_on_every_page_where_other_machines_may_use_it(make_node, browse, page) -> None:
    mark = "Plain DICOM, not encrypted"
    plain = make_node(listener={"host": "0.0.0.0", "plain": True, "port": 0, "reserve_gib": 0})
    for path in ("/", "/queue", "/node"):
        assert mark in browse(plain).get(path).text
        assert mark not in page.get(path).text


def test_the_node_page_says_who_sends_by_tls(make_node, browse) -> None:
    files = {"certificate": "a.pem", "private_key": "a.key", "trusted": "b.pem", "port": 2762}
    peers = [
        {"name": "bound", "ae_title": "A", "addresses": ["10.0.0.1"], "certificates": ["a.example"]},
        {"name": "free", "ae_title": "B", "addresses": ["10.0.0.2"]},
    ]
    text = browse(make_node(tls=files, peers=peers)).get("/node").text
    assert "always, by its certificate" in text
    assert ">possible<" in text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a socket of pynetdicom's
def test_every_peer_is_called_on_request(node, page, token) -> None:
    form = {"token": token(page)}
    whole = page.post("/node/echo", data=form)
    part = page.post("/node/echo", data=form, headers={"hx-request": "true"})
    for answer in (whole, part):
        assert "peer PACS1" in answer.text
        assert "does not work" in answer.text  # nothing listens on port 9
    assert part.text.lstrip().startswith("<ul")


def test_metrics_count_studies_jobs_deliveries_and_disk(brain_node, brain_page) -> None:
    brain_node.breast()
    text = brain_page.get("/metrics").text
    assert 'preread_studies{outcome="delivered"} 2.0' in text
    assert "preread_studies_with_findings 2.0" in text
    assert 'preread_deliveries{state="parked"} 0.0' in text
    assert "preread_disk_free_bytes" in text
    assert "preread_oldest_job_seconds 0.0" in text
