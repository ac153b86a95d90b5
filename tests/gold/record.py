"""Records what the reference studies give now: ``python -m tests.gold.record [STUDY...]``, all where none is named."""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.gold.studies import FOLDER, STUDIES, outputs, run


def record(study: str) -> None:
    """Put what a study gives now in the place of what was recorded."""
    with TemporaryDirectory() as folder:
        found = run(study, Path(folder))
    for name in outputs(study):
        (FOLDER / study / name).unlink()
    for name, content in found.items():
        file = FOLDER / study / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)


if __name__ == "__main__":
    for study in sys.argv[1:] or STUDIES:
        began = time.monotonic()
        record(study)
        size = sum(map(len, outputs(study).values()))
        sys.stdout.write(f"{study}: {size / 1000:.0f} kB in {time.monotonic() - began:.0f} s\n")
