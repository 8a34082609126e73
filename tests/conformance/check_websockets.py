"""The plain door as the Python package `websockets` sees it."""

import asyncio
import base64
import json

import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from server import Cases, Server, check, same

CONFIG = """
[limits]
message_bytes_max = 1000

[drain]
window = "100ms"

[[topic]]
match = "forgetful*"
history_size = 0

[[topic]]
match = "short*"
history_size = 3
"""

cases = Cases()


async def received(socket, count=1):
    return [await socket.recv() for _ in range(count)]


async def objects(socket, count=1):
    return [json.loads(text) for text in await received(socket, count)]


async def refused(url, status, code, **options):
    try:
        async with connect(url, **options):
            raise AssertionError(f"the handshake was accepted, not refused with {status} {code}")
    except InvalidStatus as error:
        same(error.response.status_code, status)
        same(json.loads(error.response.body)["error"]["code"], code)


async def closed(socket, code, reason):
    try:
        async for _ in socket:
            pass
    except ConnectionClosed:
        pass
    same((socket.close_code, socket.close_reason), (code, reason))


def position(socket):
    headers = socket.response.headers
    return f"{headers['Fanwire-Epoch']}:{headers['Fanwire-Offset']}"


@cases.add
async def every_subscriber_gets_a_publication_and_its_sender_too(server):
    async with connect(server.ws("all")) as one, connect(server.ws("all")) as other:
        await one.send("hello")
        same(await received(one), ["hello"])
        same(await received(other), ["hello"])


@cases.add
async def topics_do_not_mix(server):
    async with connect(server.ws("mix-a")) as one, connect(server.ws("mix-b")) as other:
        await one.send("for a")
        await other.send("for b")
        same(await received(other), ["for b"])


@cases.add
async def text_stays_text_and_binary_stays_binary(server):
    async with connect(server.ws("kinds")) as socket:
        sent = ["grüße \U0001f44b", b"\x00\xff\xfe", "", b""]
        for payload in sent:
            await socket.send(payload)
        same(await received(socket, 4), sent)


@cases.add
async def fragments_arrive_as_one_message(server):
    async with connect(server.ws("fragments")) as socket:
        await socket.send(["one ", "two ", "three"])
        same(await received(socket), ["one two three"])


@cases.add
async def own_publications_are_left_out_with_echo_false(server):
    quiet, loud = server.ws("echo", "?echo=false"), server.ws("echo")
    async with connect(quiet) as one, connect(loud) as other:
        await one.send("from one")
        same(await received(other), ["from one"])
        await other.send("from other")
        same(await received(one), ["from other"])


@cases.add
async def json_tells_the_position_first_and_then_each_publication(server):
    async with connect(server.ws("json", "?format=json")) as socket:
        await socket.send('{"sent":"raw"}')
        await socket.send(b"\x00\x01")
        first, text, binary = await objects(socket, 3)
        told = first["subscribed"]
        same((told["topic"], told["offset"]), ("json", 0))
        same(position(socket), f"{told['epoch']}:0")
        assert "recovered" not in told, "no position was asked"
        same((text["topic"], text["offset"], text["epoch"]), ("json", 1, told["epoch"]))
        same(text["data"], '{"sent":"raw"}')
        assert isinstance(text["time"], int) and "data64" not in text, text
        same((binary["offset"], base64.b64decode(binary["data64"])), (2, b"\x00\x01"))
        assert "data" not in binary, binary


@cases.add
async def a_returning_client_gets_what_it_missed_once_and_in_order(server):
    async with connect(server.ws("return", "?format=json")) as writer:
        await writer.send("1")
        told, first = await objects(writer, 2)
        for text in "234":
            await writer.send(text)
        await received(writer, 3)
        since = f"?since={first['epoch']}:{first['offset']}"
        async with connect(server.ws("return", since)) as plain:
            same(plain.response.headers["Fanwire-Recovered"], "true")
            same(position(plain), f"{first['epoch']}:1")
            await writer.send("5")
            same(await received(plain, 4), ["2", "3", "4", "5"])
        async with connect(server.ws("return", since + "&format=json")) as told_in_json:
            same((await objects(told_in_json))[0]["subscribed"]["recovered"], True)
            same([one["offset"] for one in await objects(told_in_json, 4)], [2, 3, 4, 5])


