"""Settings: defaults, then a file, then the environment, then flags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ostinato.server.config import ConfigError, Loaded, Secret, ServerConfig, as_toml, load, visible
from ostinato.server.config.settings import settings
from ostinato.server.config.showing import reference


def problems(text: str, tmp_path: Path, environment: dict[str, str] | None = None, **flags: object) -> list[str]:
    file = tmp_path / "ostinato.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {name.replace("__", "."): value for name, value in flags.items()}, environment or {})
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def loaded(text: str, tmp_path: Path, environment: dict[str, str] | None = None, **flags: object) -> Loaded:
    file = tmp_path / "ostinato.toml"
    file.write_text(text)
    return load(file, {name.replace("__", "."): value for name, value in flags.items()}, environment or {})


def test_defaults_need_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(None, {}, {})
    assert found.config == ServerConfig()
    assert set(found.origins.values()) == {"default"}
    assert (found.config.server.host, found.config.server.port) == ("127.0.0.1", 8642)
    assert found.config.checkpoints.interval == 10_000


def test_the_file_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ostinato.toml").write_text("[server]\nport = 9\n")
    assert load(None, {}, {}).config.server.port == 9


def test_who_has_the_last_word(tmp_path: Path) -> None:
    text = "[server]\nport = 1\n\n[journal]\nretention = '2d'\nsegment_bytes = '1MiB'\n"
    environment = {"OSTINATO__SERVER__PORT": "2", "OSTINATO__JOURNAL__RETENTION": "3d", "OSTINATO_DEBUG": "1"}
    found = loaded(text, tmp_path, environment, server__port="3")
    assert found.config.server.port == 3
    assert found.config.journal.retention == 3 * 86_400_000
    assert found.config.journal.segment_bytes == 1 << 20
    assert found.origins["server.port"] == "--port"
    assert found.origins["journal.retention"] == "$OSTINATO__JOURNAL__RETENTION"
    assert found.origins["journal.segment_bytes"].endswith("ostinato.toml:6")
    assert found.origins["tls.cert"] == "default"


def test_unknown_keys_say_where_they_are_and_what_was_meant(tmp_path: Path) -> None:
    text = "[server]\nprot = 1\nretention = '1d'\n\n[journl]\nx = 1\n"
    environment = {"OSTINATO__LIMITS__BODY_BYTE": "1", "OSTINATO__LIMTS__BODY_BYTES": "1", "OSTINATO__X": "1"}
    assert problems(text, tmp_path, environment) == [
        "ostinato.toml:2: there is no key `prot` in [server]; did you mean `port`?",
        "ostinato.toml:3: there is no key `retention` in [server]; did you mean `journal.retention`?",
        "ostinato.toml:5: there is no section [journl]; did you mean `journal`?",
        "$OSTINATO__LIMITS__BODY_BYTE: there is no key `body_byte` in [limits]; did you mean `body_bytes`?",
        "$OSTINATO__LIMTS__BODY_BYTES: there is no section `limts`; did you mean `limits`?",
        "$OSTINATO__X: there is no section `x`; there are " + ", ".join(visible(ServerConfig())),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("server.port = '1'", "this is a text, but a whole number is wanted"),
        ("server.port = 70000", "70000 is too much; the most is 65535"),
        ("server.port = true", "this is true or false, but a whole number is wanted"),
        ("server.insecure = 1", "this is a number, but true or false is wanted"),
        ("journal.retention = 10", "10 of what?; write it as a text, 500ms, 10s, 1min or 2h"),
        ("journal.retention = '10'", "`10` is not a duration"),
        ("journal.retention = '10 parsecs'", "is not a duration"),
        ("journal.segment_bytes = '64 apples'", "is no size; write it as 512KiB"),
        ("journal.segment_bytes = '1KiB'", "1KiB is too little; the least is 64KiB"),
        ("files.read = '/tmp'", "this is a text, but a list of texts is wanted"),
        ("log.level = 'loud'", "`loud` is none of debug, info, warning, error"),
        ("server = 1", "`server` is a section"),
        ("server.data_dir = 2026-01-02", "this is a time, but a text is wanted"),
        ("tls.cert = 'a.pem'", "tls.cert without tls.key"),
        ("limits.decompressed_bytes = '1MiB'", "is smaller than limits.body_bytes"),
        ("kafka.security_protocol = 'SASL_SSL'", "set kafka.sasl_mechanism"),
        ("kafka.sasl_password = 'hunter2'", 'write { file = "/path/to/it" } or { env = "VARIABLE" }'),
        ("kafka.sasl_password = { env = 'NOT_SET' }", "the variable NOT_SET, which has the secret, is not set"),
        ("kafka.sasl_password = { file = 'not-there' }", "cannot be read: No such file"),
        ("webhooks.secrets.a = 'hunter2'", "does not stand in the file itself"),
        ("= 1", "is not TOML"),
    ],
)
def test_values_that_do_not_fit(line: str, said: str, tmp_path: Path) -> None:
    (found,) = problems(line, tmp_path)
    assert said in found
    assert found.startswith("ostinato.toml")
    assert "hunter2" not in found


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    assert len(problems("[server]\nport = 'x'\nhost = 5\n[log]\nlevl = 1\n", tmp_path, server__port="y")) == 4


@pytest.mark.parametrize(
    ("text", "value"), [("10s", 10_000), ("1 min 30 s", 90_000), ("500ms", 500), ("2h", 7_200_000), ("0", 0)]
)
def test_durations(text: str, value: int, tmp_path: Path) -> None:
    assert loaded("", tmp_path, {"OSTINATO__JOURNAL__RETENTION": text}).config.journal.retention == value


@pytest.mark.parametrize(("text", "value"), [("64MiB", 64 << 20), ("1.5GB", 1_500_000_000), ("100000B", 100_000)])
def test_sizes(text: str, value: int, tmp_path: Path) -> None:
    assert loaded(f"journal.segment_bytes = '{text}'", tmp_path).config.journal.segment_bytes == value


def test_lists_and_switches_of_the_environment(tmp_path: Path) -> None:
    environment = {"OSTINATO__FILES__READ": "/a, /b", "OSTINATO__AUTH__ENABLED": "no", "OSTINATO__TLS__CERT": ""}
    config = loaded("", tmp_path, environment).config
    assert config.files.read == ("/a", "/b")
    assert config.auth.enabled is False
    assert config.tls.cert is None
    (found,) = problems("", tmp_path, {"OSTINATO__AUTH__ENABLED": "perhaps"})
    assert found == "$OSTINATO__AUTH__ENABLED: `perhaps` is neither true nor false"


def test_secrets_come_by_file_or_variable_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    text = "[kafka]\nsasl_password = { file = 'password' }\n[webhooks]\nsecrets.a = { env = 'HOOK' }\n"
    environment = {
        "HOOK": "swordfish",
        "OSTINATO__WEBHOOKS__SECRETS__B": "sesame",
        "OSTINATO__WEBHOOKS__SECRETS__C__FILE": str(tmp_path / "password"),
    }
    found = loaded(text, tmp_path, environment)
    config = found.config
    assert config.kafka.sasl_password is not None
    assert config.kafka.sasl_password.reveal() == "hunter2"
    assert {name: secret.reveal() for name, secret in config.webhooks.secrets.items()} == {
        "a": "swordfish",
        "b": "sesame",
        "c": "hunter2",
    }
    shown = [repr(config), str(config), f"{config.kafka.sasl_password:>5}", as_toml(found, origins=True)]
    shown += [json.dumps(visible(config)), repr(found)]
    for text in shown:
        assert not [word for word in ("hunter2", "swordfish", "sesame") if word in text]
        assert "***" in text


def test_a_secret_is_not_copied() -> None:
    import copy

    assert Secret("a") == Secret("a") != Secret("b")
    with pytest.raises(TypeError, match="not copied"):
        copy.deepcopy(Secret("a"))


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    text = "[server]\nport = 1\nallowed_hosts = ['a', \"b'c\"]\n[journal]\nretention = '36h'\nretention_bytes = '5GB'\n"
    first = loaded(text, tmp_path)
    second = loaded(as_toml(first, origins=True), tmp_path)
    assert second.config == first.config


def test_lines_are_found_behind_texts_of_several_lines(tmp_path: Path) -> None:
    text = "[tls]\ncert = '''\n[log]\nlevl = 1\n'''\nky = 'x'\n"
    assert problems(text, tmp_path)[0].startswith("ostinato.toml:6: there is no key `ky`")


def test_the_docs_have_the_table_of_all_settings() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    assert reference() in page, "docs/configuration.md: put in what `ostinato.server.config.showing.reference()` gives"


def test_every_setting_says_what_it_means() -> None:
    for setting in settings().values():
        assert len(setting.about.text) > 5
        assert setting.variable in (f"OSTINATO__{setting.section}__{setting.key}").upper()
