"""Options and files of settings: what is refused, and who wins."""

import pytest
from click.testing import CliRunner

from runtime.cli import main
from runtime.commands import watch as command
from runtime.commands.watch_config import SOURCES
from runtime.commands.watch_settings import sources_of
from runtime.errors import ConfigError
from runtime.watch.settings import SourceSettings, check_sources, split_source


def run(world, *words):
    """Return the last line of a command that is refused."""
    result = CliRunner().invoke(main, ["watch", str(world.path), *map(str, words)])
    assert result.exit_code in (1, 2) and "Traceback" not in result.output, result.output
    return result.output.splitlines()[-1]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-x", "a b", "a/b", "a=b", "ü", "a\n", "a\x1b[2J", "#", "+", "x" * 65]
)
def test_names_that_are_not_safe_in_files_topics_and_metrics_are_refused(name):
    with pytest.raises(ConfigError, match="the name of a source must have 1 to 64 letters"):
        SourceSettings(name, "0")


@pytest.mark.parametrize("name", ["door", "0", "a_b-c.d", "x" * 64])
def test_an_address_may_have_any_letter_behind_its_name(name):
    where = "rtsp://me:p=w@10.0.0.7/s?a=b ! x = 'y'"
    assert split_source(f"{name}={where}") == (name, where)
    check_sources([SourceSettings(name, where)])


def test_a_home_is_found_also_behind_a_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SourceSettings("a", "~/pictures").where == str(tmp_path / "pictures")


@pytest.mark.parametrize("key", ["every", "queue", "smooth"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_numbers_that_are_none_are_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key} of source 'a' must be a whole number of at"):
        SourceSettings("a", "0", **{key: value})


@pytest.mark.parametrize("value", [0, -1.5, float("nan"), float("inf"), True, "9"])
def test_a_stall_that_is_no_time_is_refused(value):
    with pytest.raises(ConfigError, match="stall of source 'a' must be a number of seconds"):
        SourceSettings("a", "0", stall=value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "error: there is no source to watch; name one, for example --source door=rtsp://"),
        (("--source", "0"), "error: a source must be NAME=WHERE; found '0'; write for example"),
        (("--source", "a b=0"), "error: the name of a source must have 1 to 64 letters"),
        (("--source", "a= "), "error: source 'a' does not say where its frames come from"),
        (("--source", "a=0", "--source", "a=1"), "error: two sources are named 'a'; give each"),
        (("--demo", "--source", "demo=1"), "error: two sources are named 'demo'; give each"),
        (("--demo",), "error: no task is selected; available: a-b, a-c, a-d; name one"),
        (("--demo", "--task", "x"), "error: unknown task 'x'; available: a-b, a-c, a-d"),
        (("--demo", "--task", "auto"), "cannot choose tasks for frames, as it has no whitening"),
        (("--demo", "--state", "x"), "error: --state goes with --drift; add that, or leave out"),
        (("--demo", "--max-age", "2"), "error: --max-age goes with --harvest; add that"),
        (("--demo", "--budget", "9"), "error: --budget goes with --harvest; add that"),
        (("--demo", "--top", "2"), "error: --top goes with --jsonl, --csv, --save"),
        (("--demo", "--jsonl", "-", "--csv", "-"), "error: --jsonl and --csv both name '-'"),
        (("--source", "a=nowhere.avi", "--task", "a-b"), "nowhere.avi"),
    ],
)
def test_what_cannot_be_watched_is_one_line(world, words, message):
    line = run(world, *words)
    assert message in line and line.startswith("error: ")