@cases.add
async def a_position_of_another_epoch_is_not_recovered(server):
    async with connect(server.ws("epoch")) as writer:
        await writer.send("old")
        await received(writer)
        async with connect(server.ws("epoch", "?since=0000:1&format=json")) as socket:
            same(socket.response.headers["Fanwire-Recovered"], "false")
            same((await objects(socket))[0]["subscribed"]["recovered"], False)
            await writer.send("new")
            same([one["data"] for one in await objects(socket)], ["new"])


@cases.add
async def a_position_that_was_trimmed_is_not_recovered(server):
    async with connect(server.ws("short")) as writer:
        for text in "12345":
            await writer.send(text)
        await received(writer, 5)
        for since, recovered in [("0", "false"), ("1", "false"), ("2", "true"), ("5", "true"), ("6", "false")]:
            async with connect(server.ws("short", f"?since={since}")) as socket:
                same((since, socket.response.headers["Fanwire-Recovered"]), (since, recovered))


@cases.add
async def last_replays_the_newest(server):
    async with connect(server.ws("last")) as writer:
        for text in "abcd":
            await writer.send(text)
        await received(writer, 4)
        async with connect(server.ws("last", "?last=2")) as socket:
            same(await received(socket, 2), ["c", "d"])
            assert "Fanwire-Recovered" not in socket.response.headers


@cases.add
async def a_topic_without_history_shows_no_position(server):
    async with connect(server.ws("forgetful", "?format=json&since=0")) as socket:
        await socket.send("x")
        told, publication = await objects(socket, 2)
        same(told["subscribed"]["recovered"], False)
        same(publication["data"], "x")
        shown = {*told["subscribed"], *publication} & {"offset", "epoch"}
        assert not shown, f"shows {shown}"
        assert "Fanwire-Epoch" not in socket.response.headers


@cases.add
async def all_subscribers_see_one_order(server):
    url, count = server.ws("order"), 300

    async def publish(socket, mark):
        for index in range(count):
            await socket.send(f"{mark}{index}")

    async with connect(url) as one, connect(url) as two, connect(url) as three:
        sockets = [one, two, three]
        got = [asyncio.create_task(received(socket, 2 * count)) for socket in sockets]
        await asyncio.gather(publish(one, "a"), publish(two, "b"))
        first, second, third = [await task for task in got]
        assert first == second == third, "orders differ"
        for mark in "ab":
            sent = [f"{mark}{index}" for index in range(count)]
            same([text for text in first if text[0] == mark], sent)


@cases.add
async def a_message_over_the_limit_closes_with_1009(server):
    async with connect(server.ws("large")) as socket:
        await socket.send("x" * 1000)
        same(await received(socket), ["x" * 1000])
        await socket.send("x" * 1001)
        await closed(socket, 1009, "message_too_large")


@cases.add
async def the_limit_holds_for_all_fragments_together(server):
    async with connect(server.ws("large")) as socket:
        await socket.send(["x" * 400] * 3)
        await closed(socket, 1009, "message_too_large")


@cases.add
async def a_ping_is_answered(server):
    async with connect(server.ws("ping")) as socket:
        await (await socket.ping(b"are you there"))


@cases.add
async def a_close_is_answered_with_its_code(server):
    async with connect(server.ws("bye")) as socket:
        await socket.close(1000, "bye")
        same(socket.close_code, 1000)


@cases.add
async def only_our_own_subprotocol_is_selected(server):
    async with connect(server.ws("sub"), subprotocols=["other", "fanwire.plain"]) as socket:
        same(socket.subprotocol, "fanwire.plain")
    async with connect(server.ws("sub"), subprotocols=["other"]) as socket:
        same(socket.subprotocol, None)


@cases.add
async def topic_names_are_decoded_once(server):
    async with connect(server.ws("a%2Fb%20%C3%BC+%2541", "?format=json")) as socket:
        same((await objects(socket))[0]["subscribed"]["topic"], "a/b ü+%41")


@cases.add
async def bad_topic_names_are_refused(server):
    for name in ["x" * 256, "%00", "%E2%80%AE", "%FF", "%4", "a*", "%2E%2E"]:
        await refused(server.ws(name), 400, "topic_name_invalid")
    await refused(server.ws(""), 404, "not_found")


@cases.add
async def a_malformed_position_is_refused(server):
    for since in ["x", "abc:", "abc:-1", "a!:1", "1:2:3"]:
        await refused(server.ws("since", f"?since={since}"), 400, "since_invalid")


