"""Settings: every variable has a default, a range and one clear error."""

from pathlib import Path

import pytest

from jobs.settings import BadSetting, Settings


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
        visibility_timeout=0.5,
    )


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    """Compose files set variables to nothing where a user leaves them out."""
    names = ("HOME", "DATABASE_URL", "BROKER_URL", "CACHE", "MODELS", "SYNCHRONOUS", "LEASE_SECONDS")
    assert Settings.from_environment({f"DEFSURVEY_{name}": "" for name in names}) == Settings.from_environment({})


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_number_of_seconds_is_positive_and_finite(value: str) -> None:
    """The error names the variable, what was expected and what it is."""
    with pytest.raises(BadSetting) as caught:
        Settings.from_environment({"DEFSURVEY_LEASE_SECONDS": value})
    expected = "environment variable DEFSURVEY_LEASE_SECONDS: expected a positive number of seconds, got"
    assert str(caught.value) == f"{expected} {value!r}"


def test_a_misspelt_variable_is_told_with_the_nearest_right_one() -> None:
    """A variable that nobody reads would be silently without effect."""
    with pytest.raises(BadSetting, match=r"DEFSURVEY_DATBASE_URL is not known; did you mean DEFSURVEY_DATABASE_URL\?"):
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
