"""The Centrifugo door as the Python package `centrifuge-python` sees it, in JSON and in protobuf."""

import asyncio
import base64
import collections
import hashlib
import hmac
import json
import time
import urllib.request

from centrifuge import Client, DeltaType, ReplyError, StreamPosition

from relay import Relay
from server import Cases, Server, check, same

SECRET = "a secret of these checks"
CONFIG = f"""
[auth]
jwt_hmac_secret = "{SECRET}"

[drain]
window = "100ms"

[limits]
topics_per_session_max = 4

[[topic]]
match = "forgetful*"
history_size = 0

[[topic]]
match = "short*"
history_size = 3

[[topic]]
match = "announcements*"
publish = "server"

[[topic]]
match = "there*"
presence = true
"""

cases = Cases()


class Encoding:
    """One of the two encodings of the protocol, whose SDK takes other payloads."""

    def __init__(self, name, is_protobuf):
        self.name = name
        self.is_protobuf = is_protobuf

    def payload(self, value):
        return json.dumps(value).encode() if self.is_protobuf else value

    def value(self, data):
        return json.loads(data) if isinstance(data, bytes) else data


def in_both_encodings(function):
    for encoding in (Encoding("json", False), Encoding("protobuf", True)):

        async def one(server, encoding=encoding):
            await function(server, encoding)

        one.__name__ = f"{function.__name__} in {encoding.name}"
        cases.add(one)
    return function


class Heard:
    """What a client or a subscription is told, by event: `on_publication` is `next("publication")`."""

    def __init__(self):
        self._queues = collections.defaultdict(asyncio.Queue)

    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def hear(context):
            self._queues[name.removeprefix("on_")].put_nowait(context)

        return hear

    async def next(self, event):
        return await self._queues[event].get()

    async def publications(self, count):
        return [(await self.next("publication")).pub for _ in range(count)]

    def is_quiet(self, event):
        return self._queues[event].empty()


def door(url):
    return url.replace("http", "ws", 1) + "/connection/websocket"


class Connected:
    """A client that is connected inside `async with`; `heard` has what it was told."""

    def __init__(self, url, encoding, **options):
        self.heard = Heard()
        options = {"min_reconnect_delay": 0.02, "max_reconnect_delay": 0.1, "proxy": None, **options}
        self.client = Client(
            door(url), events=self.heard, use_protobuf=encoding.is_protobuf, **options
        )

    async def __aenter__(self):
        await self.client.connect()
        await self.heard.next("connecting")
        self.told = await self.heard.next("connected")
        return self

    async def __aexit__(self, *_):
        await self.client.disconnect()

    def subscription(self, channel, **options):
        options = {"min_resubscribe_delay": 0.02, "max_resubscribe_delay": 0.1, **options}
        subscription = self.client.new_subscription(channel, events=Heard(), **options)
        subscription.heard = subscription.events
        return subscription

    async def subscribe(self, channel, **options):
        subscription = self.subscription(channel, **options)
        await subscription.subscribe()
        await subscription.heard.next("subscribing")
        subscription.told = await subscription.heard.next("subscribed")
        return subscription

    async def refused(self, channel, **options):
        """The code with which the server ends the attempt to subscribe."""
        subscription = self.subscription(channel, **options)
        await subscription.subscribe()
        return (await subscription.heard.next("unsubscribed")).code


async def error_of(call):
    try:
        await call
    except ReplyError as error:
        return error.code
    return None


def token(**claims):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    parts = [{"alg": "HS256", "typ": "JWT"}, claims]
    signed = ".".join(part(json.dumps(one).encode()) for one in parts)
    return f"{signed}.{part(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"


def soon(seconds):
    return int(time.time()) + seconds


async def post(server, topic, body):
    request = urllib.request.Request(server.topic(topic), data=body.encode(), method="POST")
    await asyncio.to_thread(lambda: urllib.request.urlopen(request).read())


@in_both_encodings
async def every_subscriber_gets_a_publication_with_its_publisher(server, encoding):
    topic = f"all-{encoding.name}"
    async with Connected(server.url, encoding) as one, Connected(server.url, encoding) as other:
        subscriptions = [await one.subscribe(topic), await other.subscribe(topic)]
        await subscriptions[0].publish(encoding.payload({"text": "hello"}))
        for subscription in subscriptions:
            [publication] = await subscription.heard.publications(1)
            same((encoding.value(publication.data), publication.offset), ({"text": "hello"}, 1))
            same(publication.info.client, one.told.client)


