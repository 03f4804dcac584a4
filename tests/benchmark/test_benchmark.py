"""Suites, what a runner refuses, and suites that are run, killed and gone on with."""

import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from absl import flags as absl_flags
from helpers import MAZE_GOALS, ROOT, SUITES, launch, left_behind
from rich.console import Console

from valuelab.benchmark import processes, runner, suites
from valuelab.benchmark.suites import Member, Suite
from valuelab.errors import InputError
from valuelab.runs import flags, outputs, zero_shot

TRAIN = "experiments.train"
SETTINGS = {"agent.hidden_dims": (8,), "batch_size": 8, "eval_episodes": 0, "mesh": (1, 1)}


def tiny(label, **settings):
    """A member that takes 20 updates, `settings` over its own."""
    whole = SETTINGS | {"steps": 20, "log_every": 5, "checkpoint_every": 5} | settings
    return Member(label, "bc:pointmaze", MAZE_GOALS, program="experiments.train", settings=whole)


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    """A suite file."""
    path.write_text(f"from valuelab.benchmark import Member, Suite; TRAIN = {TRAIN!r}\n{text}\n")
    return path


def write_suite(path: pathlib.Path, *suite_members: Member) -> pathlib.Path:
    """The suite file of members."""
    return write(path, f"SUITE = Suite(({''.join(f'{member!r},' for member in suite_members)}))")


# Suites.


@pytest.mark.parametrize("name", suites.known_suites(SUITES))
def test_every_member_of_a_suite_is_a_command_that_its_program_takes(name):
    found = suites.read(name, SUITES)
    assert (found.name, found.source) == (name, f"experiments/suites/{name}.py")
    assert re.search(
        r"^hardware: .*\n(.*\n)*?expected: .*\n(.*\n)*?run: ", (ROOT / found.source).read_text(), re.M
    )
    presets = set()
    for member in found.members:
        if (member.agent, *member.settings) in presets:
            continue  # parsed before, with other numbers
        presets.add((member.agent, *member.settings))
        parse = zero_shot.parse if member.program == "experiments.zero_shot" else flags.parse_run
        _, _, *arguments = member.arguments
        config, _ = parse(["member", *arguments], absl_flags.FlagValues())
        assert config.dataset == member.dataset
        assert config.dataset or config.environment
        assert config.num_seeds >= 4


def test_the_small_suite_is_what_the_readme_compares():
    found = suites.read("cpu_small", SUITES)
    labels = {member.label for member in found.members}
    offline = {"bc", "iql", "iql_ddpg_bc", "ifql", "rebrac", "fql", "fql_hl_gauss", "fql_iqn", "floq"}
    study = {"bc_study", "iql_study", "iql_ddpg_bc_study", "ifql_study"}
    assert labels == offline | study | {"td_jepa", "forward_backward", "hilp"}
    assert len(found.members) == 2 * len(labels)


def test_a_member_has_a_name_a_folder_and_a_command():
    member = Member(
        "fql",
        "fql:cube",
        "ogbench/cube-v0",
        program=TRAIN,
        settings={"agent.hidden_dims": (8, 8), "steps": 5},
    )
    assert (member.name, member.folder) == ("fql/cube-v0", "members/fql--cube-v0")
    assert member.arguments == [
        *("-m", "experiments.train", "--agent=fql:cube", "--dataset=ogbench/cube-v0"),
        *("--agent.hidden_dims=8,8", "--steps=5"),
    ]
    acting = Member(
        "risk averse", "eta_network:target", program=TRAIN, settings={"environment": "gridworld/target"}
    )
    assert (acting.name, acting.folder) == ("risk averse/target", "members/risk-averse--target")
    assert not any(argument.startswith("--dataset") for argument in acting.arguments)


