"""Publishing, streams, history and refusals as `curl` sees them."""

import asyncio
import base64
import contextlib
import json

from server import Cases, check, same

CONFIG = """
[limits]
message_bytes_max = 1000

[drain]
window = "100ms"

[[topic]]
match = "forgetful*"
history_size = 0
"""

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="

cases = Cases()


class Answer:
    """Status, headers (names in lower case) and body of one `curl -i`."""

    def __init__(self, raw):
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        self.status = int(status.split()[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def json(self):
        return json.loads(self.body)


async def curl(*arguments, data=b""):
    """Runs curl, `data` on its standard input, and returns the answer."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-si", "--http1.1", "-m", "20", "-H", "Expect:", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    raw, _ = await process.communicate(data)
    assert raw, f"curl ended with {process.returncode} and no answer"
    return Answer(raw)


async def publish(server, topic, data, *arguments):
    return await curl("--data-binary", "@-", *arguments, server.topic(topic), data=data)


async def refused(status, code, *arguments, data=b""):
    answer = await curl(*arguments, data=data)
    same((answer.status, answer.json["error"]["code"]), (status, code))
    assert answer.json["error"]["message"], "the error has no message"
    return answer


class Stream:
    """A `curl -N` that runs until the block ends."""

    def __init__(self, *arguments):
        self.arguments = arguments

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            "curl", "-sNi", "--http1.1", *self.arguments, stdout=asyncio.subprocess.PIPE
        )
        head = (await self.process.stdout.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
        self.answer = Answer(head)
        return self

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def objects(self, count):
        return [json.loads(await self.process.stdout.readline()) for _ in range(count)]

    async def block(self):
        """One SSE block: (field, value) pairs; comments are left out."""
        raw = (await self.process.stdout.readuntil(b"\n\n")).decode().removesuffix("\n\n")
        lines = [line.partition(":") for line in raw.split("\n") if not line.startswith(":")]
        return [(name, value.removeprefix(" ")) for name, _, value in lines]


def sse(server, topic, *arguments):
    return Stream("-H", "Accept: text/event-stream", *arguments, server.topic(topic))


@cases.add
async def a_post_is_published_and_answers_its_position(server):
    first = await publish(server, "post", b"hello")
    same((first.status, first.json["topic"], first.json["offset"]), (200, "post", 1))
    second = await publish(server, "post", b"again")
    same((second.json["offset"], second.json["epoch"]), (2, first.json["epoch"]))


@cases.add
async def the_body_type_decides_between_text_and_binary(server):
    bodies = [
        ("text/plain", "text".encode(), "data"),
        ("application/json", b'{"not":"parsed', "data"),
        ("application/vnd.x+json", b"{}", "data"),
        ("application/octet-stream", b"text", "data64"),
        ("image/png", b"\x89PNG", "data64"),
        ("application/x-www-form-urlencoded", b"a=b", "data"),
        ("application/x-www-form-urlencoded", b"\xff", "data64"),
        ("text/plain", b"", "data"),
    ]
    for kind, body, _ in bodies:
        same((await publish(server, "kinds", body, "-H", f"Content-Type: {kind}")).status, 200)
    same((await publish(server, "kinds", b"no type", "-H", "Content-Type:")).status, 200)
    history = (await curl(server.topic("kinds/history"))).json["publications"]
    for (kind, body, field), got in zip(bodies, history, strict=False):
        wanted = base64.b64encode(body).decode() if field == "data64" else body.decode()
        same((kind, got.get(field)), (kind, wanted))
    same(history[-1]["data"], "no type")


@cases.add
async def bad_bodies_are_refused(server):
    url = server.topic("bad")
    text, gzip = "Content-Type: text/plain", "Content-Encoding: gzip"
    await refused(400, "payload_not_utf8", "--data-binary", "@-", "-H", text, url, data=b"\xff")
    await refused(413, "message_too_large", "--data-binary", "@-", url, data=b"x" * 1001)
    chunked = "Transfer-Encoding: chunked"
    await refused(413, "message_too_large", "--data-binary", "@-", "-H", chunked, url, data=b"x" * 5000)
    await refused(415, "content_encoding_unsupported", "-d", "x", "-H", gzip, url)
    same((await curl(url + "/history")).json["publications"], [])


@cases.add
async def a_repeated_idempotency_key_publishes_once(server):
    key = "Idempotency-Key: order-1"
    first = await publish(server, "keys", b"x", "-H", key)
    again = await publish(server, "keys", b"x", "-H", key)
    assert "duplicate" not in first.json
    same(again.json, {**first.json, "duplicate": True})
    other = await publish(server, "keys", b"x", "-H", "Idempotency-Key: order-2")
    same(other.json["offset"], 2)


@cases.add
async def curl_without_options_streams_ndjson(server):
    async with Stream(server.topic("lines")) as stream:
        assert stream.answer.headers["content-type"].startswith("application/x-ndjson")
        await publish(server, "lines", b"one")
        await publish(server, "lines", b"\xff")
        told, text, binary = await stream.objects(3)
        epoch = stream.answer.headers["fanwire-epoch"]
        same(told["subscribed"], {"topic": "lines", "epoch": epoch, "offset": 0})
        same((text["offset"], text["epoch"], text["data"]), (1, epoch, "one"))
        same((binary["offset"], binary["data64"]), (2, "/w=="))


@cases.add
async def ndjson_recovers_from_a_position(server):
    for text in b"abc":
        await publish(server, "resume", bytes([text]))
    async with Stream(server.topic("resume", "?since=1")) as stream:
        same(stream.answer.headers["fanwire-recovered"], "true")
        same(stream.answer.headers["fanwire-offset"], "1")
        told, *missed = await stream.objects(3)
        same(told["subscribed"]["recovered"], True)
        same([one["data"] for one in missed], ["b", "c"])


@cases.add
async def curl_listens_to_the_centrifugo_protocol(server):
    url = f"{server.url}/connection/uni_http_stream"
    async with Stream("-d", '{"subs":{"uni":{}}}', url) as stream:
        connected = (await stream.objects(1))[0]["connect"]
        await publish(server, "uni", b"{\"n\":1}")
        epoch = connected["subs"]["uni"]["epoch"]
        publication = {"data": {"n": 1}, "offset": 1, "epoch": epoch}
        same(await stream.objects(1), [{"channel": "uni", "pub": publication}])
    await refused(400, "query_invalid", "-d", "", url)


@cases.add
async def sse_carries_text_lines_and_binary(server):
    async with sse(server, "events") as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        epoch = stream.answer.headers["fanwire-epoch"]
        blocks = await stream.block()
        if ("id", f"{epoch}:0") not in blocks:
            blocks += await stream.block()
        retry = int(dict(blocks)["retry"])
        assert 1000 <= retry <= 3000, f"retry: {retry}"
        same([value for name, value in blocks if name == "id"], [f"{epoch}:0"])
        await publish(server, "events", b"two\nlines")
        same(await stream.block(), [("id", f"{epoch}:1"), ("data", "two"), ("data", "lines")])
        await publish(server, "events", b"\x00", "-H", "Content-Type: application/octet-stream")
        block = dict(await stream.block())
        same(block, {"id": f"{epoch}:2", "event": "binary", "data": "AA=="})


@cases.add
async def sse_resumes_after_last_event_id(server):
    epoch = (await publish(server, "sse-resume", b"1")).json["epoch"]
    for text in b"23":
        await publish(server, "sse-resume", bytes([text]))
    async with sse(server, "sse-resume", "-H", f"Last-Event-ID: {epoch}:1") as stream:
        same(stream.answer.headers["fanwire-recovered"], "true")
        got = []
        while len(got) < 2:
            got += [value for name, value in await stream.block() if name == "data"]
        same(got, ["2", "3"])


@cases.add
async def sse_is_told_to_reset_when_it_cannot_resume(server):
    epoch = (await publish(server, "sse-reset", b"1")).json["epoch"]
    for position in ["0000:1", "not a position"]:
        async with sse(server, "sse-reset", "-H", f"Last-Event-ID: {position}") as stream:
            same(stream.answer.status, 200)
            same(stream.answer.headers["fanwire-recovered"], "false")
            block = dict(await stream.block())
            while "event" not in block:
                block = dict(await stream.block())
            same((block["event"], block["id"]), ("reset", f"{epoch}:1"))
            same(json.loads(block["data"])["subscribed"]["recovered"], False)


@cases.add
async def history_is_ascending_and_limited(server):
    for text in b"abcde":
        await publish(server, "past", bytes([text]))
    url = server.topic("past/history")

    async def page(query):
        answer = (await curl(url + query)).json
        return answer["offset"], [one["data"] for one in answer["publications"]]

    same(await page(""), (5, list("abcde")))
    same(await page("?limit=2"), (5, list("de")))
    same(await page("?limit=0"), (5, []))
    same(await page("?since=2"), (5, list("cde")))
    same(await page("?since=2&limit=2"), (5, list("cd")))
    same((await curl(url + "?since=0000:2")).json["recovered"], False)


@cases.add
async def reading_the_history_of_an_unknown_topic_creates_nothing(server):
    answer = await curl(server.topic("nobody/history"))
    same((answer.status, answer.json["epoch"], answer.json["offset"]), (200, "", 0))
    same(answer.json["publications"], [])
    await publish(server, "forgetful", b"x")
    await refused(404, "history_off", server.topic("forgetful/history"))
    answer = await publish(server, "forgetful", b"x")
    same(answer.json, {"topic": "forgetful"})


@cases.add
async def presence_is_off_by_default(server):
    await refused(404, "presence_off", server.topic("anyone/presence"))


@cases.add
async def unknown_paths_and_methods_are_refused_in_json(server):
    for path in ["/nothing", "/topics/", "/topics/a/", "/topics/a/nothing", "/topics//history"]:
        await refused(404, "not_found", server.url + path)
    for method in ["PUT", "DELETE", "PATCH"]:
        answer = await refused(405, "method_not_allowed", "-X", method, server.topic("a"))
        same({word.strip() for word in answer.headers["allow"].split(",")}, {"GET", "POST", "OPTIONS"})
    head = await curl("-I", server.topic("a"))
    same((head.status, head.body), (405, b""))
    await refused(406, "not_acceptable", "-H", "Accept: image/png", server.topic("a"))
    await refused(400, "since_invalid", server.topic("a", "?since=x"))
    await refused(400, "topic_name_invalid", server.topic("%ff"))


@cases.add
async def a_faulty_handshake_never_becomes_a_stream(server):
    url = server.topic("handshake")
    good = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }

    def without(*names, **changed):
        pairs = {**good, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return [word for name, value in pairs.items() if name not in names for word in ("-H", f"{name}: {value}")]

    answer = await refused(426, "websocket_version_unsupported", *without(Sec_WebSocket_Version="8"), url)
    same(answer.headers["sec-websocket-version"], "13")
    await refused(405, "method_not_allowed", "-X", "POST", *without(), url)
    for fault in [
        without("Upgrade"),
        without("Connection"),
        without("Sec-WebSocket-Key"),
        without(Sec_WebSocket_Key="short"),
        [*without(), "-H", f"Sec-WebSocket-Key: {KEY}"],
        [*without(), "--http1.0"],
    ]:
        await refused(400, "handshake_invalid", *fault, url)


@cases.add
async def a_page_of_the_same_host_may_and_a_foreign_one_may_not(server):
    url = server.topic("cors")
    own = await curl("-H", f"Origin: {server.url}", "-d", "x", url)
    same((own.status, own.headers["access-control-allow-origin"]), (200, server.url))
    exposed = {name.strip().lower() for name in own.headers["access-control-expose-headers"].split(",")}
    same(exposed, {"fanwire-epoch", "fanwire-offset", "fanwire-recovered"})
    assert "origin" in own.headers["vary"].lower()
    await refused(403, "origin_not_allowed", "-H", "Origin: http://evil.example", "-d", "x", url)
    await refused(403, "origin_not_allowed", "-H", "Origin: null", url)


@cases.add
async def a_preflight_is_answered(server):
    ask = ["-H", f"Origin: {server.url}", "-H", "Access-Control-Request-Method: POST"]
    answer = await curl("-X", "OPTIONS", *ask, server.topic("cors"))
    same((answer.status, answer.headers["access-control-max-age"]), (204, "600"))
    same(answer.headers["access-control-allow-origin"], server.url)

    def words(name):
        return {word.strip().lower() for word in answer.headers[name].split(",")}

    same(words("access-control-allow-methods"), {"get", "post", "options"})
    allowed = {"authorization", "content-type", "idempotency-key", "last-event-id", "x-api-key"}
    same(words("access-control-allow-headers"), allowed)


@cases.add
async def loopback_trust_ends_at_foreign_hosts_and_proxies(server):
    url = server.topic("trust")
    await refused(403, "host_not_allowed", "-H", "Host: evil.example", "-d", "x", url)
    await refused(401, "token_required", "-H", "X-Forwarded-For: 192.0.2.1", "-d", "x", url)
    port = server.url.rsplit(":", 1)[1]
    local = await curl("-H", f"Host: app.localhost:{port}", "-d", "x", url)
    same(local.status, 200)
    await refused(401, "token_invalid", "-H", "Authorization: Bearer nonsense", "-d", "x", url)


@cases.add
async def metrics_and_health_are_on_the_admin_address_only(server):
    for path in ["/health/live", "/health/ready"]:
        same((await curl(server.admin + path)).status, 200)
        same((await curl(server.url + path)).status, 404)
    await publish(server, "metrics", b"x")
    text = (await curl(server.admin + "/metrics")).body.decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")
    published = float(samples['fanwire_publications_total{door="http"}'])
    assert published >= 1, f"published {published}"
    same((await curl(server.url + "/metrics")).status, 404)
    json.loads((await curl(server.admin + "/stats")).body)


@cases.add
async def the_try_it_page_is_served_at_the_root(server):
    page = await curl(server.url + "/")
    same(page.status, 200)
    assert page.headers["content-type"].startswith("text/html")
    assert b"<!doctype html>" in page.body[:100].lower()


if __name__ == "__main__":
    check(CONFIG, cases.run)
