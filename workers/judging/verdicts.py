"""From a judge's reply to verdicts, and what a program decides without any judge.

Nothing raises and nothing is guessed: whatever is no valid verdict becomes ``unsure`` with the reason, never a pass.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from defsurvey.storage.runs.judgement import DIMENSIONS, Finding, Judgement, Verdict
from defsurvey.storage.runs.run import AnswerState, Reply
from defsurvey.workers.engines.base import Completion, FinishReason
from defsurvey.workers.simulation.answer_parser import spoken

MOST_KEPT = 400  #: evidence and reasons are kept up to so many characters
#: Nothing in it gives back what it took (``++``), so that it takes no longer than a reply is long.
_FENCED = re.compile(r"\s*+```(?:json)?+(?:[^\S\n]*+\n)++(.*?)\n?```\s*+", re.DOTALL | re.IGNORECASE)
_GAP = re.compile(r"\.\.\.|…|\[\.\.\.\]")


class JudgeGaveUp(RuntimeError):
    """There is no reply to one call; the message says why."""


def findings_in(completion: Completion, response: str) -> Mapping[str, Finding]:
    """The verdicts in a judge's reply; a pass or a fail whose evidence is not in the response becomes unsure."""
    if completion.finish is FinishReason.REFUSAL:
        return dict.fromkeys(DIMENSIONS, _unsure("the judge declined"))
    try:
        try:
            reply = _object(completion.text)
        except ValueError:  # behind its thoughts, then; evidence may well quote the mark of a thought
            reply = _object(spoken(completion.text)[0])
    except ValueError as error:
        cut = " (it was cut off at its longest)" if completion.finish is FinishReason.LENGTH else ""
        why = f"the judge's reply is not the one JSON object asked for: {error}{cut}"
        return dict.fromkeys(DIMENSIONS, _unsure(why))
    return {dimension: _finding(reply, dimension, _plain(response)) for dimension in DIMENSIONS}


def _object(text: str) -> dict[str, Any]:
    """The one JSON object that a reply consists of; a fence around it is forgiven."""
    fenced = _FENCED.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON at character {error.pos}") from None
    except RecursionError:
        raise ValueError("too many levels") from None
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 -- one error for whatever is wrong with a text
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _finding(reply: Mapping[str, Any], dimension: str, response: str) -> Finding:
    said = reply.get(dimension)
    if not isinstance(said, dict):
        return _unsure(f"the judge says nothing on {dimension}")
    evidence, reason, verdict = (said.get(key) for key in ("evidence", "reason", "verdict"))
    kept = evidence[:MOST_KEPT] if isinstance(evidence, str) else ""
    if verdict not in tuple(Verdict):
        return _unsure(f"the judge's verdict is none of {', '.join(Verdict)}: {str(verdict)[:60]!r}", kept)
    why = reason[:MOST_KEPT] if isinstance(reason, str) else ""
    if verdict != Verdict.UNSURE and not _quoted(kept, response):
        return _unsure(f"the judge says {verdict}, but its evidence is not in the response", kept)
    return Finding(verdict=Verdict(verdict), evidence=kept, reason=why)


def _unsure(reason: str, evidence: str = "") -> Finding:
    return Finding(verdict=Verdict.UNSURE, evidence=evidence, reason=reason)


def _quoted(evidence: str, response: str) -> bool:
    """Whether every part of a quotation, gaps left out, is in the response; case and punctuation do not count."""
    parts = [plain for part in _GAP.split(evidence) if (plain := _plain(part))]
    return bool(parts) and all(part in response for part in parts)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())


def decided(state: AnswerState, reason: str, response: str, reply: Reply) -> Mapping[str, Finding]:
    """What a program decides about an answer without any judge: dimension -> finding.

    What the parser could not read fails on instructions; what is not there (choice, explanation) cannot be judged.
    """
    found: dict[str, Finding] = {}
    if state is AnswerState.UNPARSABLE:
        found["iu"] = Finding(verdict=Verdict.FAIL, evidence=response.strip()[:80], reason=f"by program: {reason}")
    if state is not AnswerState.ANSWERED:
        found["cv"] = _unsure("by program: there is no choice that an explanation could contradict")
    if reply is not Reply.FULL:
        short = _unsure(f"by program: replies are read as {reply.value}, without their whole explanation")
        found |= {"cv": short, "ff": short}
    if not _plain(response):
        nothing = {name: _unsure("by program: the response is empty") for name in DIMENSIONS if name != "qc"}
        found = nothing | found | {"qc": Finding(verdict=Verdict.FAIL, reason="by program: the response is empty")}
    return found


def judgement_in(completion: Completion, response: str, by_program: Mapping[str, Finding]) -> Judgement:
    """What a reply says of a response; raises JudgeGaveUp where there is none, and nothing was paid."""
    if completion.finish is FinishReason.ERROR:
        raise JudgeGaveUp(completion.error)
    by_judge = findings_in(completion, response)
    return Judgement(
        findings={name: by_program.get(name) or by_judge[name] for name in DIMENSIONS},
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )
