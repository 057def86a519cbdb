"""Configuration: three sources in rising order, typed, with errors that name the nearest key."""

from pathlib import Path

import pytest

from mainspring.core.config import Config, ConfigError, describe, load
from mainspring.core.manifest import manifests


def read(
    tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, *settings: str, **arguments: object
) -> Config:
    file = tmp_path / "mainspring.toml"
    file.write_text(text)
    return load(file, environment or {}, settings, **arguments)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    text = "port = 1000\nhost = '127.0.0.2'\ncache = 'redis://file'"
    config = read(tmp_path, text, {"MAINSPRING_PORT": "2000", "MAINSPRING_CACHE": "redis://env"}, "port=3000")
    assert (config.host, config.cache, config.port) == ("127.0.0.2", "redis://env", 3000)
    assert read(tmp_path, text, {}, "port=3000", port=4000).port == 4000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("prot = 1", '"port"'),
        ("[lnks]\nx = 1", '"links"'),
        ("[links]\ndefault_domian = 'x'", "links.default_domian"),
        ("[links]\npublic_ulr = 'x'", 'did you mean "links.public_url"'),
        ("[objects]\nport = 9", 'did you mean "ports.s3"'),
        ("[ports]\nkafak = 9", 'did you mean "ports.kafka"'),
        ("[ports]\nnonsense = 9", "they are kafka, links, s3"),
        ("port = 'many'", "port"),
        ("port = 70000", "port"),
        ("port = ", "mainspring.toml"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word.replace(".", r"\.")):
        read(tmp_path, text)


def test_an_unknown_variable_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="databse"):
        read(tmp_path, "", {"MAINSPRING_DATABSE": "x"})


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://user:secret@host/db\n")
    assert read(tmp_path, f"database_file = '{secret}'").database == "postgresql://user:secret@host/db"
    assert read(tmp_path, "", {"MAINSPRING_DATABASE_FILE": str(secret)}).database.endswith("/db")
    with pytest.raises(ConfigError, match="both"):
        read(tmp_path, f"database = 'x'\ndatabase_file = '{secret}'")
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path, "database_file = '/nowhere/at/all'")


def test_a_key_of_a_system_that_names_a_file_stays_a_name_and_its_other_keys_may_come_from_files(
    tmp_path: Path,
) -> None:
    address = tmp_path / "address"
    address.write_text("https://go.example\n")
    config = read(tmp_path, f"[links]\ngeo_file = '/var/geo.mmdb'\npublic_url_file = '{address}'")
    links = config.settings(manifests()["links"])
    assert (links.geo_file, links.public_url) == ("/var/geo.mmdb", "https://go.example")


def test_lists_and_tables_can_be_written_on_a_command_line(tmp_path: Path) -> None:
    config = read(
        tmp_path, "", {}, "hosts=a.example, b.example", "ports.links=9999", 'plain=["links"]', "behind_tls=true"
    )
    assert config.hosts == ["a.example", "b.example"]
    assert config.ports == {"links": 9999}
    assert config.plain == ["links"]
    assert config.behind_tls is True


def test_a_setting_without_a_value_says_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        read(tmp_path, "", {}, "port")


def test_every_key_says_what_it_means() -> None:
    assert [key for key, _, _, meaning in describe(Config) if not meaning] == []


def test_an_address_of_a_log_must_be_one() -> None:
    assert load(environment={}, settings=["log=kafka://127.0.0.1:9092"]).log == "kafka://127.0.0.1:9092"
    with pytest.raises(ConfigError, match="log"):
        load(environment={}, settings=["log=rabbit://127.0.0.1"])


def test_an_address_stands_beside_the_section_of_the_system_of_the_same_name(tmp_path: Path) -> None:
    section = '[log]\naddress = "kafka://file:9092"\nflush_policy = "async"\n'
    for text, environment, settings, address in (
        (section, {}, (), "kafka://file:9092"),
        (section, {"MAINSPRING_LOG": "kafka://environment:9092"}, (), "kafka://environment:9092"),
        (section, {}, ("log=kafka://given:9092",), "kafka://given:9092"),
        ("", {}, ("log=kafka://given:9092", "log.flush_policy=async"), "kafka://given:9092"),
        ("", {}, ("log.flush_policy=async", "log=kafka://given:9092"), "kafka://given:9092"),
        ('log = "kafka://file:9092"', {}, ("log.flush_policy=async",), "kafka://file:9092"),
    ):
        config = read(tmp_path, text, environment, *settings)
        assert (config.log, config.sections["log"]) == (address, {"flush_policy": "async"})
    assert read(tmp_path, 'log = "kafka://file:9092"', {}).sections == {}
    (tmp_path / "secret").write_text("kafka://user:password@file:9092\n")
    assert read(tmp_path, f'log_file = "{tmp_path}/secret"\n[log]\nflush_policy = "async"', {}).log.endswith(
        "@file:9092"
    )


def test_a_file_with_an_address_and_a_section_of_one_name_says_where_the_address_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="beside a section \\[log\\] write `log = …` as `address = …` in it"):
        read(tmp_path, 'log = "kafka://file:9092"\n[log]\nflush_policy = "async"\n', {})
