"""The workdir of a suite with made-up scores, for the tests of reports."""

import json
import pathlib

import numpy as np

SINGLE = ("ogbench/pointmaze-medium-navigate-singletask-v0", "ogbench/cube-single-play-singletask-v0")
GOALS = "ogbench/pointmaze-medium-navigate-v0"
VERSIONS = {"python": "3.11.7", "valuelab": "0.1.0", "jax": "0.10.2"}
DEVICE = "1 x cpu (2 cores)"
STEPS, EVERY, SEEDS, EPISODES, SPEED = 4000, 1000, 4, 50, 200.0


def settings(agent: str, dataset: str) -> dict:
    """A few settings of a run, nested as in config.json."""
    parts = {"critic": {"hidden_dims": [256, 256]}, "policy": {"hidden_dims": [256, 256], "num_steps": 5}}
    return {
        "agent": {"hidden_dims": [256, 256], "extraction": "awr"} if agent == "iql" else parts,
        "agent_name": agent,
        "dataset": dataset,
        "data_dir": "nowhere",
        "batch_size": 256,
        "steps": STEPS,
        "num_seeds": SEEDS,
        "sweep": [],
        "workdir": "nowhere",
    }


def job(label: str, agent: str, dataset: str, program: str = "train", added: bool = False) -> dict:
    """A job as suite.json lists it."""
    folder = f"members/{label}--{dataset.rpartition('/')[2]}"
    return {
        "name": f"{label}/{dataset.rpartition('/')[2]}",
        "label": label,
        "folder": folder,
        "program": program,
        "agent": f"{agent}:small",
        "dataset": dataset,
        "added": added,
        "command": f"python -m experiments.{program} --agent={agent}:small --dataset={dataset}",
    }


