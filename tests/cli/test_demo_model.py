"""The model that ships in the package: what `sgxl-t sample` uses when no model is named."""

from click.testing import CliRunner

from sgxl_t.cli.main import cli


def test_sample_without_a_model_draws_with_the_packaged_one(tmp_path):
    for folder in ("first", "second"):
        arguments = ["sample", "a red fox in snow", "--seeds", "1-2", "--out", str(tmp_path / folder)]
        assert CliRunner().invoke(cli, arguments).exit_code == 0
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == ["a-red-fox-in-snow-seed0001.png", "a-red-fox-in-snow-seed0002.png"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
