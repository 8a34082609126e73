"""The Autobahn cases against the plain door, on the path that every publication takes.

The echo is a subscriber that gets its own publications back. Each case has a topic of its own, so
that a case cannot see what another one sent.
"""

import asyncio
import os
import pathlib

from kosoku import FailureError, run_fuzzingclient

from server import check, report

# The runner itself gives up on a large echo after 100 s, and on a thousand deflated ones after 480.
SECONDS_MAX = 500

FULL = os.environ.get("TEST_FULL") == "1"
CASES = pathlib.Path(__file__).with_name("autobahn-cases.txt")

CONFIG = """
[limits]
message_bytes_max = 33554432
fragments_max = 1048576
outbox_bytes_max = 67108864
memory_bytes_max = 2147483648

# All is deflated, however short: the runner stumbles over text that comes as it is where it sent it
# deflated ("Strings must be encoded before hashing").
[websocket]
compression = true
compression_min_bytes = 0

[drain]
window = "100ms"

[[topic]]
match = "autobahn*"
history_size = 0
"""


def expected():
    """Case id to the verdicts it may have; with TEST_FULL=1 the long ones are among them."""
    lines = (line.split("#")[0].split() for line in CASES.read_text().splitlines())
    wanted = (words for words in lines if words and ("full" not in words or FULL))
    return {words[0]: ["OK", *map(str.upper, words[1:])] for words in wanted}


async def demand(server, case, verdicts):
    try:
        results = await run_fuzzingclient(server.ws(f"autobahn-{case}"), [case])
    except FailureError as failure:
        results = failure.results
    assert [result.case_id for result in results] == [case], f"other cases came back: {results}"
    result = results[0]
    behavior, close = result.behavior.value, result.behavior_close.value
    assert behavior in verdicts, f"{behavior}: {result.result}"
    assert close in ("OK", "INFORMATIONAL"), f"closing {close}: {result.result_close}"


async def run(server, cases, at_once):
    """Runs `cases` and returns whether all are as expected."""
    gate = asyncio.Semaphore(at_once)

    async def one(case, verdicts):
        error = None
        async with gate:
            try:
                await asyncio.wait_for(demand(server, case, verdicts), SECONDS_MAX)
            except Exception as fault:
                error = fault
        return report(f"autobahn {case}", error)

    return all(await asyncio.gather(*(one(case, verdicts) for case, verdicts in cases.items())))


async def main(server):
    # Group 9 measures megabytes, 12 and 13 echo a hundred of them: few at once, or they wait for
    # each other.
    cases = expected()
    large = {case: verdicts for case, verdicts in cases.items() if case.startswith(("9.", "12.", "13."))}
    small = {case: verdicts for case, verdicts in cases.items() if case not in large}
    return all([await run(server, small, 8), await run(server, large, 2)])


if __name__ == "__main__":
    check(CONFIG, main)
