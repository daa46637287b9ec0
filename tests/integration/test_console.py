"""The console over real HTTP: what each page shows, who may look, and what a hostile customer can do there."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from google.protobuf import timestamp_pb2
from kongflow.v1 import tenancy_service_pb2, token_pb2

from tests.support.console import FORMS, HOSTILE, exhibition, visitor
from tests.support.eventually import eventually
from tests.support.fake_endpoint import on, status
from tests.support.pair import ADMIN_TOKEN

if TYPE_CHECKING:
    import asyncpg

    from tests.support.console import Exhibition, Page, Visitor
    from tests.support.pair import Pair


def pages_of(shown: Exhibition, queue_job_id: str) -> dict[str, str]:
    lane = f"endpoint-{shown.endpoint_id}"
    return {
        "environments": "/console/environments",
        "endpoints": shown.root,
        "jobs": f"{shown.root}/jobs",
        "sources": f"{shown.root}/sources",
        "dynamic triggers": f"{shown.root}/dynamic-triggers",
        "schedules": f"{shown.root}/schedules",
        "events": f"{shown.root}/events",
        "runs": f"{shown.root}/runs?event={shown.event_record_id}",
        "endpoint": f"/console/endpoints/{shown.endpoint_id}",
        "index": f"/console/indexes/{shown.index_id}",
        "event": f"/console/events/{shown.event_record_id}",
        "queues": "/console/queues",
        "queues of an environment": f"/console/queues?environment_id={shown.tenant.environment_id}",
        "queue jobs": f"/console/queue-jobs?kind=indexEndpoint&state=DISCARDED&queue=execution&lane={lane}",
        "queue job": f"/console/queue-jobs/{queue_job_id}",
        "dead letters": f"/console/dead-letters?environment_id={shown.tenant.environment_id}",
    }


async def test_every_page_shows_what_its_name_says(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as somebody:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        expected = {
            "environments": ["dev", "development", shown.tenant.environment_id, "API key last used"],
            "endpoints": ["fake-endpoint", shown.endpoint.url],
            "jobs": ["welcome", "Welcome mail", "1.0.0", "static", "user.created", "fake-endpoint"],
            "sources": ["acme.room-http", "HTTP", "acme", "event=acme.ping"],
            "dynamic triggers": ["on-demand", "event", "welcome 1.0.0"],
            "schedules": ["hourly", '"seconds"'],
            "events": ["user.created", "delivered", "trigger.dev", "Welcome mail"],
            "runs": ["#1", "welcome", "1.0.0", "pending"],
            "endpoint": ["fake-endpoint", shown.endpoint.url, shown.index_id, "failed", "succeeded"],
            "index": ["partially succeeded", "welcome", "registered", "refused"],
            "event": [
                "It was given to 1 dispatcher, which made 1 run.",
                "matched",
                "filtered",
                "payload.plan",
                "welcome",
            ],
            "queues": ["default", "execution", "events", "maintenance", "Pickup latency", "Waiting queue jobs"],
            "queues of an environment": ["execution", shown.tenant.environment_id],
            "queue jobs": [dead, "indexEndpoint", "discarded"],
            "queue job": [dead, "discarded", f"endpoint-{shown.endpoint_id}", "1 of", "500", shown.endpoint_id],
            "dead letters": [dead, "indexEndpoint", "Retry"],
        }
        pages = {name: await somebody.get(path) for name, path in pages_of(shown, dead).items()}

        assert {name: page.status for name, page in pages.items()} == dict.fromkeys(expected, 200)
        missing = {name: [word for word in words if word not in pages[name].words] for name, words in expected.items()}
        assert not {name: words for name, words in missing.items() if words}
        for page in pages.values():
            await every_link_leads_somewhere(somebody, page)


async def every_link_leads_somewhere(somebody: Visitor, page: Page) -> None:
    answers = {link: (await somebody.get(link)).status for link in set(page.links) if link.startswith("/")}
    assert set(answers.values()) == {200}, answers


async def test_nobody_sees_a_page_without_signing_in(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url) as stranger:
        for path in [*pages_of(shown, str(uuid4())).values(), "/console", "/console/"]:
            page = await stranger.get(path)
            home = path in {"/console", "/console/"}
            assert (page.status, page.headers["Location"]) == (
                303,
                "/console/environments" if home else "/console/sign-in",
            )
            assert shown.tenant.environment_id not in page.text
        live = await stranger.get("/console/queues", headers={"HX-Request": "true"})
        assert (live.status, live.headers["HX-Redirect"]) == (401, "/console/sign-in")


async def test_wrong_credentials_do_not_sign_in(pair: Pair) -> None:
    worker = await pair.new_worker_token()
    async with visitor(pair.http_url) as somebody:
        for credential in ["", "wrong", "tr_dev_wrong", "x" * 10_000, "ä", "a b", "\x00", HOSTILE]:
            refused = await somebody.sign_in(credential)
            assert (refused.status, "This is no valid API key or token." in refused.words) == (401, True), credential
            assert not credential or credential not in refused.text
        refused = await somebody.sign_in(worker)
        assert (refused.status, "The console needs the scope read." in refused.words) == (403, True)
        assert (await somebody.get("/console/environments")).status == 303


async def test_session_cookie_is_kept_from_scripts_other_sites_and_plain_text(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    async with visitor(pair.http_url) as somebody:
        cookie = (await somebody.sign_in(tenant.api_key)).headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= set(cookie.split("; "))
        assert tenant.api_key not in cookie
        assert "Secure" not in cookie
        await somebody.post("/console/sign-out", {"csrf": (await somebody.get("/console/environments")).csrf})
        behind_tls = await somebody.sign_in(tenant.api_key, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in behind_tls.headers["Set-Cookie"].split("; ")


async def test_forged_and_cut_cookies_are_nobody(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.api_key) as somebody:
        sealed = next(iter(somebody.session.cookie_jar)).value
        async with visitor(pair.http_url) as forger:
            for cookie in [
                sealed[:-4],
                sealed[:10],
                "B" + sealed[1:],
                sealed[:60] + ("A" if sealed[60] != "A" else "B") + sealed[61:],
                "x" * 5000,
                "ä",
                "AAAA",
                "",
            ]:
                page = await forger.get(shown.root, headers={"Cookie": f"kongflow_console={cookie}"})
                assert page.status == 303, cookie
            assert (await forger.get(shown.root, headers={"Cookie": f"kongflow_console={sealed}"})).status == 200


async def test_signing_out_ends_the_session_of_the_browser(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    async with visitor(pair.http_url, tenant.service_token) as somebody:
        csrf = (await somebody.get("/console/environments")).csrf
        assert (await somebody.post("/console/sign-out", {"csrf": csrf})).status == 303
        assert (await somebody.get("/console/environments")).headers["Location"] == "/console/sign-in"


async def test_revoked_token_ends_every_session_of_it(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    tenancy = pair.admin.tenancy
    made = await pair.admin.call(
        tenancy.CreateToken,
        tenancy_service_pb2.CreateTokenRequest(
            kind=token_pb2.TOKEN_KIND_SERVICE,
            name="console",
            organization_id=tenant.organization_id,
            scopes=[token_pb2.TOKEN_SCOPE_READ],
        ),
    )
    async with visitor(pair.http_url, made.secret) as somebody:
        assert (await somebody.get("/console/queues")).status == 200
        await pair.admin.call(tenancy.RevokeToken, tenancy_service_pb2.RevokeTokenRequest(token_id=made.token.id))
        assert (await somebody.get("/console/queues")).headers["Location"] == "/console/sign-in"


async def test_forms_of_other_sites_change_nothing(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as somebody:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        async with visitor(pair.http_url, shown.tenant.service_token) as another:
            foreign = (await another.get("/console/environments")).csrf
        forms: list[dict[str, str]] = [{}, {"csrf": ""}, {"csrf": "guess"}, {"csrf": "ä"}, {"csrf": foreign}]
        wanted = {"queue": "execution", "lane": f"endpoint-{shown.endpoint_id}"}
        for form in forms:
            for path in FORMS:
                address = "/console" + path.format(id=shown.endpoint_id if "endpoints" in path else dead)
                refused = await somebody.post(address, {**wanted, **form})
                assert (refused.status, "so nothing was done" in refused.words) == (403, True), (path, form)
                assert "load the page again" in refused.words
        assert "There are none." in (await somebody.get("/console/queues")).words
        assert (await somebody.get(f"/console/queue-jobs/{dead}/retry")).status == 405
        assert "discarded" in (await somebody.get(f"/console/queue-jobs/{dead}")).words


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data", b"--x", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=", 400),
        ("application/x-www-form-urlencoded; charset=nonsense", b"csrf=a", 400),
        ("application/x-www-form-urlencoded", b"csrf=\xff", 400),
        ("application/json", b'{"csrf": "a"}', 400),
        ("application/x-www-form-urlencoded", b"csrf=" + b"a" * 2_000_000, 413),
    ],
)
async def test_what_is_no_form_is_refused_before_anything_else(
    pair: Pair, content_type: str, body: bytes, status: int
) -> None:
    async with visitor(pair.http_url) as somebody:
        await somebody.get("/console/sign-in")
        headers = {"Content-Type": content_type}
        async with somebody.session.post("/console/sign-in", data=BytesIO(body), headers=headers) as answer:
            assert (answer.status, "log of the service" in await answer.text()) == (status, False)


async def test_form_that_is_not_what_its_encoding_says_is_refused(pair: Pair) -> None:
    async with visitor(pair.http_url) as somebody:
        await somebody.get("/console/sign-in")
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
        async with somebody.session.post("/console/sign-in", data=b"csrf=a", headers=headers) as answer:
            assert (answer.status, "log of the service" in await answer.text()) == (400, False)


async def test_dead_letter_is_retried_with_one_form(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as operator:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        letters = await operator.get("/console/dead-letters")
        assert f"/console/queue-jobs/{dead}/retry" in letters.text

        answer = await operator.post(f"/console/queue-jobs/{dead}/retry", {"csrf": letters.csrf})
        assert answer.status == 303
        assert "It was retried" in (await operator.get(answer.headers["Location"])).words

        async def has_completed() -> bool:
            return "State completed" in (await operator.get(f"/console/queue-jobs/{dead}")).words

        await eventually(has_completed)
        again = await operator.post(f"/console/queue-jobs/{dead}/retry", {"csrf": letters.csrf})
        assert (again.status, "COMPLETED" in again.words) == (409, True)
        assert dead not in (await operator.get("/console/dead-letters")).text


async def test_all_dead_letters_of_a_filter_are_retried_after_a_look_at_how_many(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as operator:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        of_another_kind = await operator.get("/console/dead-letters/retry?kind=registerJob")
        assert ("There are none." in of_another_kind.words, "Retry 1" in of_another_kind.words) == (True, False)

        letters = await operator.get("/console/dead-letters?kind=indexEndpoint")
        (address,) = [link for link in letters.links if "/dead-letters/retry?" in link]
        asked = await operator.get(address)
        assert "1 queue job will get a fresh set of attempts" in asked.words
        answer = await operator.post("/console/dead-letters/retry", {"csrf": asked.csrf, "kind": "indexEndpoint"})
        done = await operator.get(answer.headers["Location"])
        assert (answer.status, "1 was retried" in done.words) == (303, True)
        assert dead not in done.text
        again = await operator.post("/console/dead-letters/retry", {"csrf": asked.csrf, "kind": "indexEndpoint"})
        assert "0 were retried" in (await operator.get(again.headers["Location"])).words


async def test_waiting_queue_job_is_cancelled_with_one_form(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as operator:
        later = timestamp_pb2.Timestamp()
        later.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        waiting = (await shown.client.index(shown.endpoint_id, run_time=later)).queue_job_id
        page = await operator.get(f"/console/queue-jobs/{waiting}")
        answer = await operator.post(f"/console/queue-jobs/{waiting}/cancel", {"csrf": page.csrf})
        cancelled = await operator.get(answer.headers["Location"])
        assert ("It was cancelled" in cancelled.words, "State cancelled" in cancelled.words) == (True, True)
        assert f"{waiting}/cancel" not in cancelled.text

        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        refused = await operator.post(f"/console/queue-jobs/{dead}/cancel", {"csrf": page.csrf})
        assert (refused.status, "Somebody or something was faster" in refused.words) == (409, True)


async def test_lane_is_paused_and_resumed_with_who_and_why(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as operator:
        lane = f"endpoint-{shown.endpoint_id}"
        form = {"csrf": (await operator.get("/console/queues")).csrf, "queue": "execution", "lane": lane}
        answer = await operator.post("/console/queues/pause", {**form, "reason": f"It moves. {HOSTILE}"})
        assert (answer.status, answer.headers["Location"]) == (303, "/console/queues")
        paused = await operator.get("/console/queues")
        assert [word for word in (lane, "token:", "It moves. <script>") if word not in paused.words] == []
        assert "<img" not in paused.text
        requested = await shown.client.index(shown.endpoint_id, force=True)
        assert "State available" in (await operator.get(f"/console/queue-jobs/{requested.queue_job_id}")).words

        assert (await operator.post("/console/queues/resume", form)).status == 303
        assert lane not in (await operator.get("/console/queues")).text

        async def has_completed() -> bool:
            return "State completed" in (await operator.get(f"/console/queue-jobs/{requested.queue_job_id}")).words

        await eventually(has_completed)


async def test_whole_queue_is_paused_by_admins_only_and_tenants_read_why(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    async with visitor(pair.http_url, ADMIN_TOKEN) as admin, visitor(pair.http_url, tenant.service_token) as own:
        form = {"queue": "maintenance", "reason": "The database is being moved."}
        for words, page in {"needs an admin token": own, "for every tenant": admin}.items():
            assert words in (await page.get("/console/queues")).words
        refused = await own.post("/console/queues/pause", {**form, "csrf": (await own.get("/console/queues")).csrf})
        assert (refused.status, "needs an admin token" in refused.words) == (403, True)
        form["csrf"] = (await admin.get("/console/queues")).csrf
        assert (await admin.post("/console/queues/pause", form)).status == 303
        seen = [(await page.get("/console/queues")) for page in (admin, own)]
        assert ["The database is being moved." in page.words for page in seen] == [True, True]
        assert ["admin The database" in page.words for page in seen] == [True, False]
        assert ["/queues/resume" in page.text for page in seen] == [True, False]
        assert (await admin.post("/console/queues/resume", form)).status == 303
        assert "The database" not in (await own.get("/console/queues")).words


async def test_forms_that_make_no_sense_are_answered_with_the_reason(pair: Pair) -> None:
    async with visitor(pair.http_url, ADMIN_TOKEN) as admin:
        csrf = (await admin.get("/console/queues")).csrf
        rows: list[tuple[str, dict[str, str], int, str]] = [
            ("/queues/pause", {}, 400, "queue: is required"),
            ("/queues/pause", {"queue": "wrong"}, 400, "queue: must be one of default"),
            ("/queues/pause", {"queue": "default", "lane": "x" * 201}, 400, "lane: must be at most 200 characters"),
            ("/queues/pause", {"queue": "default", "reason": "x" * 501}, 400, "reason: must be at most 500"),
            ("/queues/pause", {"queue": "default", "reason": "\x00"}, 400, "reason: "),
            ("/queues/resume", {"lane": "maintenance"}, 400, "queue: is required"),
            ("/dead-letters/retry", {"queue": "wrong"}, 400, "queue: must be one of default"),
            ("/dead-letters/retry", {"environment_id": "x"}, 404, "There is no environment 'x' here."),
            (f"/queue-jobs/{uuid4()}/cancel", {}, 404, "There is no queue job"),
            ("/endpoints/x/resume", {}, 404, "There is no endpoint 'x' here."),
        ]
        for path, form, code, words in rows:
            answer = await admin.post(f"/console{path}", {**form, "csrf": csrf})
            assert (answer.status, words in answer.words) == (code, True), (path, form, answer.words)


async def test_operator_resumes_an_endpoint_with_one_form(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as operator:
        path = f"/console/endpoints/{shown.endpoint_id}"
        assert f"{path}/resume" not in (await operator.get(path)).text
        await connection.execute(
            "UPDATE endpoints SET state = 'FAILING', next_probe_at = now() + interval '1 hour' WHERE id = $1",
            UUID(shown.endpoint_id),
        )
        page = await operator.get(path)
        answer = await operator.post(f"{path}/resume", {"csrf": page.csrf})
        resumed = await operator.get(answer.headers["Location"])
        assert ("It is called again" in resumed.words, "Health healthy" in resumed.words) == (True, True)


async def test_health_of_an_endpoint_is_shown_with_why_and_the_next_probe(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.api_key) as reader:
        assert "healthy" in (await reader.get(shown.root)).words
        await connection.execute(
            "UPDATE endpoints SET state = 'SUSPENDED', consecutive_failures = 7, state_reason = $1,"
            " state_changed_at = now(), next_probe_at = '2126-01-02 03:04:05Z' WHERE id = $2",
            f"It is gone. {HOSTILE}",
            UUID(shown.endpoint_id),
        )
        for path in [shown.root, f"/console/endpoints/{shown.endpoint_id}"]:
            page = await reader.get(path)
            seen = [word for word in ("suspended", "It is gone.", "2126-01-02 03:04:05 UTC") if word in page.words]
            assert (len(seen), "<img" in page.text) == (3, False), page.words
        assert "Failures in a row 7" in page.words


async def test_reader_is_shown_no_retry_and_refused_one(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.api_key) as reader:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        letters = await reader.get("/console/dead-letters")
        assert (dead in letters.text, f"{dead}/retry" in letters.text) == (True, False)
        csrf = letters.csrf
        for path in FORMS[2:]:
            address = "/console" + path.format(id=shown.endpoint_id if "endpoints" in path else dead)
            refused = await reader.post(address, {"csrf": csrf, "queue": "default"})
            assert (refused.status, "This needs the scope operate." in refused.words) == (403, True), path
        assert (await reader.get("/console/dead-letters/retry")).status == 403
        assert "/queues/pause" not in (await reader.get("/console/queues")).text


async def test_token_of_another_organization_sees_nothing(pair: Pair) -> None:
    theirs = await pair.new_tenant()
    async with exhibition(pair) as shown:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        for credential in [theirs.service_token, theirs.api_key]:
            async with visitor(pair.http_url, credential) as stranger:
                for name, path in pages_of(shown, dead).items():
                    page = await stranger.get(path)
                    seen = [secret for secret in (shown.endpoint.url, "fake-endpoint") if secret in page.text]
                    is_list_of_all = name in {"environments", "queues", "queue jobs"}
                    assert (page.status, seen) == (200 if is_list_of_all else 404, []), (name, page.words)
                form = {"csrf": (await stranger.get("/console/environments")).csrf, "queue": "execution"}
                form |= {"lane": f"endpoint-{shown.endpoint_id}", "environment_id": shown.tenant.environment_id}
                for path in FORMS[2:]:
                    address = "/console" + path.format(id=shown.endpoint_id if "endpoints" in path else dead)
                    refused = await stranger.post(address, form)
                    assert refused.status == (404 if credential == theirs.service_token else 403), path
                assert shown.tenant.environment_id not in (await stranger.get("/console/environments")).text
                assert dead not in (await stranger.get("/console/dead-letters")).text


async def test_whatever_customers_write_stays_text(pair: Pair) -> None:
    async with exhibition(pair, text=HOSTILE) as shown, visitor(pair.http_url, shown.tenant.service_token) as somebody:
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        shown_as_text = set()
        for name, path in pages_of(shown, dead).items():
            page = await somebody.get(path)
            assert "<img" not in page.text, name
            assert "alert(1)</script>" not in page.text, name
            assert re.findall(r"<script[^>]*>", page.text) == [
                '<script src="/console/static/htmx-2.0.11.min.js" defer>'
            ], name
            assert not re.findall(r"<[^>]*\s(?:style|on\w+)=", page.text), name
            if HOSTILE in page.words or "alert(1)" in page.words:
                shown_as_text.add(name)
        assert {"jobs", "events", "event", "runs"} <= shown_as_text

        wanted = await somebody.get(f"{shown.root}/events", params={"name": HOSTILE, "page_token": HOSTILE})
        assert (wanted.status, "<img" in wanted.text) == (400, False)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/console/environments", 303),
        ("/console/sign-in", 200),
        ("/console/static/console.css", 200),
        ("/console/static/htmx-2.0.11.min.js", 200),
        ("/console/static/htmx-2.0.11.LICENSE.txt", 200),
        ("/console/static/application.py", 404),
        ("/console/static/..%2fapplication.py", 404),
        ("/console/nothing", 404),
    ],
)
async def test_browser_is_told_to_trust_nothing_but_this_server(pair: Pair, path: str, expected: int) -> None:
    async with visitor(pair.http_url) as somebody:
        page = await somebody.get(path)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert page.status == expected
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    is_file = expected == 200 and "/static/" in path
    assert page.headers["Cache-Control"] == ("public, max-age=300" if is_file else "no-store")


async def test_bad_addresses_are_answered_with_the_reason(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as somebody:
        rows = {
            "/console/endpoints/nothing": (404, "There is no endpoint 'nothing' here."),
            f"/console/endpoints/{uuid4()}": (404, "There is no endpoint"),
            "/console/queues?environment_id=x": (404, "There is no environment 'x' here."),
            "/console/queue-jobs?state=WAITING": (400, "state: must be one of SCHEDULED"),
            "/console/queue-jobs?kind=%00": (400, "kind: "),
            "/console/queue-jobs?kind=%ff": (200, "There are none."),
            f"/console/queue-jobs?lane={'x' * 1001}": (400, "lane: must have at most 1000 characters"),
            "/console/queue-jobs?page_token=forged": (400, "page_token: must be the next_page_token"),
            f"{shown.root}/events?state=LOST": (400, "state: must be one of PENDING"),
            f"{shown.root}/nothing": (404, "Not Found"),
        }
        answers = {path: await somebody.get(path) for path in rows}
        assert {path: page.status for path, page in answers.items()} == {path: row[0] for path, row in rows.items()}
        assert [path for path, row in rows.items() if row[1] not in answers[path].words] == []


async def test_long_lists_go_on_with_page_tokens_of_their_own_filters(pair: Pair) -> None:
    async with exhibition(pair) as shown, visitor(pair.http_url, shown.tenant.service_token) as somebody:
        for number in range(51):
            await pair.new_environment(shown.tenant.project_id, slug=f"env-{number}")
        first = await somebody.get("/console/environments")
        (following,) = [link for link in first.links if "page_token=" in link]
        second = await somebody.get(following)
        slugs = [re.findall(r'">(env-\d+|dev)</a>', page.text) for page in (first, second)]
        # Ids of one millisecond are in any order.
        assert [len(page) for page in slugs] == [50, 2]
        assert sorted(itertools.chain(*slugs)) == sorted(["dev", *(f"env-{number}" for number in range(51))])
        assert "/console/environments" in second.links
        elsewhere = await somebody.get(following.replace("/environments", "/queue-jobs"))
        assert elsewhere.status == 400