def test_an_added_agent_gets_the_settings_of_the_first_member_on_each_dataset():
    first = Member("a", "iql:x", "ogbench/one", program=TRAIN, settings={"steps": 5, "agent.expectile": 0.9})
    others = (
        Member("b", "fql:x", "ogbench/one", program=TRAIN, settings={"steps": 7}),
        Member("b", "fql:x", "ogbench/two", program=TRAIN, settings={"steps": 9}),
    )
    goals = Member("c", "hilp:x", "ogbench/goals", program="experiments.zero_shot")
    added = suites.add(Suite((first, *others, goals)), "folder/mine.py:preset").members[4:]
    assert [member.name for member in added] == ["mine/one", "mine/two"]
    assert [member.settings for member in added] == [{"steps": 5}, {"steps": 9}]
    assert all(member.agent == "folder/mine.py:preset" and member.added for member in added)
    (alone,) = suites.add(Suite((goals,)), "mine.py").members[1:]
    assert alone.program == "experiments.zero_shot"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SUITE = 1",
            r"suite file .*mine\.py, line \d+: it must define SUITE|mine\.py: it must define SUITE",
        ),
        (
            "\nSUITE = Suite((Member('a', 'b', program='experiments.train', steps=3),))",
            r"suite file .*mine\.py, line 3: TypeError: .*steps",
        ),
        (
            "SUITE = Suite([Member('a', agent, 'd/e', program=TRAIN) for agent in ('iql', 'fql')])",
            r"two members share members/a--e, a/e and a/e: rename a label",
        ),
        (
            "SUITE = Suite((Member('a/b', 'iql', program='experiments.train'),))",
            r"label 'a/b' of iql: give one without slashes and commas",
        ),
        (
            "SUITE = Suite((Member('a', 'iql', program='tran'),))",
            r"a: there is no program tran; write such as experiments.train",
        ),
        (
            "SUITE = Suite((Member('a', 'iql', program='experiments.train', settings={'workdir': 'x'}),))",
            r"a: workdir is no setting",
        ),
    ],
)
def test_a_suite_that_cannot_be_used_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as told:
        suites.read(str(write(tmp_path / "mine.py", text)), SUITES)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (("",), "^only is '', which names nothing: give names, or leave it out$"),
        (("bc,",), "^only is 'bc,', which names nothing"),
        (("bc,iql", "bc"), "^only names bc twice: give it once$"),
    ],
)
def test_members_are_named_once(tmp_path, only, message):
    with pytest.raises(InputError, match=message):
        runner.run(runner.BenchmarkConfig("cpu_small", str(tmp_path), only=only), SUITES)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="unknown suite 'cpu_smal': did you mean 'cpu_small'"):
        suites.read("cpu_smal", SUITES)
    with pytest.raises(InputError, match=r"suite file none\.py does not exist"):
        suites.read("none.py", SUITES)
    found = suites.read("cpu_small", SUITES)
    with pytest.raises(InputError, match="unknown member of cpu_small 'flq': did you mean 'floq'"):
        suites.choose(found, ["fql", "flq"])
    chosen = suites.choose(found, ["fql", "iql/cube-single-play-singletask-v0"])
    assert [member.label for member in chosen] == ["fql", "iql", "fql"]


# The folder of a suite.


def prepare(workdir, *suite_members):
    return runner.prepare(workdir, Suite(tuple(suite_members), "small", "small.py"))


def test_the_folder_says_what_is_compared_and_keeps_what_was_added(tmp_path):
    mine = dataclasses.replace(tiny("mine"), added=True)
    assert prepare(tmp_path, tiny("a"), mine) == {tiny("a").name, mine.name}
    told = json.loads((tmp_path / "suite.json").read_text())
    assert (told["format"], told["suite"], told["source"]) == (1, "small", "small.py")
    assert told["versions"] == outputs.versions()
    assert [(entry["label"], entry["added"]) for entry in told["members"]] == [("a", False), ("mine", True)]
    entry = told["members"][0]
    assert entry["command"].startswith("python -m experiments.train --agent=bc:pointmaze --dataset=ogbench/")
    assert entry["command"].endswith(f" --workdir={entry['folder']}")
    prepare(tmp_path, tiny("b"))
    kept = json.loads((tmp_path / "suite.json").read_text())["members"]
    assert [entry["label"] for entry in kept] == ["b", "mine"]


def test_a_result_of_another_command_does_not_count_ever(tmp_path):
    prepare(tmp_path, tiny("a"))
    folder = tmp_path / tiny("a").folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    for _ in range(2):
        assert prepare(tmp_path, tiny("a", steps=21)) == set()
    assert prepare(tmp_path, tiny("a")) == {tiny("a").name}


def test_a_result_without_a_score_is_not_made_again(tmp_path, capsys):
    member = Member("a", "iql", "d/one", program=TRAIN)
    config = runner.BenchmarkConfig(str(write_suite(tmp_path / "pair.py", member)), str(tmp_path / "run"))
    folder = tmp_path / "run" / member.folder
    folder.mkdir(parents=True)
    result = {"steps": 1, "throughput": {}, "versions": {}, "without_score": [{"task": "x"}]}
    (folder / "result.json").write_text(json.dumps(result))
    assert runner.run(config, SUITES) == 1
    assert f"have no finite score: remove {folder} to run it again" in capsys.readouterr().out


def test_a_folder_of_other_versions_or_another_suite_is_refused(tmp_path):
    prepare(tmp_path, tiny("a"))
    path = tmp_path / "suite.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"versions": saved["versions"] | {"jax": "0.0.1"}}))
    message = rf"suite\.json is of jax 0\.0\.1, and now {saved['versions']['jax']}: give another --workdir"
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, tiny("a"))
    path.write_text(json.dumps(saved | {"suite": "large", "format": 0}))
    with pytest.raises(InputError, match="of format 0, and now 1; suite large, and now small: give"):
        prepare(tmp_path, tiny("a"))
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as suite of valuelab"):
        prepare(tmp_path, tiny("a"))


