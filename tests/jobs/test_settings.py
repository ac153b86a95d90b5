"""Settings: every variable has a default, a range and one clear error."""

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from defsurvey.jobs.settings import BadSetting, Settings


def test_an_empty_environment_keeps_everything_in_one_folder_here() -> None:
    """Without any variable all that is written goes under ``.defsurvey`` of the working folder."""
    settings = Settings.from_environment({"PATH": "/bin"})
    home = Path.cwd() / ".defsurvey"
    assert settings == Settings(
        home=home,
        database_url=f"sqlite:///{home}/defsurvey.db",
        broker_url=None,
        cache=home / "models",
        models=None,
        synchronous="normal",
        lease_seconds=90.0,
        hang_seconds=1800.0,
        visibility_timeout=3600.0,
    )
    assert (settings.reports, settings.logs) == (home / "reports", home / "logs")


def test_every_variable_is_taken_up(tmp_path: Path) -> None:
    """What the environment names goes before every default; paths become absolute."""
    settings = Settings.from_environment(
        {
            "DEFSURVEY_HOME": str(tmp_path),
            "DEFSURVEY_DATABASE_URL": "postgresql://me@there/db",
            "DEFSURVEY_BROKER_URL": "redis://there:6379/0",
            "DEFSURVEY_CACHE": "weights",
            "DEFSURVEY_MODELS": "~/cards.toml",
            "DEFSURVEY_SYNCHRONOUS": "full",
            "DEFSURVEY_LEASE_SECONDS": "5",
            "DEFSURVEY_HANG_SECONDS": "60",
            "DEFSURVEY_VISIBILITY_TIMEOUT": "0.5",
        }
    )
    assert settings == Settings(
        home=tmp_path,
        database_url="postgresql://me@there/db",
        broker_url="redis://there:6379/0",
        cache=Path.cwd() / "weights",
        models=Path.home() / "cards.toml",
        synchronous="full",
        lease_seconds=5.0,
        hang_seconds=60.0,
        visibility_timeout=0.5,
    )


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    """Compose files set variables to nothing where a user leaves them out."""
    names = ("HOME", "DATABASE_URL", "BROKER_URL", "CACHE", "MODELS", "SYNCHRONOUS", "LEASE_SECONDS")
    assert Settings.from_environment({f"DEFSURVEY_{name}": "" for name in names}) == Settings.from_environment({})


def test_a_path_from_a_working_folder_that_is_gone_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home is such a path unless it is set; one from the root is as good as ever."""
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


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_number_of_seconds_is_positive_and_finite(value: str) -> None:
    """The error names the variable, what was expected and what it is."""
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({"DEFSURVEY_LEASE_SECONDS": value})
    expected = "environment variable DEFSURVEY_LEASE_SECONDS: expected a positive number of seconds, got"
    assert str(caught.value) == f"{expected} {value!r}"


def test_a_misspelt_variable_is_told_with_the_nearest_right_one() -> None:
    """A variable that nobody reads would be silently without effect."""
    with pytest.raises(
        BadSetting, match=r"DEFSURVEY_DATBASE_URL is not known \(did you mean 'DEFSURVEY_DATABASE_URL'\?\)"
    ):
        Settings.from_environment({"DEFSURVEY_DATBASE_URL": "x"})
    with pytest.raises(BadSetting, match="DEFSURVEY_XYZZY is not known; known are DEFSURVEY_HOME, "):
        Settings.from_environment({"DEFSURVEY_XYZZY": "x"})


@pytest.mark.parametrize(
    ("url", "got"), [("amqp://me:secret@there", "amqp://"), ("there:6379", "no scheme"), ("unix:///x", "unix://")]
)
def test_a_broker_that_is_not_redis_is_refused_without_repeating_its_password(url: str, got: str) -> None:
    """Only Redis, by any of its schemes, is a broker here."""
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({"DEFSURVEY_BROKER_URL": url})
    expected = (
        "environment variable DEFSURVEY_BROKER_URL: expected a URL with redis://, rediss://, redis+socket://, got"
    )
    assert str(caught.value) == f"{expected} {got}"


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


def test_a_broker_password_comes_from_its_file(tmp_path: Path) -> None:
    """A Redis URL needs no user."""
    environment = {
        "DEFSURVEY_BROKER_URL": "redis://there:6379/0",
        "DEFSURVEY_BROKER_PASSWORD_FILE": _secret(tmp_path, "secret"),
    }
    assert Settings.from_environment(environment).broker_url == "redis://:secret@there:6379/0"


def test_settings_show_no_password(tmp_path: Path) -> None:
    """Whoever prints or logs the settings prints no password."""
    environment = {
        "DEFSURVEY_DATABASE_URL": "postgresql://me@there/db",
        "DEFSURVEY_DATABASE_PASSWORD_FILE": _secret(tmp_path, "sesame"),
        "DEFSURVEY_BROKER_URL": "redis://:sesame@there/0",
    }
    assert "sesame" not in repr(Settings.from_environment(environment))


@pytest.mark.parametrize(
    ("url", "got"),
    [
        ("postgresql://me:secret@there/db", "one with a password"),
        ("sqlite:///here.db", "one without a host"),
        ("", "none"),
    ],
)
def test_a_password_file_needs_a_url_that_it_fits(url: str, got: str, tmp_path: Path) -> None:
    """Two passwords, or one for a file or for nothing, are a mistake."""
    file = _secret(tmp_path, "secret")
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({"DEFSURVEY_DATABASE_URL": url, "DEFSURVEY_DATABASE_PASSWORD_FILE": file})
    expected = "DEFSURVEY_DATABASE_PASSWORD_FILE: expected DEFSURVEY_DATABASE_URL to name a host and no password, got"
    assert str(caught.value) == f"environment variable {expected} {got}"


def test_a_password_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, empty or not text: each has a message of its own, with the file's path."""
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


def test_a_promise_is_one_of_those_that_the_database_knows() -> None:
    """They are told apart here, where the variable is known."""
    with pytest.raises(BadSetting, match="DEFSURVEY_SYNCHRONOUS: expected one of full, normal, off, got 'foo'"):
        Settings.from_environment({"DEFSURVEY_SYNCHRONOUS": "foo"})


def test_a_home_that_is_no_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    """A file in its place, or on the way to it; one that can be made is made."""
    (tmp_path / "file").write_text("")
    for home, got in (("file", "it is none"), ("file/home", "Not a directory")):
        settings = Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / home)})
        expected = f"DEFSURVEY_HOME: expected a folder that this account can write to, got {tmp_path / home}: {got}"
        with pytest.raises(BadSetting, match=expected):
            settings.make_home()
    Settings.from_environment({"DEFSURVEY_HOME": str(tmp_path / "a" / "b")}).make_home()
    assert (tmp_path / "a" / "b").is_dir()


def test_a_home_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """Its paths could be in no URL, no database and no report."""
    with pytest.raises(BadSetting, match=r"DEFSURVEY_HOME: expected a path in UTF-8, got b'.*/x\\xff'"):
        Settings.from_environment({"DEFSURVEY_HOME": os.fsdecode(os.fsencode(tmp_path) + b"/x\xff")})
