"""Holds openapi.json against the server: makes every request that the file has, and looks whether
status, headers and body are as it says, and whether it has every method and every error.
"""

import base64
import http.client
import json
import urllib.parse
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from server import ROOT, check, report, same

KEY = "key-of-a-check-0123456789abcdef"
CONFIG = f"""
[auth]
api_keys = ["{KEY}"]

[drain]
window = "100ms"

[[topic]]
match = "forgetful*"
history_size = 0

[[topic]]
match = "members*"
presence = true
"""

SPEC = json.loads((ROOT / "openapi.json").read_text())
METHODS = ["get", "put", "post", "delete", "options", "head", "patch"]

# 404 and 405 are looked at path by path; `tests/it` brings about the rest.
NOT_PROVOKED = {"404", "405", "429", "500", "503"}

# What every operation answers alike, and every method of the server API.
ELSEWHERE = {"Origin": "https://elsewhere.example"}
OF_ALL = [
    {"name": "a wrong key", "headers": {"X-API-Key": "wrong"}, "status": 401, "code": "token_invalid"},
    {"name": "a page of elsewhere", "headers": ELSEWHERE, "status": 403, "code": "origin_not_allowed"},
]
OF_API = [
    {"name": "without a key", "anonymous": True, "status": 401, "code": "token_required"},
    {"name": "not JSON", "body": "nonsense", "status": 400, "code": "query_invalid"},
    {"name": "too much", "bodyLength": 4 * 1024 * 1024 + 1, "status": 413, "code": "message_too_large"},
    {
        "name": "an encoded body",
        "headers": {"Content-Encoding": "gzip"},
        "status": 415,
        "code": "content_encoding_unsupported",
    },
]


