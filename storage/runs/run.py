"""What a run is: the values that jobs, workers and reports hand to each other.

Frozen nouns that check themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

#: A text of any length and content, as models write it; a mere ``str`` is a name.
Text = Annotated[str, "text"]
#: A whole number of 64 bits.
Long = Annotated[int, "long"]
#: Marks fields that depend on when, where and how often an answer was computed: exports have them where that is asked.
TELEMETRY = {"telemetry": True}

#: What a run, or a condition of one, may be called: its name stands in commands and paths.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: The same in words.
NAME_RULE = "a name of at most 64 lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit"

#: The most participants of a cell: far more than any survey asks of one country. Noise floor and report hold an array
#: of so many.
MOST_PARTICIPANTS = 100_000


class AnswerState(StrEnum):
    """How an answer ended; every planned answer ends in exactly one."""

    ANSWERED = "answered"  #: the completion names options that the question offers
    REFUSED = "refused"  #: the model declined to take the role or to answer
    UNPARSABLE = "unparsable"  #: there is a completion, but no answer can be read from it
    FAILED = "failed"  #: the engine gave up; there is no completion


class ParticipantStatus(StrEnum):
    """Where a participant stands. Whether it is being worked on is told by its lease."""

    OPEN = "open"  #: has unanswered questions
    FINISHED = "finished"  #: every planned answer is there
    QUARANTINED = "quarantined"  #: set aside, since it ended its worker, or could not be asked, again and again


class Preset(StrEnum):
    """Which description of DEF is followed; docs/deviations.md lists the differences."""

    PAPER = "paper"
    CODE = "code"


class DrawsPer(StrEnum):
    """How often the three axes of DEF are drawn."""

    PARTICIPANT = "participant"
    QUESTION = "question"


class QuestionOrder(StrEnum):
    """In which order a participant meets the questions."""

    FIXED = "fixed"
    SHUFFLED = "shuffled"


class MemoryOrder(StrEnum):
    """In which order remembered answers are shown."""

    DRAWN = "drawn"
    CHRONOLOGICAL = "chronological"


class Reply(StrEnum):
    """How far a reply is read; a reply without beams is not decoded further than that.

    In the order of what they leave out.
    """

    FULL = "full"  #: to its own end
    FIRST_SENTENCE = "first-sentence"  #: to the end of the first sentence of its explanation
    ANSWER = "answer"  #: to the end of its answer
    CHOICE = "choice"  #: all of it: the engine lets it name options and say nothing else


#: The method of the paper: the model answers as a citizen, with the axes that the condition switches on.
DEF = "def"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How answers come about, and which axes of DEF are switched on."""

    name: str
    method: str = DEF  #: name of the way in which questions are asked, see ``workers.simulation.methods``
    slots: int = 1  #: answers that a participant gives to each question; 0: probabilities of options are read instead
    prompt: bool = True  #: a drawn region behind the country's name
    config: bool = True  #: drawn number of beams and sampling
    memory: bool = True  #: a drawn capacity to remember earlier answers
    option_order: bool | None = None  #: options shown in a drawn order; None: as the preset says
    paraphrase: bool = False  #: a drawn wording of every question: its own, or a paraphrase of the survey's


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How every interview of a run is conducted."""

    seed: int
    preset: Preset = Preset.PAPER
    draws: DrawsPer = DrawsPer.PARTICIPANT
    question_order: QuestionOrder = QuestionOrder.FIXED
    memory_order: MemoryOrder = MemoryOrder.DRAWN
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    reply: Reply = Reply.FULL
    top_k: int = 0  #: sample among so many of the likeliest tokens; 0: among all
    do_sample: bool | None = None  #: whether every condition of DEF samples; None: as preset and condition say


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """One participant's place on the axes of DEF, the condition's switches applied."""

    region: str | None  #: region code; None: the country alone
    num_beams: int
    do_sample: bool
    memory_capacity: int
    paraphrase: int = 0  #: number of the wording in which questions are asked; 0: their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How a completion is asked to be decoded."""

    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  #: 0: no limit
    max_new_tokens: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedDecoding:
    """What an engine really did; None where it is the provider's default."""

    num_beams: int | None
    do_sample: bool | None
    temperature: float | None
    top_p: float | None
    top_k: int | None = None  #: 0: no limit. Answers from before it was recorded have None
    max_new_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model x culture x condition x language of a run."""

    id: int
    model: str
    culture: str
    condition: Condition
    language: str  #: language code, never ``native``
    participants: int

    @property
    def names(self) -> dict[str, str]:
        """What makes it the same cell of a run, as JSON and tables name it."""
        condition = self.condition.name
        return {"model": self.model, "culture": self.culture, "condition": condition, "language": self.language}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a study."""

    id: str
    created_at: datetime
    survey: str  #: fingerprint of the survey, which is stored beside the run
    questions: tuple[str, ...]  #: question ids in survey order
    protocol: Protocol
    cells: tuple[Cell, ...]
    study: str  #: the study file's text as it was enqueued
    cancelled: bool = False

    @property
    def main_condition(self) -> str:
        """The condition that figures of models are about: ``def``, or else the first that gives answers."""
        names = [cell.condition.name for cell in self.cells if cell.condition.slots] or [self.cells[0].condition.name]
        return DEF if DEF in names else names[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """A simulated citizen as a worker takes it up."""

    id: int
    index: int  #: number within its cell; equal indices in different cells share their draws
    run: str
    cell: Cell
    draws: Draws
    next_item: int = 0  #: position of the next question in this participant's order
    memory: tuple[int, ...] = ()  #: remembered items (positions), in the order they are shown
    epoch: int = 0  #: the lease under which it is held
    suspect: bool = False  #: it was in flight when its worker died: to be asked alone until it has answered
    attempts: Mapping[int, int] = field(default_factory=dict)  #: item -> attempt, for items asked anew by a rewind


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one participant answered to one question, and all that it was shown.

    The one declaration of an answer's columns: table, rows, exports (in this order) and bundles follow from it.
    """

    participant: int
    item: Long  #: position in the participant's own question order
    slot: Long = 0  #: more than one only for panel conditions
    question: str
    state: AnswerState
    out_of_sequence: bool = False  #: asked again later from its memory snapshot; what followed did not see it
    choices: tuple[int, ...]  #: option codes, ascending; empty unless answered
    completion: Text  #: the model's full reply
    reason: Text = ""  #: why it is refused, unparsable or failed
    remembered: Text | None = None  #: the answer as memory keeps it; None: not remembered
    shown: tuple[int, ...]  #: option codes in the order shown
    memory: tuple[int, ...] = ()  #: items remembered when it was asked, in the order shown
    draws: Draws
    seed: Long
    used: UsedDecoding
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempt: int = field(default=0, metadata=TELEMETRY)
    seconds: float = field(default=0.0, metadata=TELEMETRY)  #: time from submission to completion


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedStep:
    """One completion on the way to an answer of several steps."""

    participant: int
    item: Long
    attempt: int
    number: int  #: position among the steps of this answer
    completion: Text
    finish: str  #: why the completion ended, as the engine said
    seed: Long
    used: UsedDecoding
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0  #: telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionProbabilities:
    """What the next token says of one question's options, shown in one order."""

    participant: int  #: the one that stands for its cell
    item: int
    question: str
    order: int  #: number of the order
    shown: tuple[int, ...]  #: option codes in that order
    probabilities: tuple[float, ...]  #: of the options in ``shown``; they sum to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run, or one cell of it, has come. Counts are of planned answers."""

    planned: int
    answered: int = 0
    refused: int = 0
    unparsable: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Answers that have ended, in whatever state."""
        return self.answered + self.refused + self.unparsable + self.failed

    @property
    def remaining(self) -> int:
        """Planned answers that have not ended."""
        return self.planned - self.done


#: Provenance of a model as the engine that served it described it: name -> value.
EngineDescription = Mapping[str, str]
