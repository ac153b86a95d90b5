"""What was found out about one thing that a run needs."""

from __future__ import annotations

from dataclasses import dataclass

#: How a finding can be: as it should be, worth knowing, or in the way of every run.
OK, NOTE, BAD = "ok", "note", "bad"
#: Seconds by which another machine's clock may be off before it is worth a word.
CLOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found out about one thing."""

    name: str
    state: str  #: ``OK``, ``NOTE`` or ``BAD``
    said: str
    remedy: str = ""  #: what to do about it; empty where there is nothing to do

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.state:4}  {self.name:14}  {self.said}" + (f" -> {self.remedy}" if self.remedy else "")


def clock_finding(name: str, offset: float) -> Finding:
    """What a clock that is off by so many seconds means: leases that are late or early, never a wrong answer."""
    if abs(offset) <= CLOCK_SECONDS:
        return Finding(name=name, state=OK, said=f"within {CLOCK_SECONDS:.0f} s of this machine's")
    direction = "ahead of" if offset > 0 else "behind"
    return Finding(
        name=name,
        state=NOTE,
        said=f"{abs(offset):.0f} s {direction} this machine's: heartbeats and rates look wrong, answers are not",
        remedy="let NTP set both clocks",
    )