@in_both_encodings
async def what_curl_publishes_arrives_as_json_and_the_other_way_round(server, encoding):
    topic = f"doors-{encoding.name}"
    async with Connected(server.url, encoding) as client:
        subscription = await client.subscribe(topic)
        await post(server, topic, '{"from":"curl"}')
        await post(server, topic, "not JSON")
        first, second = [one.data for one in await subscription.heard.publications(2)]
        text = b"not JSON" if encoding.is_protobuf else "not JSON"
        same((encoding.value(first), second), ({"from": "curl"}, text))
        await subscription.publish(encoding.payload({"from": "python"}))
        with urllib.request.urlopen(server.topic(topic) + "/history") as answer:
            publications = json.load(answer)["publications"]
        same(json.loads(publications[-1]["data"]), {"from": "python"})


@in_both_encodings
async def history_is_read_forward_backward_and_from_a_position(server, encoding):
    async with Connected(server.url, encoding) as client:
        subscription = await client.subscribe(f"history-{encoding.name}")
        for number in range(1, 6):
            await subscription.publish(encoding.payload(number))

        async def offsets(**options):
            return [one.offset for one in (await subscription.history(**options)).publications]

        same(await offsets(limit=2), [1, 2])
        same(await offsets(limit=2, reverse=True), [5, 4])
        top = await subscription.history(limit=0)
        same((top.offset, top.publications), (5, []))
        since = StreamPosition(offset=3, epoch=top.epoch)
        same(await offsets(limit=-1, since=since), [4, 5])
        foreign = StreamPosition(offset=3, epoch="another")
        same(await error_of(subscription.history(limit=-1, since=foreign)), 112)


@in_both_encodings
async def nothing_is_lost_doubled_or_turned_round_by_lost_connections(server, encoding):
    topic = f"lost-{encoding.name}"
    async with Relay(server.url) as relay, Connected(server.url, encoding) as publisher:
        async with Connected(relay.url, encoding) as client:
            subscription = await client.subscribe(topic, recoverable=True)
            for number in range(150):
                await publisher.client.publish(topic, encoding.payload(number))
                if number % 50 == 20:
                    relay.cut()
                    told = await subscription.heard.next("subscribing")
                    same(told.code, 1)  # the SDK's own: transport closed
                if number % 50 == 40:
                    told = await subscription.heard.next("subscribed")
                    same((told.was_recovering, told.recovered), (True, True))
            got = await subscription.heard.publications(150)
            same([encoding.value(one.data) for one in got], list(range(150)))


@in_both_encodings
async def too_much_missed_is_told(server, encoding):
    topic = f"short-{encoding.name}"
    async with Connected(server.url, encoding) as publisher:
        async with Connected(server.url, encoding) as client:
            subscription = await client.subscribe(topic)
            await client.client.disconnect()
            for number in range(1, 10):
                await publisher.client.publish(topic, encoding.payload(number))
            await client.client.connect()
            told = await subscription.heard.next("subscribed")
            same((told.was_recovering, told.recovered), (True, False))
            same(told.stream_position.offset, 9)
            await publisher.client.publish(topic, encoding.payload("live"))
            [publication] = await subscription.heard.publications(1)
            same((publication.offset, encoding.value(publication.data)), (10, "live"))


@in_both_encodings
async def a_token_names_the_user_and_brings_subscriptions(server, encoding):
    plain, detailed = f"news-{encoding.name}", f"team-{encoding.name}"
    claims = {
        "sub": "ann",
        "info": {"name": "Ann"},
        "channels": [plain],
        "subs": {detailed: {"data": {"motd": "hi"}, "info": {"role": "lead"}}},
    }
    async with Connected(server.url, encoding, token=token(**claims)) as client:
        told = [await client.heard.next("subscribed") for _ in range(2)]
        data = {one.channel: encoding.value(one.data) for one in told}
        same(data, {plain: None, detailed: {"motd": "hi"}})
        await client.client.publish(detailed, encoding.payload(1))
        arrived = await client.heard.next("publication")
        info = arrived.pub.info
        same((arrived.channel, info.user), (detailed, "ann"))
        same(encoding.value(info.conn_info), {"name": "Ann"})
        same(encoding.value(info.chan_info), {"role": "lead"})
        same(await client.refused(plain), 105)