def test_an_output_in_the_bundle_or_over_a_source_is_refused(world, tmp_path):
    (tmp_path / "film.avi").write_text("precious")
    source = ("--source", f"a={tmp_path / 'film.avi'}", "--task", "a-b")
    line = run(world, *source, "--jsonl", tmp_path / "film.avi")
    assert line.endswith("is an input; write the --jsonl elsewhere")
    assert "lies in the bundle" in run(world, *source, "--csv", world.path / "x.csv")
    assert (tmp_path / "film.avi").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evry = 2", "has an unknown option 'evry'; did you mean 'every'"),
        ("max-agee = 2", "has an unknown option 'max-agee'; did you mean 'max-age'"),
        ("source = ['a=0']", "has an unknown option 'source'; did you mean 'sources'"),
        ("bundle = 'x'", "has an unknown option 'bundle'; available: backend, budget, control"),
        ("every = 0", "every: 0 is not in the range x>=1"),
        ("every = true", "every must be a whole number, found 'True'"),
        ("every = '3'", "every must be a whole number, found '3'"),
        ("drift = 1", "drift must be true or false, found '1'"),
        ("reject = 'x'", "reject must be a number, found 'x'"),
        ("task = 3", "task must be text, found '3'"),
        ("backend = 'trtt'", "backend: 'trtt' is not one of"),
        ("sources = 3", "sources must be tables such as [sources.door]"),
        ("[sources]\ndoor = 3", "[sources.door] must be a table of settings"),
        ("[sources.door]\nevery = 2", "[sources.door] does not say where its frames come from"),
        ("[sources.door]\nwhere = 0", "where in [sources.door] must be text, found '0'"),
        ("[sources.door]\nwere = '0'", "unknown setting 'were' in [sources.door]; did you mean "),
        ("[sources.door]\nwhere = '0'\nsmooth = 0", "smooth in [sources.door]: 0 is not in the"),
        ("[sources.'a b']\nwhere = '0'", "the name of a source must have 1 to 64 letters"),
        ("x = [" * 3000, "is not TOML: "),
        ("a = 1\na = 2", "is not TOML: "),
        ("\xff", "is not TOML: "),
    ],
)
def test_a_file_with_a_mistake_is_one_line_that_names_it(world, tmp_path, text, message):
    config = tmp_path / "watch.toml"
    config.write_bytes(text.encode("latin-1"))
    line = run(world, "--config", config)
    assert line.startswith("error: ") and message in line
    assert str(config) in line or "name of a source" in line


@pytest.mark.parametrize(
    "text",
    [
        "token = 75316420",
        "mqtt = ['mqtt://me:75316420@h']",
        "[sources.a]\nwhere = ['rtsp://me:75316420@h/']",
        "[sources.a]\nwhere = {url = 'rtsp://me:75316420@h/'}",
        "[sources.'rtsp://me:75316420@h/']\nwere = '0'",
        "[sources.'rtsp://me:75316420@h/']\nwhere = '0'",
    ],
)
def test_a_file_with_a_mistake_gives_no_secret_away(world, tmp_path, text):
    config = tmp_path / "watch.toml"
    config.write_text(text)
    line = run(world, "--config", config)
    assert line.startswith("error: ") and "75316420" not in line


@pytest.mark.parametrize("text", ["rtsp://me:75316420@h/", "rtsp://me:75316420@h/?x=1"])
def test_a_source_without_a_name_gives_no_password_away(text):
    with pytest.raises(ConfigError, match=r"found 'rtsp://\*\*\*@h/"):
        split_source(text)


def test_names_that_are_one_on_some_disks_are_refused():
    with pytest.raises(ConfigError, match="upper and lower case: Door, door; give each"):
        check_sources([SourceSettings(name, "0") for name in ("Door", "yard", "door")])


def given(world, *words):
    """Return the values of a command line, and the sources that follow from it."""
    context = command.watch.make_context("watch", [str(world.path), *words])
    by = {name: context.get_parameter_source(name) for name in context.params}
    return context.params, sources_of(context.params, by, context.meta[SOURCES])


def test_options_win_over_the_file_and_what_they_leave_out_stays(world, tmp_path):
    config = tmp_path / "watch.toml"
    config.write_text(
        "task = 'a-b'\nmax-age = 3\nharvest = 'h'\ndrift = true\n"
        "[sources.door]\nwhere = '0'\ntask = 'a-c'\nevery = 3\n[sources.yard]\nwhere = '1'\n"
    )
    values, (door, yard) = given(world, "--config", str(config))
    assert (door.where, door.task, door.every) == ("0", "a-c", 3)
    assert (yard.where, yard.task, yard.every) == ("1", "a-b", 1)
    assert (values["max_age"], values["drift"], str(values["harvest"])) == (3, True, "h")
    words = ("--source", "door=7", "--task", "a-d", "--max-age", "5", "--demo")
    values, (door, yard, demo) = given(world, "--config", str(config), *words)
    assert (door.where, door.task, door.every) == ("7", "a-d", 3)
    assert (yard.where, yard.task, demo.where) == ("1", "a-d", "demo:") and values["max_age"] == 5