def finish(
    folder: pathlib.Path, entry: dict, mean: float, metric: str = "success", seeds: int = SEEDS
) -> None:
    """Writes the files of a finished job, whose scores rise to about `mean` in all seeds and tasks."""
    workdir = folder / entry["folder"]
    workdir.mkdir(parents=True, exist_ok=True)
    agent = entry["agent"].partition(":")[0]
    facts = {"versions": VERSIONS, "device": DEVICE}
    config = {"settings": settings(agent, entry["dataset"]), "data": {"episodes": 300}} | facts
    (workdir / "config.json").write_text(json.dumps(config))
    five = [f"task{number}" for number in range(1, 6)]
    tasks = ["default"] if "singletask" in entry["dataset"] else five
    steps = np.arange(EVERY, STEPS + 1, EVERY)
    random = np.random.default_rng(len(entry["name"]))
    shape = (len(steps), seeds, len(tasks), EPISODES)
    expected = (
        mean * (steps / STEPS)[:, None, None, None] + 0.08 * random.standard_normal(shape[:3])[..., None]
    )
    scores = (random.random(shape) < expected) * {"success": 1.0, "normalized_score": 100.0}.get(metric, 7.0)
    step, seed, task, episode = (axis.ravel() for axis in np.indices(shape))
    columns = {"step": steps[step], "member": seed, "task": np.array(tasks)[task], "episode": episode}
    np.savez(workdir / "episodes.npz", **columns, score=scores.ravel())
    rows = [
        {"step": int(at), "seed": number, "updates_per_second": SPEED}
        for at in range(EVERY // 2, STEPS + 1, EVERY // 2)
        for number in range(seeds)
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seconds = STEPS * seeds / SPEED
    throughput = {
        "updates_per_second": SPEED,
        "compile_seconds": 8.0,
        "train_seconds": seconds,
        "eval_seconds": 9.0,
    }
    result = {"agent": agent, "dataset": entry["dataset"], "steps": STEPS, "num_seeds": seeds}
    result |= {"eval": {metric: {"mean": float(scores[-1].mean())}}, "throughput": throughput}
    if "pointmaze" in entry["dataset"] and len(tasks) > 1:
        result |= pairs_and_references(mean, seeds)
    (workdir / "result.json").write_text(json.dumps(result | facts))
    (workdir / "log.txt").write_text("all is well\n")
    started(folder, entry, "done", 0, seconds + 20)


def pairs_and_references(mean: float, seeds: int) -> dict:
    """The entries "pairs" and "references" of result.json in a point maze: 4 pairs in each of two bins."""

    def interval(mean: float, count: int) -> dict:
        return {"pairs": 4, "mean": mean, "ci_low": mean, "ci_high": mean, "per_seed": [mean] * count}

    def bins(mean: float, count: int = 1) -> dict:
        return {"< 1.15": interval(mean, count), ">= 1.5": interval(mean / 2, count)}

    five = [f"task{number}" for number in range(1, 6)]
    return {
        "pairs": {
            "number": 8,
            "success": bins(mean, seeds),
            "references": {"straight": bins(0.6), "free way": bins(1.0)},
        },
        "references": {"straight": dict(zip(five, (1.0, 1.0, 0.0, 0.0, 0.0), strict=True))},
    }


def own_run(
    folder: pathlib.Path, mean: float, agent: str = "iql", dataset: str = SINGLE[0], seeds: int = 2, **changes
) -> pathlib.Path:
    """The workdir of a run that is not a job of a suite; changes of settings have "__" for dots."""
    entry = {"name": folder.name, "folder": folder.name, "agent": agent, "dataset": dataset}
    finish(folder.parent, entry, mean, changes.pop("metric", "success"), seeds)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    given = {"agent_source": f"{agent}:small", "seed": 0, "num_seeds": seeds} | changes
    for name, value in given.items():
        *parts, last = name.split("__")
        settings = config["settings"]
        for part in parts:
            settings = settings[part]
        settings[last] = value
    path.write_text(json.dumps(config))
    (folder.parent / "timings.jsonl").unlink()
    return folder


def started(folder: pathlib.Path, entry: dict, status: str, code: int, seconds: float = 5.0) -> None:
    """Adds a launch of a job to timings.jsonl."""
    line = {"name": entry["name"], "started": "2026-11-22T19:00:00", "seconds": seconds, "status": status}
    with (folder / "timings.jsonl").open("a") as file:
        file.write(json.dumps(line | {"exit": code}) + "\n")


def write_suite(folder: pathlib.Path, jobs: list[dict], suite: str = "made_up") -> None:
    """Writes suite.json."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {"format": 1, "suite": suite, "source": f"experiments/suites/{suite}.py"}
    described |= {"versions": VERSIONS, "device": DEVICE, "members": jobs}
    (folder / "suite.json").write_text(json.dumps(described))


def make_suite(folder: pathlib.Path) -> list[dict]:
    """Four methods on two datasets, of which one was added and one failed once; two zero-shot methods."""
    means = {"bc": ("bc", 0.2), "iql": ("iql", 0.7), "fql": ("fql", 0.75), "mine": ("mine", 0.9)}
    entries = [
        job(label, agent, dataset, added=label == "mine")
        for label, (agent, _) in means.items()
        for dataset in SINGLE
    ]
    zero_shot = [job(agent, agent, GOALS, "zero_shot") for agent in ("td_jepa", "hilp")]
    write_suite(folder, entries + zero_shot)
    for entry in entries:
        if (entry["label"], entry["dataset"]) != ("bc", SINGLE[1]):
            finish(folder, entry, means[entry["label"]][1])
    failed = next(entry for entry in entries if (entry["label"], entry["dataset"]) == ("bc", SINGLE[1]))
    (folder / failed["folder"]).mkdir(parents=True)
    (folder / failed["folder"] / "log.txt").write_text("reading the data\nerror: no dataset <here>\n")
    started(folder, failed, "failed", 2)
    for entry, mean in zip(zero_shot, (0.5, 0.3), strict=True):
        finish(folder, entry, mean)
    return entries + zero_shot