@in_both_encodings
async def a_subscription_by_token_recovers_what_it_missed(server, encoding):
    topic = f"given-{encoding.name}"
    async with Relay(server.url) as relay, Connected(server.url, encoding) as publisher:
        claims = token(sub="ann", channels=[topic])
        async with Connected(relay.url, encoding, token=claims) as client:
            same((await client.heard.next("subscribed")).recoverable, True)
            for number in range(40):
                await publisher.client.publish(topic, encoding.payload(number))
                if number == 20:
                    relay.cut()
            got = [(await client.heard.next("publication")).pub.data for _ in range(40)]
            same([encoding.value(data) for data in got], list(range(40)))
            same((await client.heard.next("subscribed")).recovered, True)


@in_both_encodings
async def members_are_listed_counted_and_heard_to_come_and_go(server, encoding):
    topic = f"there-{encoding.name}"
    ann = token(sub="ann", info={"name": "Ann"})
    async with Connected(server.url, encoding, token=ann) as one:
        here = await one.subscribe(topic, join_leave=True)
        same((await here.heard.next("join")).info.client, one.told.client)
        async with Connected(server.url, encoding, token=token(sub="bob")) as other:
            await other.subscribe(topic)
            joined = (await here.heard.next("join")).info
            same((joined.user, joined.client), ("bob", other.told.client))
            members = (await here.presence()).clients
            same({one.client: one.user for one in members.values()},
                 {one.told.client: "ann", other.told.client: "bob"})
            info = encoding.value(members[one.told.client].conn_info)
            same(info, {"name": "Ann"})
            counts = await one.client.presence_stats(topic)
            same((counts.num_clients, counts.num_users), (2, 2))
        same((await here.heard.next("leave")).info.client, other.told.client)
        counts = await here.presence_stats()
        same((counts.num_clients, counts.num_users), (1, 1))
        with urllib.request.urlopen(server.topic(topic) + "/presence") as answer:
            same(json.load(answer)["clients"], 1)


@in_both_encodings
async def deltas_make_what_was_published(server, encoding):
    topic = f"delta-{encoding.name}"
    texts = [{"number": number, "rest": "the same in all of them " * 20} for number in range(30)]
    async with Relay(server.url) as relay, Connected(server.url, encoding) as publisher:
        async with Connected(relay.url, encoding) as client:
            subscription = await client.subscribe(topic, delta=DeltaType.FOSSIL, recoverable=True)
            deltas = 0
            for count, text in enumerate(texts, 1):
                await publisher.client.publish(topic, encoding.payload(text))
                if count == 15:
                    relay.cut()
            for text in texts:
                [publication] = await subscription.heard.publications(1)
                same(encoding.value(publication.data), text)
                deltas += publication.delta
            # The first one of a subscription is whole, unless it was recovered.
            assert deltas >= 20, f"only {deltas} of {len(texts)} came as deltas"


@in_both_encodings
async def a_connection_token_that_runs_out_is_renewed(server, encoding):
    asked, lives = asyncio.Queue(), iter((2, 60))

    async def renew():
        asked.put_nowait(True)
        return token(sub="ann", exp=soon(next(lives)))

    async with Connected(server.url, encoding, get_token=renew) as client:
        await asked.get()
        await asked.get()
        # Replies come in order: after the second one the renewal was answered, too.
        for _ in range(2):
            await client.client.publish("renewed", encoding.payload("still here"))
        same([client.heard.is_quiet(event) for event in ("error", "disconnected")], [True, True])


@in_both_encodings
async def a_token_that_has_run_out_is_renewed_before_connecting(server, encoding):
    async def renew():
        return token(sub="ann", exp=soon(60))

    expired = token(sub="ann", exp=soon(-60))
    async with Connected(server.url, encoding, token=expired, get_token=renew) as client:
        same((await client.heard.next("error")).error.code, 109)


@in_both_encodings
async def a_subscription_token_lets_in_and_is_renewed(server, encoding):
    topic, asked, lives = f"$private-{encoding.name}", asyncio.Queue(), iter((2, 60))

    async def renew(channel):
        asked.put_nowait(channel)
        return token(sub="ann", channel=channel, exp=soon(next(lives)), info={"role": "lead"})

    async with Connected(server.url, encoding, token=token(sub="ann")) as client:
        subscription = await client.subscribe(topic, get_token=renew)
        same([await asked.get(), await asked.get()], [topic, topic])
        for _ in range(2):
            await subscription.publish(encoding.payload("still here"))
            [publication] = await subscription.heard.publications(1)
            same(encoding.value(publication.info.chan_info), {"role": "lead"})
        same([subscription.heard.is_quiet(event) for event in ("error", "unsubscribed")], [True, True])


