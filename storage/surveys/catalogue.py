"""Which surveys there are: those bundled with the application, and folders of the user's own."""

from __future__ import annotations

from pathlib import Path

from defsurvey.storage.files import OutsideFolder, path_under
from defsurvey.storage.surveys.folder import FILES, read_survey
from defsurvey.storage.surveys.problem import nearest, shown
from defsurvey.storage.surveys.survey import Survey, SurveyError, UnknownName

_BUNDLED = Path(__file__).parent


def bundled_surveys() -> tuple[str, ...]:
    """Ids of the bundled surveys, sorted."""
    return tuple(sorted(folder.name for folder in _BUNDLED.iterdir() if (folder / FILES[0]).is_file()))


def find_survey(name: str, *, beside: Path | None = None) -> Survey:
    """The survey of that name; see ``find_folder``, and SurveyError is raised where it is not well formed as well."""
    return read_survey(find_folder(name, beside=beside))


def find_folder(name: str, *, beside: Path | None = None) -> Path:
    """The folder of the survey of that name.

    Args:
        name: the id of a bundled survey, or a folder. A bundled id comes first; ``./wvs7`` is a folder.
        beside: the folder that ``name`` is relative to and must lie in, e.g. that of the study file, so that a
            study taken from elsewhere reads nothing but what came with it. None: ``name`` was typed
            by the user, is relative to the working directory and may lie anywhere.

    Raises:
        UnknownName: there is neither a survey nor a folder of that name; the nearest id is told.
        SurveyError: the folder lies outside ``beside``.
    """
    bundled = bundled_surveys()
    if name in bundled:
        return _BUNDLED / name
    folder = Path(name) if beside is None else beside / name
    called = shown(name) if name else repr(name)
    if "\0" not in name and beside is not None and Path(name) != Path():
        try:
            path_under(beside, name)
        except OutsideFolder:
            raise SurveyError(f"survey {called}: expected a folder within {beside}, got {folder.resolve()}") from None
    if not name.strip() or not _is_folder(folder):
        raise UnknownName(
            f"survey {called}: expected a bundled survey ({', '.join(bundled)}) or a folder, got neither"
            f"{nearest(name, bundled)}"
        )
    return folder


def _is_folder(path: Path) -> bool:
    """Whether there is such a folder; a path that no system can have leads to none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long, not to be looked into, or with a NUL in it
        return False
