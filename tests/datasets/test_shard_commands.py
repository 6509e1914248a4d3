"""Who may run commands, what is shown before, and what else a reference must not do."""

import logging
import os
import time

import pytest
from tiny_shards import numbers_of, write_shards

from sgxl_t.datasets import open_source
from sgxl_t.datasets.shards import discover
from sgxl_t.datasets.shards.braces import count_names, expand
from sgxl_t.datasets.shards.discover import Consent, find_shards
from sgxl_t.datasets.shards.source import ShardOptions
from sgxl_t.networks.configs import GeneratorConfig
from sgxl_t.training.config.config_file import parse_config
from sgxl_t.training.loop.data import open_data


@pytest.fixture(autouse=True)
def nothing_announced():
    discover._announce.cache_clear()


@pytest.fixture
def listed(tmp_path):
    """A list whose only line runs a command that leaves a trace."""
    write_shards(tmp_path, shards=1)
    (tmp_path / "mix.txt").write_text(f"pipe:touch {tmp_path}/ran; cat {tmp_path}/00000.tar\n")
    return tmp_path / "mix.txt"


def opened(place, **consent):
    return open_source(place, resolution=16, shards=ShardOptions(consent=Consent(**consent)))


def test_a_list_runs_commands_only_when_allowed_and_shows_them(listed, caplog):
    for options in ({}, {"typed": False}):
        with pytest.raises(ValueError, match=r"mix\.txt, line 1, runs the command `touch .*allow_pipe true"):
            opened(listed, **options)
    with pytest.raises(ValueError, match="allow_pipe"):
        open_source(listed, resolution=16)
    assert not (listed.parent / "ran").exists()
    with caplog.at_level(logging.WARNING):
        assert len(opened(listed, allow_pipe=True)) == 6
    assert f"line 1, runs the command `touch {listed.parent}/ran" in caplog.text
    assert (listed.parent / "ran").exists()


@pytest.mark.parametrize(
    "form", ["pipe:{}", "{{00000..00000}}.tar::pipe:{} #.tar", "{{00000,pipe:{} #}}.tar"]
)
def test_commands_hidden_in_patterns_are_commands(listed, form):
    command = f"touch {listed.parent}/ran"
    listed.write_text(form.format(command) + "\n")
    with pytest.raises(ValueError, match="allow_pipe"):
        opened(listed)
    with pytest.raises(ValueError, match=r"data\.source runs the command"):
        opened(f"pipe:{command}", typed=False)
    assert not (listed.parent / "ran").exists()


def test_a_typed_command_runs_and_is_shown_without_its_control_characters(tmp_path, caplog):
    write_shards(tmp_path, shards=1)
    with caplog.at_level(logging.WARNING):
        source = open_source(f"pipe:cat {tmp_path}/0000{{0..0}}.tar #\x1b]0;x", resolution=16)
        open_source(f"pipe:cat {tmp_path}/0000{{0..0}}.tar #\x1b]0;x", resolution=16)
    assert numbers_of(source.samples()) == list(range(6))
    assert [r.getMessage() for r in caplog.records] == [
        f"data.source runs the command `cat {tmp_path}/0000{{0..0}}.tar #\\x1b]0;x`"
    ]


def test_addresses_of_a_list_are_announced(tmp_path, caplog):
    (tmp_path / "mix.txt").write_text("http://127.0.0.1:9/{0..7}.tar\n")
    with caplog.at_level(logging.WARNING):
        find_shards(str(tmp_path / "mix.txt"))
    assert "mix.txt, line 1, fetches http://127.0.0.1:9/{0..7}.tar" in caplog.text


def config_of(tmp_path, text, *arguments):
    (tmp_path / "config.yaml").write_text(text)
    return parse_config(["--config", str(tmp_path / "config.yaml"), *arguments])