@in_both_encodings
async def an_expired_subscription_token_is_replaced(server, encoding):
    topic, asked = f"$replaced-{encoding.name}", []

    async def renew(channel):
        asked.append(channel)
        return token(sub="ann", channel=channel, exp=soon(60))

    expired = token(sub="ann", channel=topic, exp=soon(-60))
    async with Connected(server.url, encoding, token=token(sub="ann")) as client:
        subscription = await client.subscribe(topic, token=expired, get_token=renew)
        same((await subscription.heard.next("error")).error.code, 109)
        same(asked, [topic])


@in_both_encodings
async def subscriptions_are_refused_with_the_codes_of_the_protocol(server, encoding):
    async with Connected(server.url, encoding, token=token(sub="ann")) as client:
        same(await client.refused(f"$private-{encoding.name}"), 103)
        bad = token(sub="ann", channel="$bad")[:-4] + "AAAA"
        same(await client.refused("$bad", token=bad), 103)
        same(await client.refused("x" * 256), 107)
        for number in range(4):
            await client.subscribe(f"limit-{number}")
        same(await client.refused("limit-4"), 106)


@in_both_encodings
async def commands_are_refused_with_the_codes_of_the_protocol(server, encoding):
    async with Connected(server.url, encoding) as client:
        sdk, payload = client.client, encoding.payload(1)
        same(await error_of(sdk.publish("announcements", payload)), 103)
        same(await error_of(sdk.publish("x" * 256, payload)), 107)
        same(await error_of(sdk.history("forgetful", limit=1)), 108)
        same(await error_of(sdk.presence("quiet")), 108)
        same(await error_of(sdk.presence_stats("quiet")), 108)
        same(await error_of(sdk.rpc("method", payload)), 108)


async def ended_with(url, encoding, **options):
    """The code that ends a client for good before it is connected."""
    heard = Heard()
    options = {"proxy": None, **options}
    client = Client(door(url), events=heard, use_protobuf=encoding.is_protobuf, **options)
    await client.connect()
    return (await heard.next("disconnected")).code


@in_both_encodings
async def a_forged_token_ends_the_client_for_good(server, encoding):
    same(await ended_with(server.url, encoding, token=token(sub="ann")[:-4] + "AAAA"), 3500)
    foreign = token(sub="ann", channel="a subscription token")
    same(await ended_with(server.url, encoding, token=foreign), 3500)


@in_both_encodings
async def a_token_of_another_ends_the_client_for_good(server, encoding):
    async with Connected(server.url, encoding, token=token(sub="ann")) as client:
        stolen = client.subscription("$stolen", token=token(sub="bob", channel="$stolen"))
        await stolen.subscribe()
        same((await client.heard.next("disconnected")).code, 3500)


@in_both_encodings
async def a_message_over_the_limit_is_told(server, encoding):
    async with Connected(server.url, encoding) as client:
        call = asyncio.ensure_future(client.client.publish("large", encoding.payload("x" * 70_000)))
        same((await client.heard.next("connecting")).code, 3)  # the SDK's own: message size limit
        await asyncio.gather(call, return_exceptions=True)


@in_both_encodings
async def nobody_comes_in_without_a_token_where_none_is_let_in(_, encoding):
    with Server(CONFIG.replace("[auth]", '[auth]\nanonymous = "none"')) as server:
        same(await ended_with(server.url, encoding), 3501)
        async with Connected(server.url, encoding, token=token(sub="ann")) as client:
            await client.client.publish("let in", encoding.payload(1))


@in_both_encodings
async def a_draining_server_delivers_and_tells_its_clients_to_come_back(_, encoding):
    with Server(CONFIG) as server:
        async with Connected(server.url, encoding) as client:
            subscription = await client.subscribe("drain")
            await subscription.publish(encoding.payload("last words"))
            await asyncio.to_thread(server.stop)
            [publication] = await subscription.heard.publications(1)
            same(encoding.value(publication.data), "last words")
            same((await client.heard.next("connecting")).code, 3001)


if __name__ == "__main__":
    check(CONFIG, cases.run)