@cases.add
async def a_foreign_origin_is_refused(server):
    await refused(server.ws("origin"), 403, "origin_not_allowed", origin="http://evil.example")
    async with connect(server.ws("origin"), origin=server.url):
        pass


def deflated_with(bits):
    return {"extensions": [ClientPerMessageDeflateFactory(server_max_window_bits=bits)]}


def encodings(server):
    """Encodings made, by variant."""
    lines = urllib.request.urlopen(f"{server.admin}/metrics").read().decode().splitlines()
    counts = (line.split('"') for line in lines if line.startswith("fanwire_encodings_total"))
    return {variant: int(float(count.removeprefix("} "))) for _, variant, count in counts}


@cases.add
async def an_offer_of_compression_is_answered_without_it(server):
    async with connect(server.ws("offer")) as socket:
        same(socket.protocol.extensions, [])


@cases.add
async def compressed_and_plain_subscribers_get_the_same(_):
    texts = [json.dumps([{"user": f"user {i}", "text": "hello " * n} for i in range(n)]) for n in (0, 1, 9, 40)]
    with Server(CONFIG.replace("1000", "65536") + "[websocket]\ncompression = true\n") as server:
        url = server.ws("deflate")
        options = [{}, {"compression": None}, *map(deflated_with, (8, 9, 12, 15))]
        sockets = [await connect(url, **each) for each in options]
        for socket, each in zip(sockets, options):
            kinds = [type(extension) for extension in socket.protocol.extensions]
            same(kinds, [] if "compression" in each else [PerMessageDeflate])
        for socket in sockets:
            for payload in [*texts, [texts[2], texts[3]], b"\x00\xff" * 5000]:
                await socket.send(payload)
                wanted = "".join(payload) if isinstance(payload, list) else payload
                for subscriber in sockets:
                    same(await subscriber.recv(), wanted)
            same((await (await socket.ping("still there?"))) >= 0, True)
        made = await asyncio.to_thread(encodings, server)
        # Of six payloads two are short.
        same([made[f"plain_deflate_{bits}"] for bits in (15, 12, 9)], [4 * len(sockets)] * 3)
        for socket in sockets:
            await socket.close()
            same(socket.close_code, 1000)


@cases.add
async def json_and_a_replay_come_deflated_too(_):
    with Server(CONFIG + "[websocket]\ncompression = true\n") as server:
        async with connect(server.ws("deflate", "?format=json")) as socket:
            texts = ["many words " * n for n in (50, 60, 70)]
            for text in texts:
                await socket.send(text)
            got = await objects(socket, 4)
            same([one["data"] for one in got[1:]], texts)
            since = f"?format=json&since={got[0]['subscribed']['epoch']}:0"
            async with connect(server.ws("deflate", since)) as late:
                same([one.get("data") for one in await objects(late, 4)], [None, *texts])
        made = await asyncio.to_thread(encodings, server)
        same((made["json"], made["json_deflate_15"]), (3, 3))


@cases.add
async def a_client_that_only_listens_gets_bare_pushes_deflated(_):
    with Server(CONFIG + "[websocket]\ncompression = true\n") as server:
        url = f"{server.url.replace('http', 'ws', 1)}/connection/uni_websocket"
        async with connect(url) as socket:
            await socket.send(json.dumps({"subs": {"uni": {}}}))
            connected = (await objects(socket))[0]["connect"]
            same((connected["ping"], list(connected["subs"])), (25, ["uni"]))
            texts = ["many words " * n for n in (50, 60)]
            async with connect(server.ws("uni", "?echo=false")) as publisher:
                for text in texts:
                    await publisher.send(text)
                got = await objects(socket, 2)
            same([(one["channel"], one["pub"]["data"]) for one in got], [("uni", text) for text in texts])
        made = await asyncio.to_thread(encodings, server)
        same(made["centrifugo_uni_frames_deflate_15"], 2)


@cases.add
async def a_draining_server_delivers_and_closes_with_1012(_):
    with Server(CONFIG) as server:
        socket = await connect(server.ws("drain"))
        await socket.send("last words")
        same(await received(socket), ["last words"])
        leaving = asyncio.create_task(closed(socket, 1012, "draining"))
        await asyncio.to_thread(server.stop)
        await leaving


if __name__ == "__main__":
    check(CONFIG, cases.run)
