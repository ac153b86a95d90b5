"""Settings: every variable has a default, a range and one clear error."""

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from defsurvey.jobs.settings import BadSetting, Settings


def test_an_empty_environment_keeps_everything_in_one_folder_here() -> None:
    settings, home = Settings.from_environment({"PATH": "/bin"}), Path.cwd() / ".defsurvey"
    assert settings.model_dump() == {
        "home": home,
        "database_url": f"sqlite:///{home}/defsurvey.db",
        "broker_url": None,
        "cache": home / "models",
        "models": None,
        "synchronous": "normal",
        "lease_seconds": 90.0,
        "hang_seconds": 1800.0,
        "visibility_timeout": 3600.0,
    }
    assert (settings.reports, settings.logs) == (home / "reports", home / "logs")


def test_every_variable_is_taken_up(tmp_path: Path) -> None:
    given = {
        "HOME": (str(tmp_path), tmp_path),
        "DATABASE_URL": ("postgresql://me@there/db", "postgresql://me@there/db"),
        "BROKER_URL": ("redis://there:6379/0", "redis://there:6379/0"),
        "CACHE": ("weights", Path.cwd() / "weights"),
        "MODELS": ("~/cards.toml", Path.home() / "cards.toml"),
        "SYNCHRONOUS": ("full", "full"),
        "LEASE_SECONDS": ("5", 5.0),
        "HANG_SECONDS": ("60", 60.0),
        "VISIBILITY_TIMEOUT": ("0.5", 0.5),
    }
    settings = Settings.from_environment({f"DEFSURVEY_{name}": text for name, (text, _) in given.items()})
    assert settings.model_dump() == {name.lower(): value for name, (_, value) in given.items()}


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    names = ("HOME", "DATABASE_URL", "BROKER_URL", "CACHE", "MODELS", "SYNCHRONOUS", "LEASE_SECONDS")
    assert Settings.from_environment({f"DEFSURVEY_{name}": "" for name in names}) == Settings.from_environment({})


def test_a_path_from_a_working_folder_that_is_gone_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({})
    expected = "environment variable DEFSURVEY_HOME: expected a path from /, got '.defsurvey'"
    assert str(caught.value) == f"{expected}: the working folder is gone"
    assert Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path)}).home == tmp_path
    with pytest.raises(BadSetting, match=r"DEFSURVEY_MODELS: expected a path from /, got 'cards\.toml'"):
        Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path), "DEFSURVEY_MODELS": "cards.toml"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LEASE_SECONDS", "0", "expected a positive number of seconds, got '0'"),
        ("LEASE_SECONDS", "soon", "expected a positive number of seconds, got 'soon'"),
        ("HANG_SECONDS", "inf", "expected a positive number of seconds, got 'inf'"),
        ("SYNCHRONOUS", "foo", "expected one of full, normal, off, got 'foo'"),
        (
            "BROKER_URL",
            "amqp://me:secret@there",
            "expected a URL with redis://, rediss://, redis+socket://, got amqp://",
        ),
        ("BROKER_URL", "there:6379", "expected a URL with redis://, rediss://, redis+socket://, got no scheme"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str, told: str) -> None:
    """With what was expected, and what it is; of a URL no more than its scheme, since it may hold a password."""
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({f"DEFSURVEY_{name}": value})
    assert str(caught.value) == f"environment variable DEFSURVEY_{name}: {told}"


def test_a_misspelt_variable_is_told_with_the_nearest_right_one() -> None:
    with pytest.raises(
        BadSetting, match=r"DEFSURVEY_DATBASE_URL is not known \(did you mean 'DEFSURVEY_DATABASE_URL'\?\)"
    ):
        Settings.from_environment({"DEFSURVEY_DATBASE_URL": "x"})
    with pytest.raises(BadSetting, match="DEFSURVEY_XYZZY is not known; known are DEFSURVEY_HOME, "):
        Settings.from_environment({"DEFSURVEY_XYZZY": "x"})


def _secret(folder: Path, text: str) -> str:
    file = folder / "password"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("postgresql://me@there/db", "postgresql://me:p%40ss%2Fw%C3%B6rd@there/db"),
        ("postgresql://me@[::1]:5432/db?x=1", "postgresql://me:p%40ss%2Fw%C3%B6rd@[::1]:5432/db?x=1"),
        ("postgresql://there/db", "postgresql://:p%40ss%2Fw%C3%B6rd@there/db"),
    ],
)
def test_a_database_password_comes_from_its_file(url: str, full: str, tmp_path: Path) -> None:
    """The file's text, without the line end that an editor leaves, and quoted so that any sign may be in it."""
    file = _secret(tmp_path, "p@ss/wörd\n")
    settings = Settings.from_environment({"DEFSURVEY_DATABASE_URL": url, "DEFSURVEY_DATABASE_PASSWORD_FILE": file})
    assert settings.database_url == full
    assert make_url(full).password == "p@ss/wörd"


def test_settings_show_no_password(tmp_path: Path) -> None:
    environment = {
        "DEFSURVEY_DATABASE_URL": "postgresql://me:sesame@there/db",
        "DEFSURVEY_BROKER_URL": "redis://there:6379/0",
        "DEFSURVEY_BROKER_PASSWORD_FILE": _secret(tmp_path, "sesame"),
    }
    settings = Settings.from_environment(environment)
    assert settings.broker_url == "redis://:sesame@there:6379/0"
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("postgresql://me:secret@there/db", "one with a password"),
        ("sqlite:///here.db", "one without a host"),
        ("", "none"),
    ],
)
def test_a_password_file_needs_a_url_that_it_fits(url: str, got: str, tmp_path: Path) -> None:
    file = _secret(tmp_path, "secret")
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({"DEFSURVEY_DATABASE_URL": url, "DEFSURVEY_DATABASE_PASSWORD_FILE": file})
    expected = "DEFSURVEY_DATABASE_PASSWORD_FILE: expected DEFSURVEY_DATABASE_URL to name a host and no password, got"
    assert str(caught.value) == f"environment variable {expected} {got}"


def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "password"
    environment = {"DEFSURVEY_DATABASE_URL": "postgresql://me@there/db", "DEFSURVEY_DATABASE_PASSWORD_FILE": str(file)}
    with pytest.raises(BadSetting, match=f"expected a file that can be read, got {file}: No such file or directory"):
        Settings.from_environment(environment)
    file.write_text("\n")
    with pytest.raises(BadSetting, match=f"expected a password in {file}, got an empty file"):
        Settings.from_environment(environment)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match=f"expected text in {file}, got other bytes"):
        Settings.from_environment(environment)


def test_a_home_that_is_no_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home, got in (("file", "it is none"), ("file/home", "Not a directory")):
        settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / home)})
        expected = f"DEFSURVEY_HOME: expected a folder that this account can write to, got {tmp_path / home}: {got}"
        with pytest.raises(BadSetting, match=expected):
            settings.make_home()
    Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "a" / "b")}).make_home()
    assert (tmp_path / "a" / "b").is_dir()


def test_a_home_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"DEFSURVEY_HOME: expected a path in UTF-8, got b'.*/x\\xff'"):
        Settings.from_environment({"DEFSURVEY_HOME": os.fsdecode(os.fsencode(tmp_path) + b"/x\xff")})
