"""Who may ask: loopback alone, the token, the page itself; how much; and what every answer carries."""

import http.client
import http.server
import re
import threading
from urllib.parse import urlsplit

import pytest
from tests.viewer.conftest import BYTES, httpx, said


@pytest.fixture(scope="module")
def stranger(viewer):
    with httpx.Client(base_url=viewer.address, timeout=60) as client:
        yield client


def test_nothing_is_told_without_the_token(viewer, stranger):
    paths = ["/", "/openapi.json", "/static/viewer/main.js", *(p for p in viewer.api.get("/openapi.json").json()["paths"] if "{" not in p)]
    for path in paths:
        answer = stranger.get(path)
        assert (answer.status_code, said(answer)["kind"]) == (401, "BadToken"), path
    assert stranger.get("/?token=guessed").status_code == 401
    assert stranger.get("/", headers={"authorization": "Bearer " + viewer.token[:-1]}).status_code == 401
    assert stranger.post("/api/runs?token=" + viewer.token, json={}).status_code in (401, 403)


def test_the_first_visit_turns_the_token_into_a_place_and_a_cookie_that_no_script_and_no_other_server_gets(viewer):
    with httpx.Client(base_url=viewer.address, timeout=60) as browser:
        first = browser.get(viewer.first)
        place, cookie = first.headers["location"], first.headers["set-cookie"]
        assert first.status_code == 303 and re.fullmatch(r"/[A-Za-z0-9_-]{20,}/", place)
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and f"Path={place}" in cookie
        assert viewer.token not in cookie + place
        assert browser.get(place).status_code == 200
        assert browser.get(f"{place}api/about").json()["folder"] == viewer.folder.name
        away = browser.get(f"{viewer.address}//evil.example/?token={viewer.token}")
        assert away.headers["location"] == place
    given = cookie.partition(";")[0]
    with httpx.Client(
        base_url=viewer.address, timeout=60
    ) as thief:  # whoever was sent the cookie knows no place, and the place alone opens nothing
        secret = given.partition("=")[2]
        for headers in ({"cookie": given}, {"authorization": f"Bearer {secret}"}, {"cookie": f"pellucid={viewer.token}"}):
            assert thief.get("/api/about", headers=headers).status_code == 401
        for beside in (
            "{}; pellucid=foreign",
            "pellucid=foreign; {}",
            "consent; {}",
            "{}; a b=1",
            'prefs={{"a":1,"b":[2]}}; {}',
            "pellucid; {}",
        ):
            assert thief.get(place, headers={"cookie": beside.format(given)}).status_code == 200, beside
        for wrong in ("pellucid=foreign", "pellucid=", "pellucid", "", f"x{given}", f"{given}x", f'x="{given}"'):
            assert thief.get(place, headers={"cookie": wrong}).status_code == 401, wrong
        assert thief.get("/", headers={"cookie": given}).status_code == 401
        assert thief.get(place).status_code == thief.get(f"{place}api/about").status_code == 401
        assert thief.get(f"{place}api/about", headers={"cookie": f"pellucid={viewer.token}"}).status_code == 401


def test_another_server_on_this_machine_is_given_nothing_by_the_browser(viewer, browser):
    got = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            got.append((self.path, self.headers.get("cookie"), self.headers.get("referer")))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(viewer.first)
    page.wait_for_selector("html[data-ready]")
    page.reload()  # the page itself goes on
    page.wait_for_selector("html[data-ready]")
    for path in ("/innocent", "/api/about", "/static/viewer/main.js"):
        page.goto(f"http://127.0.0.1:{other.server_port}{path}")
    context.close()
    other.shutdown()
    other.server_close()
    assert [g for g in got if g[0] != "/favicon.ico"] == [(p, None, None) for p in ("/innocent", "/api/about", "/static/viewer/main.js")]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7:80", "", "[::1", "0.0.0.0"])
def test_a_name_that_was_bound_to_this_machine_gets_nothing(viewer, host):
    """DNS rebinding: the page of another site asks this machine under its own name."""
    where = urlsplit(viewer.address)
    raw = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
    raw.putrequest("GET", "/api/about", skip_host=True)
    raw.putheader("Host", host)
    raw.putheader("Authorization", f"Bearer {viewer.token}")
    raw.endheaders()
    assert raw.getresponse().status in (400, 421)
    raw.close()


def test_writes_come_from_the_page_alone(viewer):
    with httpx.Client(base_url=viewer.address, timeout=60) as browser:
        place = browser.get(viewer.first).headers["location"]
        body = {"json": {"path": "fundus/image.png"}}
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}):
            assert browser.post(f"{place}api/scans", headers=headers, **body).status_code == 403, headers
        for site in ("cross-site", "same-site"):
            assert browser.post(f"{place}api/scans", headers={"origin": viewer.address, "sec-fetch-site": site}, **body).status_code == 403
            assert browser.get(f"{place}api/about", headers={"sec-fetch-site": site}).status_code == 403
        assert (
            browser.post(f"{place}api/scans", headers={"origin": viewer.address, "sec-fetch-site": "same-origin"}, **body).status_code
            == 200
        )
        assert browser.get(place, headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_every_answer_is_dressed(viewer, stranger):
    for answer in (viewer.api.get("/"), viewer.api.get("/api/about"), viewer.api.get("/api/none"), stranger.get("/")):
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_bodies_are_counted_whatever_they_say(start, shelf, tmp_path):
    from pellucid.viewer.limits import Limits

    small = start(shelf, tmp_path / "work", limits=Limits(upload=2000, body=1000))
    told = small.api.post("/api/uploads?name=a", content=b"x" * 3000, headers=BYTES)
    assert (told.status_code, said(told)["kind"]) == (413, "TooLarge")
    hidden = small.api.post("/api/uploads?name=a", content=iter([b"x" * 900] * 4), headers=BYTES)  # chunked: no length is told
    assert hidden.status_code == 413
    assert small.api.post("/api/runs", content=b" " * 1500, headers={"content-type": "application/json"}).status_code == 413
    assert list((tmp_path / "work" / "uploads").rglob("0*")) == []
    first = small.api.post("/api/uploads?name=a", content=b"x" * 1500, headers=BYTES).json()
    again = small.api.post(f"/api/uploads?name=b&into={first['id']}", content=b"x" * 1500, headers=BYTES)
    assert again.status_code == 400 and "upload of 1 to 2,000 bytes" in said(again)["asked"]
    small.end()


def test_files_of_the_page_and_no_others(viewer):
    assert viewer.api.get("/static/viewer/main.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "viewer/../app.py",
        "viewer/%2e%2e/app.py",
        "report/html.py",
        "viewer//etc/passwd",
        "io/reading.py",
        "viewer/none.js",
        "report/..%2f..%2fx.css",
    ):
        assert viewer.api.get(f"/static/{path}").status_code == 404, path