def test_a_partly_written_result_is_no_result(tmp_path):
    assert processes.read_result(tmp_path) is None
    for text in ("", "[]", '{"steps": 5, "throughput": {}'):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(InputError, match=r"result\.json cannot be read as whole result"):
            processes.read_result(tmp_path)
        assert not processes.is_done(tmp_path)


# The machine.


def test_cores_and_accelerators_are_shared_without_overlap(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(runner, "available_memory", lambda: 100 << 30)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [slot.cores for slot in runner.share_machine()] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert runner.share_machine(1) == [runner.Slot()]
    assert [len(slot.cores) for slot in runner.share_machine(3)] == [2, 3, 3]
    assert {len(slot.cores) for slot in runner.share_machine(9)} == {1}
    monkeypatch.setattr(runner, "available_memory", lambda: 7 << 30)
    assert len(runner.share_machine()) == 2
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    given = [slot.environment for slot in runner.share_machine()]
    assert given == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    shared = runner.share_machine(4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared] == ["3", "5", "3", "5"]
    assert all(slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450" for slot in shared)


def test_where_processes_have_no_cores_of_their_own_all_are_shared(monkeypatch, tmp_path):
    """As on macOS, which has neither prctl nor affinities."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(processes, "_prctl", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(runner, "available_memory", lambda: 100 << 30)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [slot.cores for slot in runner.share_machine()] == [(0, 1), (2, 3)]
    assert " 4 cores of " in f" {runner.describe_machine()}"
    processes.run(job(tmp_path, "print('up')", cores=[0]), processes.Stop())
    assert processes.last_words(tmp_path / "folder") == "up"


def test_brackets_in_what_a_member_says_are_no_markup(tmp_path):
    console = Console(file=io.StringIO(), markup=False)
    member = tiny("plain")
    board = runner.Board([member], tmp_path, console)
    board.set(member.name, processes.FAILED, "no file [/data/x]")
    assert "no file [/data/x]" in console.file.getvalue()


def test_a_look_at_a_member_finds_its_latest_score(tmp_path):
    line = runner.Line(state="running")
    runner.look(tmp_path, line)
    assert line == runner.Line(state="running")
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100}}')
    rows = [
        {"step": 40, "seed": seed, "updates_per_second": 8.0, "eval/return": -9.0, "eval/success": score}
        for seed, score in enumerate((0.25, 0.75))
    ] + [{"step": 60, "seed": seed, "updates_per_second": 4.0} for seed in (0, 1)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text("x" * runner.TAIL + "\n" + text + '{"step": 8')
    runner.look(tmp_path, line)
    # 40 updates of each of two seeds are left, at 4 updates of either a second.
    assert line == runner.Line(state="running", steps=60, total=100, speed=4.0, left=20.0, score=0.5)
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100, "sweep": ["agent.tau=1,2"]}}')
    runner.look(tmp_path, line)
    assert line.score is None  # settings are not pooled
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100}}')
    (tmp_path / "metrics.jsonl").write_text(text.replace("0.25", "null"))
    runner.look(tmp_path, line)
    assert line.score is None


def test_the_runner_does_not_import_jax():
    told = "import experiments.benchmark, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# One process.


def job(tmp_path, program, **changes):
    """A job that runs a line of Python."""
    whole = processes.Job("mine", ["-c", program], str(tmp_path / "folder"), str(tmp_path / "timings.jsonl"))
    return whole._replace(**changes)


def test_a_process_gets_its_cores_and_variables_and_must_leave_a_result(tmp_path):
    core = max(os.sched_getaffinity(0))
    program = "import os; print(os.sched_getaffinity(0), os.environ['MINE'])"
    given = job(tmp_path, program, cores=[core], environment={"MINE": "7"})
    assert processes.run(given, processes.Stop()) == processes.FAILED
    assert processes.last_words(tmp_path / "folder") == f"{{{core}}} 7"
    assert json.loads((tmp_path / "timings.jsonl").read_text()).keys() == {
        *("name", "started", "seconds", "status", "exit")
    }


def test_a_member_that_cannot_be_started_is_told_of_as_one_that_failed(tmp_path):
    processes.refuse(job(tmp_path, "print()"), "no such preset")
    assert processes.last_words(tmp_path / "folder") == "error: no such preset"
    line = json.loads((tmp_path / "timings.jsonl").read_text())
    assert (line["name"], line["status"], line["seconds"]) == ("mine", processes.FAILED, 0)


def test_asked_once_a_process_may_save_and_asked_twice_it_is_killed(tmp_path):
    stubborn = "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('saving')); print('up')"
    stop = processes.Stop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ended = pool.submit(
            processes.run, job(tmp_path, f"{stubborn}; [time.sleep(60) for _ in range(2)]"), stop
        )
        for word in ("up", "saving"):
            while not processes.last_words(tmp_path / "folder").startswith(word):
                assert not ended.done()
                time.sleep(0.01)
            stop()
        assert ended.result() == processes.STOPPED
    assert json.loads((tmp_path / "timings.jsonl").read_text())["exit"] == -signal.SIGKILL


# Suites that are run.


@pytest.fixture
def start():
    """Starts the program; what still runs when the test ends is killed."""
    with contextlib.ExitStack() as programs:

        def start(suite_file, workdir, data_dir, *more):
            given = [f"--suite={suite_file}", f"--workdir={workdir}", f"--data_dir={data_dir}", *more]
            program = subprocess.Popen(
                [sys.executable, "-m", "experiments.benchmark", *given],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            programs.callback(program.kill)
            return program

        yield start


def when_saved(folder, program, beyond=0):
    """Waits for a checkpoint after an update, and returns its update."""
    limit = time.monotonic() + 600  # starting takes seconds, and minutes where much else runs
    while time.monotonic() < limit:
        assert program.poll() is None, program.communicate()[0]
        steps = [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
        if max(steps, default=0) > beyond:
            return max(steps)
        time.sleep(0.01)
    raise AssertionError("nothing was saved")


def timings(workdir):
    lines = (workdir / "timings.jsonl").read_text().splitlines()
    return [(line["name"].partition("/")[0], line["status"]) for line in map(json.loads, lines)]


@pytest.mark.slow
def test_killed_and_stopped_a_suite_goes_on_with_nothing_repeated(start, data_dir, tmp_path):
    long = {"steps": 15_000, "log_every": 500, "checkpoint_every": 500, "num_seeds": 2}
    diverging = tiny("diverging", **{"agent.learning_rate": 1e38})
    file = write_suite(tmp_path / "mine.py", tiny("long", **long), diverging, tiny("short"))
    workdir = tmp_path / "out"
    folder = workdir / tiny("long").folder
    damaged = workdir / tiny("short").folder / "result.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")

    program = start(file, workdir, data_dir)
    saved = when_saved(folder, program)
    program.kill()
    program.communicate()
    program = start(file, workdir, data_dir, "--only=long")
    when_saved(folder, program, beyond=saved + 1000)
    program.send_signal(signal.SIGINT)
    told = program.communicate()[0]
    assert program.returncode == 130, told
    assert timings(workdir) == [("long", "stopped")]
    program = start(file, workdir, data_dir)
    told = program.communicate()[0]
    assert program.returncode == 1, told

    assert timings(workdir) == [
        *[("long", "stopped"), ("long", "done"), ("diverging", "failed"), ("short", "done")]
    ]
    assert damaged.with_name("result.json.damaged").read_text() == "{"
    assert all(processes.is_done(workdir / tiny(name).folder) for name in ("long", "short"))
    message = r"^diverging/\S+: failed after 0:\d\d:\d\d: error: .* is not finite .*/log\.txt\)$"
    assert re.search(message, told, re.MULTILINE)
    assert "2 done, 1 failed; everything is in" in told
    rows = left_behind(folder)["rows"]
    assert [(row["step"], row["seed"]) for row in rows] == [
        (step, seed) for step in range(500, 15_001, 500) for seed in (0, 1)
    ]
    log = (folder / "log.txt").read_text()
    resumed = [int(step.replace(",", "")) for step in re.findall("going on after update ([0-9,]+)", log)]
    assert len(resumed) == 2
    assert saved <= resumed[0] < resumed[1]


@pytest.mark.slow
def test_workers_of_a_cluster_leave_the_same(start, data_dir, tmp_path):
    pytest.importorskip("submitit")
    file = write_suite(tmp_path / "mine.py", tiny("one"))
    here, workdir = tmp_path / "here", tmp_path / "there"
    program = start(file, workdir, data_dir, "--cluster=local", "--slurm=timeout_min=5")
    told = program.communicate()[0]
    assert program.returncode == 0, told
    assert timings(workdir) == [("one", "done")]
    launch([*tiny("one").arguments[2:], f"--data_dir={data_dir}", f"--workdir={here}"])
    there = workdir / tiny("one").folder
    assert left_behind(here) == left_behind(there)
    assert {path.name for path in there.iterdir()} == {"log.txt", *(path.name for path in here.iterdir())}


def test_settings_that_submitit_does_not_know_are_refused(tmp_path):
    pytest.importorskip("submitit")
    config = runner.BenchmarkConfig(workdir=str(tmp_path), cluster="local", slurm=("partion=gpu",))
    with pytest.raises(InputError, match=r"slurm is partion=gpu: submitit refuses it .*partion"):
        runner._submitter(config)
