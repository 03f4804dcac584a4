"""Suites, errors of the runner, and suites that are run, killed and continued."""

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
from helpers import MAZE, MAZE_GOALS, ROOT, SUITES, launch, left_behind
from rich.console import Console

from valuelab import data
from valuelab.benchmark import board, cluster, machine, processes, runner, suites
from valuelab.benchmark.suites import Job, Suite
from valuelab.errors import InputError
from valuelab.runs import flags, outputs, zero_shot

TRAIN = "experiments.train"
SETTINGS = {"agent.hidden_dims": (8,), "batch_size": 8, "eval_episodes": 0, "mesh": (1, 1)}


def tiny(label, **settings):
    """A job of 20 updates; `settings` override its own."""
    whole = SETTINGS | {"steps": 20, "log_every": 5, "checkpoint_every": 5} | settings
    return Job(label, "bc:pointmaze", MAZE_GOALS, program=TRAIN, settings=whole)


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    """A suite file."""
    path.write_text(f"from valuelab.benchmark import Job, Suite; TRAIN = {TRAIN!r}\n{text}\n")
    return path


def write_suite(path: pathlib.Path, *jobs: Job) -> pathlib.Path:
    """A suite file with these jobs."""
    return write(path, f"SUITE = Suite(({''.join(f'{job!r},' for job in jobs)}))")


# Suites.


@pytest.mark.parametrize("name", suites.known_suites(SUITES))
def test_every_job_of_a_suite_is_a_command_that_its_program_takes(name):
    found = suites.read(name, SUITES)
    assert (found.name, found.source) == (name, f"experiments/suites/{name}.py")
    assert re.search(
        r"^hardware: .*\n(.*\n)*?expected: .*\n(.*\n)*?run: ", (ROOT / found.source).read_text(), re.M
    )
    presets = set()
    for job in found.jobs:
        if (job.agent, *job.settings) in presets:
            continue  # parsed before, with other numbers
        presets.add((job.agent, *job.settings))
        parse = zero_shot.parse if job.program == "experiments.zero_shot" else flags.parse_run
        _, _, *arguments = job.arguments
        config, _ = parse(["job", *arguments], absl_flags.FlagValues())
        assert config.dataset == job.dataset
        assert config.dataset or config.environment
        assert config.num_seeds >= 3  # for an interval over seeds


def test_the_small_suite_is_what_the_readme_compares():
    found = suites.read("cpu_small", SUITES)
    labels = {job.label for job in found.jobs}
    offline = {"bc", "iql", "iql_ddpg_bc", "ifql", "rebrac", "fql", "fql_hl_gauss", "fql_iqn", "floq"}
    study = {"bc_study", "iql_study", "iql_ddpg_bc_study", "ifql_study"}
    zero_shot = {"td_jepa", "forward_backward", "hilp"}
    assert labels == offline | study | zero_shot
    assert len(found.jobs) == 2 * len(offline | study) + len(zero_shot)


def test_a_job_has_a_name_a_folder_and_a_command():
    job = Job(
        "fql",
        "fql:cube",
        "ogbench/cube-v0",
        program=TRAIN,
        settings={"agent.hidden_dims": (8, 8), "steps": 5},
    )
    assert (job.name, job.folder) == ("fql/cube-v0", "members/fql--cube-v0")
    assert job.arguments == [
        *("-m", "experiments.train", "--agent=fql:cube", "--dataset=ogbench/cube-v0"),
        *("--agent.hidden_dims=8,8", "--steps=5"),
    ]
    acting = Job(
        "risk averse", "eta_network:target", program=TRAIN, settings={"environment": "gridworld/target"}
    )
    assert (acting.name, acting.folder) == ("risk averse/target", "members/risk-averse--target")
    assert not any(argument.startswith("--dataset") for argument in acting.arguments)


def test_the_jobs_of_a_smoke_suite_are_smoke_runs_of_another_suite():
    suite = suites.smoke(Suite((tiny("a", steps=30), tiny("b")), name="small"))
    assert suite.name == "small (smoke runs)"
    assert all("--smoke=True" in job.arguments for job in suite.jobs)
    config, _ = flags.parse_run(["job", *suite.jobs[0].arguments[2:]], absl_flags.FlagValues())
    assert (config.smoke, config.steps) == (True, 20)


