"""Who may see and change anything: host, login, origin, form token; and the headers of every answer."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from preread.web.app import routes
from preread.web.guard import CONTENT_POLICY, is_loopback_name
from preread.web.passwords import password_hash

PASSWORD = "correct horse battery"
LOGINS = {"web": {"port": 0, "logins": [{"user": "ada", "password_hash": password_hash(PASSWORD)}]}}
PAGES = ("/", "/queue", "/models", "/node")


@pytest.fixture
def guarded(make_node):
    """A node whose page needs a login, reachable from other machines, with one study."""
    web = {**LOGINS["web"], "host": "0.0.0.0"}
    return make_node("brain", web=web)


def log_in(client, token, *, user="ada", password=PASSWORD, target="/"):
    form = {"token": token(client, "/login"), "user": user, "password": password, "next": target}
    return client.post("/login", data=form)


@pytest.mark.parametrize("host", ["127.0.0.1:8042", "localhost", "localhost:1", "[::1]:8042", "127.9.9.9"])
def test_without_a_login_the_page_answers_to_this_machine(node, browse, host) -> None:
    assert browse(node, host).get("/").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8042", "localhost.evil.example", "10.0.0.7:8042"]
)
def test_without_a_login_a_rebound_name_is_refused_on_every_path(node, browse, host) -> None:
    client = browse(node, host)
    for path in (*PAGES, "/metrics", "/static/preread.css", "/studies/1"):
        answer = client.get(path)
        assert answer.status_code == 421, path
        assert "localhost" in answer.text


@given(st.text())
def test_any_host_header_is_judged(text: str) -> None:
    assert is_loopback_name(text) in (True, False)


def test_with_logins_any_name_is_answered_since_the_cookie_is_bound_to_it(guarded, browse) -> None:
    assert browse(guarded, "reading-room.example").get("/login").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *PAGES,
        "/studies/1",
        "/studies/1/viewer/1",
        "/studies/1/slices/1/0.png",
        "/studies/1/overlay/1/0.png",
        "/studies/1/results/1/seg.dcm",
        "/studies/1/results/3/picture.png",
        "/nowhere",
    ],
)
def test_nothing_of_a_study_is_shown_without_a_login(guarded, browse, path) -> None:
    answer = browse(guarded).get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=/")
    assert "DOE" not in answer.text
    assert browse(guarded).get(path, headers={"accept": "image/png"}).status_code == 401


def test_every_route_but_the_open_ones_needs_a_login(guarded, browse) -> None:
    client = browse(guarded)
    for route in routes():
        if isinstance(route, Route) and route.path not in ("/login", "/healthz", "/metrics"):
            path = re.sub(r"{[^}]*}", "1", route.path)
            answer = client.request("POST" if "POST" in route.methods else "GET", path)
            assert answer.status_code in (303, 401), route.path


def test_a_living_part_sends_the_browser_to_the_login_when_the_session_ended(guarded, browse) -> None:
    answer = browse(guarded).post("/live/worklist", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")


def test_health_and_metrics_are_open_and_name_no_patient(guarded, browse) -> None:
    client = browse(guarded)
    assert client.get("/healthz").text == "ok\n"
    text = client.get("/metrics").text
    assert "preread_studies" in text
    for secret in ("DOE", "Jane", "P-4711", "A1023", "PACS1"):
        assert secret.lower() not in text.lower()


def test_logging_in_shows_the_page_that_was_asked_for(guarded, browse, token) -> None:
    client = browse(guarded)
    answer = log_in(client, token, target="/studies/1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies/1")
    assert "DOE, JANE" in client.get("/studies/1").text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil"]
)
def test_a_login_leads_nowhere_else(guarded, browse, token, target) -> None:
    assert log_in(browse(guarded), token, target=target).headers["location"] == "/"


def test_a_login_gives_the_session_a_new_id(guarded, browse, token) -> None:
    client = browse(guarded)
    client.get("/login")
    before = client.cookies["preread-session"]
    log_in(client, token)
    planted = browse(guarded)
    planted.cookies.set("preread-session", before, domain="127.0.0.1")
    assert planted.get("/").status_code == 303


def test_a_wrong_password_is_told_in_words_that_name_neither(guarded, browse, token) -> None:
    for user in ("ada", "nobody"):
        answer = log_in(browse(guarded), token, user=user, password="wrong")
        assert answer.status_code == 403
        assert "User and password do not fit." in answer.text


def test_guessing_is_braked(guarded, browse, token) -> None:
    client = browse(guarded)
    for _ in range(5):
        assert log_in(client, token, password="wrong").status_code == 403
    answer = log_in(client, token)  # even the right one
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_logging_out_ends_the_session_and_its_copies(guarded, browse, token) -> None:
    client = browse(guarded)
    log_in(client, token)
    stolen = client.cookies["preread-session"]
    answer = client.post("/logout", data={"token": token(client)})
    assert answer.headers["location"] == "/login"
    thief = browse(guarded)
    thief.cookies.set("preread-session", stolen, domain="127.0.0.1")
    assert thief.get("/").status_code == 303


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(guarded, browse, token) -> None:
    cookie = log_in(browse(guarded), token).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


def test_over_tls_the_session_cookie_is_for_tls_only(guarded, browse) -> None:
    client = browse(guarded)
    client.base_url = "https://127.0.0.1"
    assert "Secure" in client.get("/login").headers["set-cookie"]


def test_a_page_that_refreshes_itself_does_not_keep_the_session(node, page, token) -> None:
    form = {"token": token(page)}
    assert page.post("/live/worklist", data=form).headers.get("set-cookie") is None


def post_routes():
    return [route.path for route in routes() if isinstance(route, Route) and "POST" in route.methods]


@pytest.mark.parametrize("path", post_routes())
def test_nothing_is_changed_without_the_form_token(brain_node, brain_page, path) -> None:
    brain_page.get("/")
    before = brain_node.view(brain_node.uid_of(1))
    for form in ({}, {"token": "0" * 64}):
        assert brain_page.post(re.sub(r"{[^}]*}", "1", path), data=form).status_code == 403
    assert brain_node.view(brain_node.uid_of(1)) == before


def test_a_token_of_another_browser_is_refused(node, browse, token) -> None:
    mine, other = browse(node), browse(node)
    mine.get("/")
    assert mine.post("/view", data={"token": token(other), "hide": "1"}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused_even_with_a_token(page, token, headers) -> None:
    answer = page.post("/view", data={"token": token(page), "hide": "1"}, headers=headers)
    assert answer.status_code == 403


def test_a_form_of_our_own_origin_is_taken(page, token) -> None:
    headers = {"origin": "http://127.0.0.1:8042", "sec-fetch-site": "same-origin"}
    assert page.post("/view", data={"token": token(page), "hide": "1"}, headers=headers).status_code == 303


def test_a_large_form_is_refused(page, token) -> None:
    form = {"token": token(page), "search": "x" * 5_000_000}
    assert page.post("/search", data=form).status_code in (400, 413)


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nowhere", "/healthz", "/metrics", "/static/preread.css", "/studies/9"]
)
def test_every_answer_carries_the_headers(page, path) -> None:
    headers = page.get(path).headers
    assert headers["content-security-policy"] == CONTENT_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "no-store" in headers["cache-control"] or path.startswith("/static/")


def test_pages_hold_nothing_the_content_policy_would_block(brain_node, brain_page) -> None:
    assert "unsafe" not in CONTENT_POLICY
    for path in (*PAGES, "/studies/1", "/studies/1/viewer/1", "/login", "/nowhere"):
        text = brain_page.get(path).text
        assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|javascript:", text), path
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path
        assert not re.search(r'(src|href)="(https?:)?//', text), path


def test_a_broken_page_says_so_without_details_and_with_the_headers(node, browse) -> None:
    client = browse(node, raise_server_exceptions=False)
    node.db.migrate()
    with node.db.write() as conn:
        conn.exec_driver_sql("ALTER TABLE study RENAME TO study_gone")
    answer = client.get("/")
    assert answer.status_code in (500, 503)
    assert "study_gone" not in answer.text
    assert "SELECT" not in answer.text
    assert answer.headers["content-security-policy"] == CONTENT_POLICY
