"""Starts the server for the Python checks, and runs their cases.

A check prints one line per case, `ok NAME` or `not ok NAME: WHY`, which `tests/run` counts.
"""

import asyncio
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TEST_BINARY", str(ROOT / "target/debug/fanwire"))
LOGS = pathlib.Path(os.environ.get("TEST_LOGS", ROOT / "target/test-logs"))
SECONDS_MAX = 30

# Top-level keys, so it stands before the tables of a check.
BASE = 'listen = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n'


def environment():
    """Ours without the server's own variables: a developer's must not leak into the checks."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FANWIRE_")}


class Server:
    """A server with `config` (TOML tables) on free ports; `with` stops it and demands exit code 0."""

    def __init__(self, config=""):
        self.config = BASE + config

    def __enter__(self):
        LOGS.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False)
        with file:
            file.write(self.config)
        self.config_file = pathlib.Path(file.name)
        self.log = open(LOGS / f"{pathlib.Path(sys.argv[0]).stem}.server.log", "ab")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--config", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment(),
        )
        # The pipe is read to its end, whatever else the server says there, so that it never fills.
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        try:
            self.url = self._address(lines, "listening ")
            self.admin = self._address(lines, "admin ")
        except BaseException:
            self.process.kill()
            self._forget()
            raise
        return self

    def _read(self, lines):
        for line in self.process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    def _address(self, lines, label):
        while True:
            try:
                line = lines.get(timeout=SECONDS_MAX)
            except queue.Empty:
                raise AssertionError(f"no line `{label}..` on stdout within {SECONDS_MAX} s") from None
            if line is None:
                last = pathlib.Path(self.log.name).read_text(errors="replace").splitlines()[-1:]
                raise AssertionError(f"ended before `{label}..`: {last}; its log: {self.log.name}")
            if line.startswith(label):
                return line.removeprefix(label).strip()

    def topic(self, name, query=""):
        return f"{self.url}/topics/{name}{query}"

    def ws(self, name, query=""):
        return self.topic(name, query).replace("http", "ws", 1)

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is None and code != 0:
            raise AssertionError(f"exit code after SIGTERM: {code}; its log: {self.log.name}")

    def stop(self):
        """Asks the server to drain, and returns its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self._forget()
        return self.process.returncode

    def _forget(self):
        self.log.close()
        self.config_file.unlink()


def same(got, wanted):
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def report(name, error=None):
    """Prints one case's line; returns whether it is good."""
    if error is None:
        print(f"ok {name}", flush=True)
        return True
    why = f"{type(error).__name__}: {error}" if str(error) else repr(error)
    print(f"not ok {name}: {' '.join(why.split())[:300]}", flush=True)
    return False


def check(config, main):
    """Runs `main(server)`, which tells whether all is good, and exits accordingly.

    That the server starts, and stops well, is the last case.
    """
    good = True
    error = None
    try:
        with Server(config) as server:
            good = asyncio.run(main(server))
    except Exception as fault:  # whatever it is, it is the check's result
        error = fault
    good = report("server starts, and stops with 0", error) and good
    sys.exit(0 if good else 1)


class Cases:
    """The cases of one check, in the order they are written: `@cases.add` on async functions."""

    def __init__(self):
        self.listed = []

    def add(self, function):
        self.listed.append(function)
        return function

    async def run(self, server):
        return all([await self._one(function, server) for function in self.listed])

    @staticmethod
    async def _one(function, server):
        error = None
        try:
            await asyncio.wait_for(function(server), SECONDS_MAX)
        except Exception as fault:
            error = fault
        return report(function.__name__.replace("_", " "), error)
