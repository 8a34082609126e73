"""The server API as PyPI `cent` sees it, the client library of Centrifugo's."""

import base64
import functools
import hashlib
import hmac
import json

from cent import (
    AsyncClient,
    BatchRequest,
    BoolValue,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelOptionsOverride,
    ChannelsRequest,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from websockets.asyncio.client import connect

from server import Cases, check, same

KEY = "key-of-a-check-0123456789abcdef"
SECRET = "a secret of these checks, 32 bytes"
CONFIG = f"""
[auth]
api_keys = ["{KEY}"]
jwt_hmac_secret = "{SECRET}"

[drain]
window = "100ms"

[[topic]]
match = "forgetful*"
history_size = 0

[[topic]]
match = "*"
presence = true
"""

cases = Cases()


def api(server, key=KEY):
    return AsyncClient(f"{server.url}/api", api_key=key)


def case(function):
    """Adds a case that gets a client of the API, too."""

    @cases.add
    @functools.wraps(function)
    async def with_client(server):
        async with api(server) as client:
            await function(server, client)

    return with_client


def token(user):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = b".".join(part(json.dumps(one).encode()) for one in ({"alg": "HS256"}, {"sub": user}))
    return (signed + b"." + part(hmac.digest(SECRET.encode(), signed, hashlib.sha256))).decode()


class User:
    """A connected client of the Centrifugo protocol; `async with` closes it."""

    def __init__(self, server, name):
        self.connecting = connect(f"{server.url.replace('http', 'ws', 1)}/connection/websocket")
        self.name = name
        self.waiting = []

    async def __aenter__(self):
        self.socket = await self.connecting
        await self.send({"id": 1, "connect": {"token": token(self.name)}})
        self.id = (await self.next())["connect"]["client"]
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def send(self, command):
        await self.socket.send(json.dumps(command))

    async def next(self):
        while not self.waiting:
            self.waiting = [json.loads(line) for line in (await self.socket.recv()).splitlines()]
        return self.waiting.pop(0)

    async def push(self, kind):
        push = (await self.next())["push"]
        assert kind in push, f"no {kind}: {push}"
        return push[kind]


async def fails(code, call):
    try:
        await call
    except CentApiResponseError as error:
        same(error.code, code)
    else:
        raise AssertionError("it went well")


@case
async def publications_get_their_places(_, client):
    first = await client.publish(PublishRequest(channel="a", data={"n": 1}, tags={"lang": "en"}))
    again = PublishRequest(channel="a", data={"n": 2}, idempotency_key="once")
    second = await client.publish(again)
    same((await client.publish(again)).offset, second.offset)
    same((first.offset, second.offset, second.epoch), (1, 2, first.epoch))
    answer = await client.broadcast(BroadcastRequest(channels=["a", "b"], data=[3]))
    same([one.result.offset for one in answer.responses], [3, 1])
    await client.publish(PublishRequest(channel="forgetful", data=None, b64data="AP8="))
    await fails(107, client.publish(PublishRequest(channel="", data=1)))
    passing = await client.publish(PublishRequest(channel="a", data=1, skip_history=True))
    assert not passing.offset and not passing.epoch, passing
    same((await client.publish(PublishRequest(channel="a", data=1))).offset, 4)


@case
async def history_is_read_and_removed(_, client):
    epoch = (await client.publish(PublishRequest(channel="h", data=0))).epoch
    for number in range(1, 4):
        await client.publish(PublishRequest(channel="h", data=number, tags={"n": str(number)}))
    since = StreamPosition(offset=2, epoch=epoch)
    page = await client.history(HistoryRequest(channel="h", limit=10, since=since))
    same([one.data for one in page.publications], [2, 3])
    same((page.offset, page.epoch, page.publications[0].tags), (4, epoch, {"n": "2"}))
    newest = await client.history(HistoryRequest(channel="h", limit=1, reverse=True))
    same([one.offset for one in newest.publications], [4])
    await client.history_remove(HistoryRemoveRequest(channel="h"))
    same((await client.history(HistoryRequest(channel="h", limit=-1))).publications, [])
    other = StreamPosition(offset=1, epoch="other")
    await fails(112, client.history(HistoryRequest(channel="h", limit=1, since=other)))
    await fails(108, client.history(HistoryRequest(channel="forgetful")))


@case
async def a_user_is_subscribed_and_unsubscribed(server, client):
    async with User(server, "ann") as ann:
        hears = ChannelOptionsOverride(force_push_join_leave=BoolValue(value=True))
        request = {"user": "ann", "channel": "news", "data": {"hi": 1}, "override": hears}
        await client.subscribe(SubscribeRequest(**request))
        same((await ann.push("subscribe"))["data"], {"hi": 1})
        same((await ann.push("join"))["info"]["client"], ann.id)
        await client.publish(PublishRequest(channel="news", data="x"))
        same((await ann.push("pub"))["data"], "x")
        there = await client.presence(PresenceRequest(channel="news"))
        same([(one.user, one.client) for one in there.presence.values()], [("ann", ann.id)])
        count = await client.presence_stats(PresenceStatsRequest(channel="news"))
        same((count.num_clients, count.num_users), (1, 1))
        listed = await client.channels(ChannelsRequest(pattern="new*"))
        same({name: one.num_clients for name, one in listed.channels.items()}, {"news": 1})
        await client.unsubscribe(UnsubscribeRequest(user="ann", channel="news"))
        same((await ann.push("unsubscribe"))["code"], 2000)
        placed = await client.publish(PublishRequest(channel="news", data="y"))
        since = StreamPosition(offset=placed.offset - 1, epoch=placed.epoch)
        request = {"user": "ann", "channel": "news", "recover_since": since}
        await client.subscribe(SubscribeRequest(**request, expire_at=4102444800))
        same((await ann.push("subscribe"))["offset"], since.offset)
        same((await ann.push("pub"))["data"], "y")


@case
async def a_user_is_refreshed_and_disconnected(server, client):
    async with User(server, "ann") as ann, User(server, "ann") as other:
        await client.refresh(RefreshRequest(user="ann", client=ann.id, expire_at=4102444800))
        same((await ann.push("refresh"))["expires"], True)
        words = Disconnect(code=4321, reason="moved")
        request = DisconnectRequest(user="ann", whitelist=[other.id], disconnect=words)
        await client.disconnect(request)
        await ann.socket.wait_closed()
        same((ann.socket.close_code, ann.socket.close_reason), (4321, "moved"))
        await client.disconnect(DisconnectRequest(user="ann"))
        await other.socket.wait_closed()
        same((other.socket.close_code, other.socket.close_reason), (3503, "force disconnect"))


@case
async def a_node_and_a_batch_are_understood(_, client):
    (node,) = (await client.info(InfoRequest())).nodes
    assert node.uid and node.version and node.uptime is not None
    requests = [PublishRequest(channel="b", data=1), InfoRequest(), HistoryRequest(channel="b")]
    published, info, page = (await client.batch(BatchRequest(requests=requests))).replies
    same((published.offset, published.epoch), (page.offset, page.epoch))
    same(info.nodes[0].uid, node.uid)


@cases.add
async def a_wrong_key_is_told(server):
    async with api(server, "wrong") as client:
        try:
            await client.info(InfoRequest())
        except CentUnauthorizedError:
            return
    raise AssertionError("it went well")


check(CONFIG, cases.run)
