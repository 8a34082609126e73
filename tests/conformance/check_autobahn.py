"""The Autobahn cases against the plain door, on the path that every publication takes.

The echo is a subscriber that gets its own publications back. Each case has a topic of its own, so
that a case cannot see what another one sent.
"""

import asyncio
import pathlib
import sys

from kosoku import FailureError, run_fuzzingclient

from server import Server, describe, report

# The runner itself gives up on a large echo after 100 s.
SECONDS_MAX = 120

CASES = pathlib.Path(__file__).with_name("autobahn-cases.txt")

CONFIG = """
[limits]
message_bytes_max = 33554432
fragments_max = 1048576
outbox_bytes_max = 67108864
memory_bytes_max = 2147483648

[drain]
window = "100ms"

[[topic]]
match = "autobahn*"
history_size = 0
"""


def expected():
    """Case id to the verdicts it may have."""
    lines = (line.split("#")[0].split() for line in CASES.read_text().splitlines())
    return {words[0]: ["OK", *map(str.upper, words[1:])] for words in lines if words}


async def fault(server, case, verdicts):
    try:
        results = await run_fuzzingclient(server.ws(f"autobahn-{case}"), [case])
    except FailureError as failure:
        results = failure.results
    if [result.case_id for result in results] != [case]:
        return f"the runner answers with other cases: {results}"
    result = results[0]
    if result.behavior.value not in verdicts:
        return f"{result.behavior.value}: {result.result}"
    if result.behavior_close.value not in ("OK", "INFORMATIONAL"):
        return f"closing {result.behavior_close.value}: {result.result_close}"
    return None


async def run(server, cases, at_once):
    """Runs `cases` and returns whether all are as expected."""
    gate = asyncio.Semaphore(at_once)

    async def one(case, verdicts):
        async with gate:
            try:
                why = await asyncio.wait_for(fault(server, case, verdicts), SECONDS_MAX)
            except Exception as error:
                why = describe(error)
            return report(f"autobahn {case}", why)

    return all(await asyncio.gather(*(one(case, verdicts) for case, verdicts in cases.items())))


async def main(server):
    # Group 9 measures megabytes: few at once, or they wait for each other.
    cases = expected()
    large = {case: verdicts for case, verdicts in cases.items() if case.startswith("9.")}
    small = {case: verdicts for case, verdicts in cases.items() if case not in large}
    good = await run(server, small, 8)
    return await run(server, large, 2) and good


if __name__ == "__main__":
    good = False
    try:
        with Server(CONFIG) as server:
            good = asyncio.run(main(server))
        report("autobahn server stops with 0")
    except Exception as error:
        good = report("autobahn server starts, and stops with 0", describe(error))
    sys.exit(0 if good else 1)