def test_a_configuration_cannot_allow_itself(listed):
    command = f"pipe:cat {listed.parent}/00000.tar"
    text = f'data:\n  source: "{command}"\n  allow_pipe: true\n'
    with pytest.raises(ValueError, match=r"data\.source runs the command `cat .*allow_pipe true"):
        open_data(config_of(listed.parent, text).data, GeneratorConfig(img_resolution=16))
    for typed in (["--data.allow_pipe", "true"], ["--data.allow_pipe=true"], ["--data", command]):
        assert (
            len(open_data(config_of(listed.parent, text, *typed).data, GeneratorConfig(img_resolution=16)))
            == 6
        )
    assert not config_of(listed.parent, text, "--data", str(listed)).data.allow_pipe
    assert not config_of(listed.parent, "data:\n  allow_pipe: true\n").data.allow_pipe


def test_a_typed_command_allows_no_other(listed):
    """Neither the tracked data nor a stage of the file gains by it."""
    command = f"pipe:cat {listed.parent}/00000.tar"
    assert config_of(listed.parent, "seed: 1", "--data", command).data.allow_pipe
    tracked = 'log:\n  track_source: "pipe:touch x"\n'
    assert not config_of(listed.parent, tracked, "--data", command).data.allow_pipe
    stages = 'stages:\n  - {resolution: 16, overrides: {data.source: "pipe:touch x"}}\n'
    assert not config_of(listed.parent, stages, "--data", command).data.allow_pipe


# Only files are shards


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    place = tmp_path / "00000.tar"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
        (place / "x").touch()
    began = time.monotonic()
    (tmp_path / "mix.txt").write_text("0000{0..0}.tar\n")
    for reference in (f"{tmp_path}/*.tar", tmp_path / "mix.txt", f"file://{place}"):
        with pytest.raises(ValueError, match=r"00000\.tar (is not a file|.*names no shards)"):
            open_source(reference, resolution=16)
    with pytest.raises(ValueError, match=r"00000\.tar|holds no pictures"):
        open_source(tmp_path, resolution=16)
    assert time.monotonic() - began < 5


def test_a_pipe_among_shards_of_a_folder_is_rejected_and_counted(tmp_path):
    write_shards(tmp_path, shards=2)
    os.mkfifo(tmp_path / "00002.tar")
    source = open_source(tmp_path, resolution=16, reject_limit=0.9)
    assert len(list(source.samples())) == 12
    assert source.rejects.items == [
        ("00002.tar", "shard cannot be opened", f"{tmp_path}/00002.tar is a named pipe, not a file")
    ]


def test_linked_folders_are_searched_once(tmp_path):
    write_shards(tmp_path / "elsewhere", shards=2)
    (tmp_path / "set" / ".hidden").mkdir(parents=True)
    (tmp_path / "set" / ".hidden" / "9.tar").touch()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    assert len(open_source(tmp_path / "set", resolution=16)) == 12


def test_file_addresses_are_paths(tmp_path):
    write_shards(tmp_path, shards=1)
    assert len(open_source(f"file://{tmp_path}/00000.tar", resolution=16)) == 6


# Patterns


@pytest.mark.parametrize(
    "pattern",
    [
        "a{0..9}",
        "{00..99..7}",
        "{a,b{1..3},}x{y,z}",
        "{abc}",
        "{{0..2},{5..7}}",
        "{9..1}",
        "a,b",
        r"\{0..9\}",
    ],
)
def test_names_are_counted_as_they_are_made(pattern):
    assert count_names(pattern) == len(expand(pattern, 10**6))


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..999999999}.tar",
        "{0..9}" * 9 + ".tar",
        "{{0..999}{0..999}{0..999},x}.tar",
        "{0..99999999999999999999}.tar",
    ],
)
def test_patterns_that_stand_for_too_many_are_refused_before_they_are_made(pattern):
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"stands for \d+ shards, and at most 1000000 are read"):
        find_shards(f"http://host/{pattern}")
    assert time.monotonic() - began < 1


def test_compressed_archives_are_named(tmp_path):
    (tmp_path / "0.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match=r"0\.tar\.gz is a compressed archive.*unpack"):
        open_source(tmp_path / "0.tar.gz", resolution=16)
