"""Files to start from: a demo study, a survey of one's own, cards of one's own models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from defsurvey.jobs.system import BadOutput

_HERE = Path(__file__).parent
#: What each is for; ``coffee`` is a survey's folder.
STARTERS = {
    "demo.yaml": "a study: what is asked of whom; run it: defsurvey run {path}",
    "coffee": "a survey of your own: questions, and what people answered; check it: defsurvey survey validate {path}",
    "models.toml": "cards of your own models; they are found here by themselves: defsurvey models list",
}


def write_starters(folder: Path) -> Iterator[str]:
    """Write them into a folder, which is made. Yields a line about each.

    Raises:
        BadOutput: one of them is there already; nothing is written.
    """
    for name in STARTERS:
        if (folder / name).exists():
            raise BadOutput(f"{folder / name} is there already: nothing was written; name another folder")
    for name, about in STARTERS.items():
        source = _HERE / name
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            target = folder / file.relative_to(_HERE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        yield f"{folder / name}: {about.format(path=folder / name)}"