def test_short_names_tell_jobs_apart():
    def short(*datasets):
        jobs = [Job(label, "iql", f"ogbench/{name}", program=TRAIN) for label in "ab" for name in datasets]
        names, shared = suites.short_names(jobs)
        assert list(names) == [job.name for job in jobs]
        return list(names.values()), shared

    tasks = [f"pointmaze-medium-navigate-singletask-task{number}-v0" for number in (1, 5)]
    shared = "pointmaze-medium-navigate-singletask-...-v0"
    assert short(*tasks) == (["a/task1", "a/task5", "b/task1", "b/task5"], shared)
    assert short("cube-v0") == (["a", "b"], "cube-v0")
    assert short("cube-single-v0", "cube-v0") == (
        ["a/cube-single", "a/cube", "b/cube-single", "b/cube"],
        "...-v0",
    )
    assert short("cube-v0", "maze") == (["a/cube-v0", "a/maze", "b/cube-v0", "b/maze"], "")


def test_the_table_tells_jobs_apart_in_80_columns(tmp_path):
    tasks = [f"ogbench/pointmaze-medium-navigate-singletask-task{number}-v0" for number in (1, 5)]
    labels = ("iql", "implicit_q_learning_with_a_long_name")
    jobs = [Job(label, "iql", task, program=TRAIN) for label in labels for task in tasks]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    shown = board.Board(jobs, tmp_path, console)
    shown._progress[jobs[0].name] = board.Progress(
        "running", 0.0, 950_000, 1_000_000, 12_345.0, 36_000.0, 0.5
    )
    console.print(shown._table())
    text = console.file.getvalue()
    assert "..." in text
    assert "iql/task1 " in text
    assert "iql/task5 " in text
    assert "950k / 1M" in text
    assert "…" not in text  # nothing is cut
    assert max(map(len, text.splitlines())) <= 80


def test_an_added_agent_gets_the_settings_of_the_first_job_on_each_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for file in ("folder/mine.py", "mine.py"):
        (tmp_path / file).touch()
    first = Job("a", "iql:x", "ogbench/one", program=TRAIN, settings={"steps": 5, "agent.expectile": 0.9})
    others = (
        Job("b", "fql:x", "ogbench/one", program=TRAIN, settings={"steps": 7}),
        Job("b", "fql:x", "ogbench/two", program=TRAIN, settings={"steps": 9}),
    )
    goals = Job("c", "hilp:x", "ogbench/goals", program="experiments.zero_shot")
    added = suites.add(Suite((first, *others, goals)), "folder/mine.py:preset").jobs[4:]
    assert [job.name for job in added] == ["mine/one", "mine/two"]
    assert [job.settings for job in added] == [{"steps": 5}, {"steps": 9}]
    assert all(job.agent == "folder/mine.py:preset" and job.added for job in added)
    (alone,) = suites.add(Suite((goals,)), "mine.py").jobs[1:]
    assert alone.program == "experiments.zero_shot"
    with pytest.raises(InputError, match=r"agent file none.py does not exist: give a path from "):
        suites.add(Suite((goals,)), "none.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SUITE = 1",
            r"suite file .*mine\.py, line \d+: define SUITE = Suite|mine\.py: define SUITE = Suite",
        ),
        (
            "\nSUITE = Suite((Job('a', 'b', program='experiments.train', steps=3),))",
            r"suite file .*mine\.py, line 3: TypeError: .*steps",
        ),
        (
            "SUITE = Suite([Job('a', agent, 'd/e') for agent in ('iql', 'fql')], program=TRAIN)",
            r"the jobs a/e and a/e have the same folder members/a--e: rename a label",
        ),
        (
            "SUITE = Suite((Job('a/b', 'iql'),), program=TRAIN)",
            r"label is 'a/b' for agent iql: give a label without slashes and commas",
        ),
        (
            "SUITE = Suite((Job('a', 'iql', program='tran'),), program=TRAIN)",
            r"a: there is no program tran; give a module such as experiments.train",
        ),
        (
            "SUITE = Suite((Job('a', 'iql'),), program='experiment.train')",
            r"a: there is no program experiment.train; give a module such as experiments.train",
        ),
        (
            "SUITE = Suite((Job('a', 'iql'),))",
            r'a has no program: write Suite\(jobs, program="experiments.train"\)',
        ),
        (
            "SUITE = Suite((), program=TRAIN)",
            r"the suite has no jobs: write Suite\(\(Job",
        ),
        (
            "SUITE = Suite((Job('a', 'iql', settings={'workdir': 'x'}),), program=TRAIN)",
            r"a: settings must not contain workdir; give --workdir to experiments.benchmark",
        ),
        (
            "SUITE = Suite((Job('a', 'iql', settings={'agent': 'x', 'steps': 5}),), program=TRAIN)",
            r"a: settings must not contain agent; give it as a field of the job",
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
        (("",), "^only is '', with an empty name: give names, or leave the flag out$"),
        (("bc,",), "^only is 'bc,', with an empty name"),
        (("bc,iql", "bc"), "^only names bc twice: give it once$"),
    ],
)
def test_jobs_are_named_once(tmp_path, only, message):
    with pytest.raises(InputError, match=message):
        runner.run(runner.BenchmarkConfig(suite="cpu_small", workdir=str(tmp_path), only=only), SUITES)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="unknown suite 'cpu_smal': did you mean 'cpu_small'"):
        suites.read("cpu_smal", SUITES)
    with pytest.raises(InputError, match=r"suite file none\.py does not exist"):
        suites.read("none.py", SUITES)
    found = suites.read("cpu_small", SUITES)
    with pytest.raises(InputError, match="unknown job of cpu_small 'flq': did you mean 'floq'"):
        suites.choose(found, ["fql", "flq"])
    chosen = suites.choose(found, ["fql", "iql/cube-single-play-singletask-v0"])
    assert [job.label for job in chosen] == ["fql", "iql", "fql"]


