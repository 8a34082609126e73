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
                raise AssertionError(f"ended before `{label}..`; its log: {self.log.name}")
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


def report(name, fault=None):
    """One case's line."""
    text = " ".join(str(fault).split())
    print(f"ok {name}" if fault is None else f"not ok {name}: {text[:300]}", flush=True)
    return fault is None


def describe(error):
    return f"{type(error).__name__}: {error}" if str(error) else repr(error)


class Cases:
    """The cases of one check, in the order they are written: `@cases.add` on async functions."""

    def __init__(self):
        self.listed = []

    def add(self, function):
        self.listed.append(function)
        return function

    def run(self, config=""):
        """Runs all against one server and exits; stopping it well is the last case."""
        good = True
        try:
            with Server(config) as server:
                good = asyncio.run(self._run(server))
        except Exception as error:  # whatever it is, it is the check's result
            good = report("server starts, and stops with 0", describe(error))
        else:
            report("server starts, and stops with 0")
        sys.exit(0 if good else 1)

    async def _run(self, server):
        good = True
        for function in self.listed:
            name = function.__name__.replace("_", " ")
            try:
                await asyncio.wait_for(function(server), SECONDS_MAX)
                report(name)
            except Exception as error:
                good = report(name, describe(error))
        return good
