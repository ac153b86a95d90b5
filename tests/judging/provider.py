"""A local server that judges: it speaks Messages and Message Batches, counts what is asked, and can be told to fail.

What it says of an answer follows from a text's own words, so that tests know every verdict beforehand.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from defsurvey.storage.runs.judgement import DIMENSIONS, Rubric
from defsurvey.workers.judging.prompt import calibration_set
from tests.workers.api.server import message


def prompt_of(params: Mapping[str, Any]) -> str:
    return str(params["messages"][-1]["content"])


def response_in(prompt: str) -> str:
    between = prompt.split("[response ")[1].split("]")[0]
    return prompt.split(f"[response {between}]\n")[1].split(f"\n[end of response {between}]")[0]


def _known() -> dict[str, tuple[str, str]]:
    items = [item for rubric in Rubric for item in calibration_set(rubric)]
    return {item.subject.response: (item.dimension, item.label.value) for item in items}


def fair(response: str) -> str:
    dimension, label = _known().get(response, ("ff", "fail" if "flat" in response else "pass"))
    return verdicts(response, **{dimension: label})


def lenient(response: str) -> str:
    return verdicts(response)


def verdicts(response: str, **changes: str) -> str:
    quoted = " ".join(response.split()[:3])
    said = {name: {"evidence": quoted, "reason": "", "verdict": changes.get(name, "pass")} for name in DIMENSIONS}
    return json.dumps(said, ensure_ascii=False)


class JudgeServer:
    def __init__(self, judge: Callable[[str], str]) -> None:
        self.judge = judge
        self.asked: Counter[str] = Counter()  #: prompt -> how often it was asked alone
        self.batches: dict[str, dict[str, Any]] = {}
        self.outcome: Callable[[str, int], str] = lambda prompt, batch: "succeeded"  #: of a call, in the n-th batch
        self.looks_until_ended = 2
        self.held = threading.Event()  #: while it is not set, batches do not end
        self.held.set()
        self.before_reply: Callable[[str], None] = lambda path: None
        self.refused: Callable[[str], bool] = lambda prompt: False  #: whether a call of this prompt is a bad request
        self.gone: set[str] = set()  #: batches that it knows no more
        self.told_gone = "not_found_error"  #: the kind of error with which it says so
        self.archived: set[str] = set()  #: batches of which it has no results any more
        self.cut = 0  #: how many replies with results are cut off half-way
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[Any] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _Exchange)
        self.server.daemon_threads = True
        self.server.local = self  # type: ignore[attr-defined]  # how its handlers find it

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def cards(self, **fields: object) -> str:
        given = {"engine": "anthropic", "model": "judge-1", "base_url": self.url, "key": "JUDGE_KEY", "attempts": 3}
        given |= {"concurrency": 4, "input_price": 1.0, "output_price": 5.0} | fields
        return "[judge]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())

    def message(self, params: Mapping[str, Any]) -> dict[str, Any]:
        said = self.judge(response_in(prompt_of(params)))
        reply: dict[str, Any] = json.loads(message(said, prompt=1000, completion=200).body)
        return reply

    def make(self, calls: list[dict[str, Any]]) -> dict[str, Any]:
        with self.lock:
            name = f"msgbatch_{len(self.batches) + 1}"
            self.batches[name] = {"calls": calls, "looks": 0, "made": datetime.now(UTC).isoformat()}
        return self.told(name)

    def told(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        ended = batch["looks"] >= self.looks_until_ended and self.held.is_set()
        counts = dict.fromkeys(("canceled", "errored", "expired", "succeeded"), 0)
        times = {"created_at": batch["made"], "expires_at": batch["made"], "ended_at": batch["made"] if ended else None}
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {**counts, "processing": len(batch["calls"])},
            **times,
            "results_url": f"{self.url}/{name}/results" if ended and name not in self.archived else None,
        }

    def page(self, query: str) -> dict[str, Any]:
        asked = parse_qs(query)
        names = list(reversed(self.batches))
        start = names.index(asked["after_id"][0]) + 1 if "after_id" in asked else 0
        page = names[start : start + int(asked.get("limit", ["20"])[0])]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        return {"data": [self.told(name) for name in page], "has_more": start + len(page) < len(names), **ends}

    def results(self, name: str) -> str:
        number = list(self.batches).index(name)
        lines = []
        for call in reversed(self.batches[name]["calls"]):
            kind = self.outcome(prompt_of(call["params"]), number)
            result: dict[str, Any] = {"type": kind}
            if kind == "succeeded":
                result["message"] = self.message(call["params"])
            elif kind in ("api_error", "invalid_request_error"):
                inner = {"type": kind, "message": "it went wrong"}
                result = {"type": "errored", "error": {"type": "error", "error": inner, "request_id": "r"}}
            lines.append(json.dumps({"custom_id": call["custom_id"], "result": result}))
        return "\n".join(lines) + "\n"

    def paid(self) -> Counter[str]:
        counted = Counter(self.asked)
        for number, batch in enumerate(self.batches.values()):
            prompts = [prompt_of(call["params"]) for call in batch["calls"]]
            counted.update(prompt for prompt in prompts if self.outcome(prompt, number) == "succeeded")
        return counted


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def local(self) -> JudgeServer:
        return self.server.local  # type: ignore[attr-defined, no-any-return]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.local.lock:
            self.local.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.local.bodies.append(body)
        if self.path == "/v1/messages/batches":
            reply = self.local.make(body["requests"])
        else:
            prompt = prompt_of(body)
            with self.local.lock:
                self.local.asked[prompt] += 1
            if self.local.refused(prompt):
                self.wrong(400, "invalid_request_error", "it is flagged")
                return
            reply = self.local.message(body)
        self.local.before_reply(self.path)
        self.say(json.dumps(reply))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if self.local.gone.intersection(parts):
            self.wrong(404, self.local.told_gone, f"Message Batch {parts[3]} not found")
        elif parts[-1] == "results":
            self.local.before_reply(self.path)
            self.say(self.local.results(parts[-2]), whole=self.local.cut == 0)
            self.local.cut = max(0, self.local.cut - 1)
        elif parts[-1] == "batches":
            self.say(json.dumps(self.local.page(url.query)))
        else:
            self.local.batches[parts[-1]]["looks"] += 1
            self.say(json.dumps(self.local.told(parts[-1])))

    def wrong(self, status: int, kind: str, message: str) -> None:
        self.say(json.dumps({"type": "error", "error": {"type": kind, "message": message}}), status)

    def say(self, text: str, status: int = 200, *, whole: bool = True) -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload if whole else payload[: len(payload) // 2])
        self.close_connection = self.close_connection or not whole

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def judging(judge: Callable[[str], str] = fair) -> Iterator[JudgeServer]:
    local = JudgeServer(judge)
    thread = threading.Thread(target=local.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield local
    finally:
        local.held.set()
        local.server.shutdown()
        local.server.server_close()
        thread.join()