# The folder of a suite.


def prepare(workdir, *jobs):
    return runner.prepare(workdir, Suite(jobs, name="small", source="small.py"))


def write_result(folder, **more):
    """What a job leaves when it is done, without its evaluations."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {"steps": 1, "throughput": {}, "versions": {}} | more
    (folder / "result.json").write_text(json.dumps(result))


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
    job = Job("a", "iql", "d/one", program=TRAIN)
    config = runner.BenchmarkConfig(
        suite=str(write_suite(tmp_path / "pair.py", job)), workdir=str(tmp_path / "run")
    )
    folder = tmp_path / "run" / job.folder
    write_result(folder, without_score=[{"task": "x"}])
    assert runner.run(config, SUITES) == 1
    told = capsys.readouterr()
    assert f"have no finite score: remove {folder} to run it again" in told.out
    assert told.err == f"to run jobs without a finite score again, remove {folder}\n"


@pytest.mark.parametrize("plots", [True, False])
def test_a_job_that_was_killed_before_it_drew_its_pictures_runs_again(tmp_path, monkeypatch, capsys, plots):
    jobs = [Job(label, "iql", "d/one", program=TRAIN) for label in ("drawn", "killed")]
    config = runner.BenchmarkConfig(
        suite=str(write_suite(tmp_path / "pair.py", *jobs)), workdir=str(tmp_path / "run")
    )
    folders = {job.name: tmp_path / "run" / job.folder for job in jobs}
    for folder in folders.values():
        write_result(folder)
    undrawn = folders[jobs[1].name] / outputs.UNDRAWN
    undrawn.write_text("curves.png\n")
    started = []

    def execute(launch, stop):
        started.append(launch.name)
        undrawn.unlink()
        return processes.DONE

    monkeypatch.setattr(outputs, "why_no_plots", lambda: "" if plots else "matplotlib is not installed")
    monkeypatch.setattr(runner, "_validate", lambda commands, with_data: {})
    monkeypatch.setattr(processes, "run", execute)
    for _ in range(2):
        assert runner.run(config, SUITES) == 0
    assert started == (["killed/one"] if plots else [])
    assert capsys.readouterr().out.count("2 of 2 jobs done; everything is in") == 2


def test_the_last_words_say_which_failures_are_retried(tmp_path, capsys):
    jobs = [tiny(label) for label in ("broken", "scoreless", "fine")]
    shown = board.Board(jobs, tmp_path, Console(file=io.StringIO()))
    for job in jobs[1:]:
        write_result(tmp_path / job.folder, **({"without_score": []} if job.label == "scoreless" else {}))
    for job, state in zip(jobs, ("failed", "failed", "done"), strict=True):
        shown.set_state(job.name, state)
    assert shown.summarize(processes.Stop()) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"1 of 3 jobs done, 2 failed; everything is in {tmp_path}",
        f"next: python -m experiments.report {tmp_path}",
    ]
    assert told.err.splitlines() == [
        f"to run jobs without a finite score again, remove {tmp_path / jobs[1].folder}",
        "run the same command again to retry the other failed jobs",
    ]


def test_a_folder_of_other_versions_or_another_suite_is_refused(tmp_path):
    prepare(tmp_path, tiny("a"))
    path = tmp_path / "suite.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"versions": saved["versions"] | {"jax": "0.0.1"}}))
    message = rf"suite\.json does not fit \(jax was 0\.0\.1, is {saved['versions']['jax']}\): give another"
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, tiny("a"))
    path.write_text(json.dumps(saved | {"suite": "large", "format": 0}))
    with pytest.raises(InputError, match=r"\(format was 0, is 1; suite was large, is small\): give"):
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


def test_streamed_data_are_not_loaded_to_check_a_job(monkeypatch):
    loaded = []
    monkeypatch.setattr(data, "load", lambda name, folder, **settings: loaded.append(settings["mapped"]))
    job = ["python", TRAIN, "--agent=iql", f"--dataset={MAZE}", "--workdir=runs/x"]
    assert not processes.validate({"held": job, "streamed": [*job, "--data.stream"]}, with_data=True)
    assert loaded == [False, True]


# The machine.


def test_cores_and_accelerators_are_shared_without_overlap(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(machine, "available_memory", lambda: 100 << 30)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [slot.cores for slot in machine.share()] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert machine.share(1) == [machine.Slot()]
    assert [len(slot.cores) for slot in machine.share(3)] == [2, 3, 3]
    assert {len(slot.cores) for slot in machine.share(9)} == {1}
    monkeypatch.setattr(machine, "available_memory", lambda: 7 << 30)
    assert len(machine.share()) == 2
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    given = [slot.environment for slot in machine.share()]
    assert given == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    shared = machine.share(4)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared] == ["3", "5", "3", "5"]
    assert all(slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450" for slot in shared)


def test_where_processes_have_no_cores_of_their_own_all_are_shared(monkeypatch, tmp_path):
    """As on macOS, which has neither prctl nor affinities."""
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(processes, "_prctl", None)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "available_memory", lambda: 100 << 30)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert [slot.cores for slot in machine.share()] == [(0, 1), (2, 3)]
    assert " 4 cores of " in f" {machine.describe()}"
    processes.run(of_python(tmp_path, "print('up')", cores=[0]), processes.Stop())
    assert processes.last_words(tmp_path / "folder") == "up"


def test_brackets_in_messages_of_jobs_are_not_markup(tmp_path):
    console = Console(file=io.StringIO(), markup=False)
    job = tiny("plain")
    board.Board([job], tmp_path, console).set_state(job.name, processes.FAILED, "no file [/data/x]")
    assert "no file [/data/x]" in console.file.getvalue()


def test_the_progress_of_a_job_has_its_latest_score(tmp_path):
    progress = board.Progress(state="running")
    board.read_progress(tmp_path, progress)
    assert progress == board.Progress(state="running")
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100}}')
    rows = [
        {"step": 40, "seed": seed, "updates_per_second": 8.0, "eval/return": -9.0, "eval/success": score}
        for seed, score in enumerate((0.25, 0.75))
    ] + [{"step": 60, "seed": seed, "updates_per_second": 4.0} for seed in (0, 1)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text("x" * board.TAIL + "\n" + text + '{"step": 8')
    board.read_progress(tmp_path, progress)
    # 40 updates of each of two seeds are left, at 4 updates per second in total.
    assert progress == board.Progress(
        state="running", steps=60, total=100, speed=4.0, seconds_left=20.0, score=0.5
    )
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100, "sweep": ["agent.tau=1,2"]}}')
    board.read_progress(tmp_path, progress)
    assert progress.score is None  # settings are not pooled
    (tmp_path / "config.json").write_text('{"settings": {"steps": 100}}')
    (tmp_path / "metrics.jsonl").write_text(text.replace("0.25", "null"))
    board.read_progress(tmp_path, progress)
    assert progress.score is None


def test_the_runner_does_not_import_jax():
    told = "import experiments.benchmark, valuelab.benchmark, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# One process.


def of_python(tmp_path, program, **changes):
    """How to start a line of Python."""
    folder, timings = str(tmp_path / "folder"), str(tmp_path / "timings.jsonl")
    return processes.Launch("mine", ["-c", program], folder, timings)._replace(**changes)


def test_a_process_gets_its_cores_and_variables_and_must_leave_a_result(tmp_path):
    core = max(os.sched_getaffinity(0))
    program = "import os; print(os.sched_getaffinity(0), os.environ['MINE'])"
    given = of_python(tmp_path, program, cores=[core], environment={"MINE": "7"})
    assert processes.run(given, processes.Stop()) == processes.FAILED
    assert processes.last_words(tmp_path / "folder") == f"{{{core}}} 7"
    assert json.loads((tmp_path / "timings.jsonl").read_text()).keys() == {
        *("name", "started", "seconds", "status", "exit")
    }


def test_a_job_that_cannot_be_started_is_recorded_as_failed(tmp_path):
    processes.record_refusal(of_python(tmp_path, "print()"), "no such preset")
    assert processes.last_words(tmp_path / "folder") == "error: no such preset"
    line = json.loads((tmp_path / "timings.jsonl").read_text())
    assert (line["name"], line["status"], line["seconds"]) == ("mine", processes.FAILED, 0)


def test_asked_once_a_process_may_save_and_asked_twice_it_is_killed(tmp_path):
    stubborn = "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('saving')); print('up')"
    stop = processes.Stop()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ended = pool.submit(
            processes.run, of_python(tmp_path, f"{stubborn}; [time.sleep(60) for _ in range(2)]"), stop
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
    assert "2 of 3 jobs done, 1 failed; everything is in" in told
    assert "run the same command again to retry the failed jobs" in told
    rows = left_behind(folder)["rows"]
    assert [(row["step"], row["seed"]) for row in rows] == [
        (step, seed) for step in range(500, 15_001, 500) for seed in (0, 1)
    ]
    log = (folder / "log.txt").read_text()
    resumed = [int(step.replace(",", "")) for step in re.findall("resuming after update ([0-9,]+)", log)]
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


def test_parameters_of_submitit(tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match=r"slurm is partion=gpu: submitit does not accept it .*partion"):
        cluster.submitter("local", ("partion=gpu",), tmp_path)
    with pytest.raises(InputError, match=r"slurm is nodes=1, nodes=2: .* \(nodes is given twice\)"):
        cluster.submitter("local", ("nodes=1", "nodes=2"), tmp_path)
    shared = (
        "timeout_min=5",
        "nodes=1",
        "gpus_per_node=0",
        "cpus_per_task=2",
        "tasks_per_node=1",
        "mem_gb=4",
    )
    cluster.submitter("local", (*shared, "partition=gpu", "qos=high"), tmp_path)


def test_the_worker_that_checks_jobs_ends_with_a_killed_runner(tmp_path):
    text = (
        "import concurrent.futures, multiprocessing, os, signal\n"
        "from valuelab import workers\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    pool = concurrent.futures.ProcessPoolExecutor(\n"
        "        1, mp_context=spawn, initializer=workers.end_with_parent\n"
        "    )\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "runner.py").write_text(text)
    # The pipe closes when the last process that holds it has ended: else this waits for the time limit.
    done = subprocess.run(
        [sys.executable, str(tmp_path / "runner.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout) > 0
