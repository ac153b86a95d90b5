"""Has a checkout whose ``benchmarks.ways`` is no program serve a workload; run by its interpreter in its folder."""

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

old: Any = import_module("benchmarks.engine")
sampling: Any = import_module("benchmarks.workloads").Sampling
task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
card = old.find_card(task["model"], old.read_cards()).model_copy(update={"dtype": task["dtype"]})
weights = old.find_weights(card, Path(task["cache"]))
subject = old.Subject(card=card, weights=weights, threads=task["threads"])
if talks := task.get("interviews"):
    took = old.talks_batched(subject, old.Talks(**{**talks, "order": old.MemoryOrder(talks["order"])}))[0][0]
else:
    drawn = [{**one, "sampling": one["sampling"] and sampling(**one["sampling"])} for one in task["requests"]]
    requests = [old.ResolvedRequest(**{**one, "prompt": tuple(one["prompt"])}) for one in drawn]
    kinds = {(one.num_beams, one.sampling is not None, len(one.prompt) // 128): one for one in requests}
    warm = [replace(one, prompt=one.prompt[::-1], max_new_tokens=4) for one in kinds.values()]
    loaded = subject.load()
    serve = partial(old.batched, loaded, old.in_passing(partial(old.prepare, loaded)))
    old.in_passing(partial(serve, warm, []))
    took = old.measured(partial(serve, requests, []))
print(json.dumps(asdict(took)))  # noqa: T201