def strict(schema):
    """The same schema, for objects that have no other members than those it names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


COMPONENTS = strict(SPEC["components"])


def matches(schema, value):
    Draft202012Validator({"allOf": [strict(schema)], "components": COMPONENTS}).validate(value)


def resolved(item):
    while "$ref" in item:
        kind, name = item["$ref"].split("/")[-2:]
        item = SPEC["components"][kind][name]
    return item


def operations():
    for path, item in SPEC["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def requests(path, method, operation):
    """All requests of an operation: the examples of its body, its `x-requests`, and the general."""
    content = operation.get("requestBody", {}).get("content", {})
    for media_type, media in content.items():
        for name, example in media.get("examples", {}).items():
            matches(media["schema"], example["value"])
            value = example["value"]
            body = json.dumps(value) if media_type == "application/json" else value
            request = {"body": body, "headers": {"Content-Type": media_type}, "status": 200}
            yield name, {**request, "good": True}
    general = [*OF_ALL, *OF_API] if path.startswith("/api/") else OF_ALL
    if path == "/topics":
        general = [{"query": {"topic": "chat:1"}, **request} for request in general]
    for request in [*operation.get("x-requests", []), *general]:
        yield request["name"], request


class Answer:
    """Status, headers and as much of the body as there is at once."""

    def __init__(self, server, path, method, request):
        named = map(resolved, SPEC["paths"].get(path, {}).get("parameters", []))
        places = {parameter["name"]: parameter["example"] for parameter in named}
        for name, value in {**places, **request.get("path", {})}.items():
            path = path.replace(f"{{{name}}}", value if "%" in value else urllib.parse.quote(value, safe=""))
        if query := request.get("query"):
            pairs = query.items() if isinstance(query, dict) else map(tuple, query)
            path += "?" + urllib.parse.urlencode(list(pairs), safe=":")
        headers = {"Host": "127.0.0.1", **request.get("headers", {})}
        if path.startswith("/api/") and not request.get("anonymous"):
            headers.setdefault("X-API-Key", KEY)
        body = request.get("body", "")
        body = body if isinstance(body, str) else json.dumps(body)
        body = base64.b64decode(request["bodyBase64"]) if "bodyBase64" in request else body.encode()
        if method == "post":
            # A body that is announced too long is not waited for.
            headers["Content-Length"] = str(request.get("bodyLength", len(body)))
        address = urllib.parse.urlsplit(server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
        connection.putrequest(method.upper(), path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        self.status = response.status
        self.headers = response.headers
        self.content_type = response.headers.get("Content-Type", "").split(";")[0]
        is_stream = response.chunked
        self.text = (response.readline() if is_stream else response.read()).decode()
        connection.close()


def look(answer, operation):
    """Compares an answer with what the operation documents for its status."""
    documented = resolved(operation["responses"][str(answer.status)])
    for name, header in documented.get("headers", {}).items():
        value = answer.headers.get(name)
        assert value is not None or not header.get("required"), f"no header {name}"
        if value is not None:
            matches(header["schema"], int(value) if header["schema"].get("type") == "integer" else value)
    content = documented.get("content")
    if content is None:
        same(answer.text, "")
        return
    media = content.get(answer.content_type)
    assert media is not None, f"{answer.content_type!r} is none of {list(content)}"
    if answer.content_type != "text/event-stream":
        matches(media["schema"], json.loads(answer.text))


def make(server, path, method, operation, request):
    answer = Answer(server, path, method, request)
    same((answer.status, answer.text[:200] if answer.status != request["status"] else ""), (request["status"], ""))
    look(answer, operation)
    if "contentType" in request:
        same(answer.content_type, request["contentType"])
    body = json.loads(answer.text) if answer.content_type == "application/json" else {}
    if request.get("good"):
        assert "error" not in body, f"an example fails: {answer.text[:200]}"
    if "code" in request:
        same(body["error"]["code"], request["code"])
    if "error" in request:
        same(body.get("error", body)["code"], request["error"])


def other_methods(server, path, item):
    known = [method.upper() for method in METHODS if method in item]
    operation = next(item[method] for method in METHODS if method in item)
    for method in METHODS:
        answer = Answer(server, path, method, {"headers": {"Content-Length": "0"}})
        if method == "options":
            same((answer.status, answer.text), (204, ""))
        elif method == "head":
            same(answer.status, 405)
        elif method not in item:
            same(answer.status, 405)
            same(set(answer.headers["Allow"].split(", ")), {*known, "OPTIONS"})
            look(answer, operation)


def api_methods(server):
    answer = Answer(server, "/api/nothing", "post", {})
    same(answer.status, 404)
    listed = json.loads(answer.text)["error"]["message"].partition(": ")[2].split(", ")
    same(sorted(path.removeprefix("/api/") for path in SPEC["paths"] if path.startswith("/api/")), sorted(listed))


def words(server):
    """Errors are labels of metrics, which are all there from the start."""
    with urllib.request.urlopen(f"{server.admin}/metrics") as metrics:
        lines = metrics.read().decode().splitlines()

    def labels(metric, label):
        found = [line for line in lines if line.startswith(metric + "{")]
        return {line.partition(f'{label}="')[2].partition('"')[0] for line in found}

    schemas = SPEC["components"]["schemas"]
    documented = schemas["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    same(sorted(documented), sorted(labels("fanwire_requests_refused_total", "reason")))
    numbers = {str(code) for code in schemas["ApiError"]["properties"]["code"]["enum"]}
    assert numbers <= labels("fanwire_commands_refused_total", "code"), numbers


def every_status(path, method, operation):
    provoked = {str(request["status"]) for _, request in requests(path, method, operation)}
    same(set(operation["responses"]) - provoked - NOT_PROVOKED, set())


async def main(server):
    results = []

    def case(name, run, *arguments):
        error = None
        try:
            run(*arguments)
        except Exception as fault:
            error = fault
        results.append(report(name, error))

    # Somebody is there: lists of members are not empty.
    address = urllib.parse.urlsplit(server.url)
    member = http.client.HTTPConnection(address.hostname, address.port, timeout=20)
    member.request("GET", "/topics/members:1")
    same(member.getresponse().status, 200)
    case("openapi.json is valid", validate, SPEC)
    for path, method, operation in operations():
        case(f"{method} {path}: every status", every_status, path, method, operation)
        for name, request in requests(path, method, operation):
            case(f"{method} {path}: {name}", make, server, path, method, operation, request)
    for path, item in SPEC["paths"].items():
        case(f"methods of {path}", other_methods, server, path, item)
    case("the file has every method of the server API", api_methods, server)
    case("the file has every error", words, server)
    member.close()
    return all(results)


check(CONFIG, main)
