"""The house: which part may know of which, what it needs installed, and what it never does."""

import ast
import functools
import pathlib
import re
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = {"types", "errors", "configuration", "platforms"}
PARTS = {
    "files",
    "workers",
    "arrays",
    "spaces",
    "observation_parts",
    "ops",
    "networks",
    "feature_learners",
    "critics",
    "policies",
    "agents",
}
BELOW_RUNS = BASE | PARTS | {"training", "evaluation", "domains", "data", "distributional", "environments"}
MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "files": {"errors"},
    "workers": set(),
    "arrays": {"errors"},
    "spaces": {"arrays", "errors", "files", "types", "observation_parts"},
    "observation_parts": {"arrays", "errors", "types"},
    "configuration": {"errors"},
    "platforms": set(),
    "ops": {"types", "errors"},
    "networks": BASE | {"ops"},
    "feature_learners": BASE | {"ops", "networks"},
    "critics": BASE | {"ops", "networks", "feature_learners"},
    "policies": BASE | {"ops", "networks"},
    "agents": BASE
    | {"ops", "networks", "feature_learners", "critics", "policies", "distributional", "observation_parts"},
    "training": BASE
    | {"arrays", "files", "ops", "networks", "critics", "policies", "agents", "observation_parts", "workers"},
    "evaluation": BASE
    | {"arrays", "files", "ops", "networks", "critics", "policies", "agents", "distributional"},
    "domains": {"errors"},
    "data": BASE | {"arrays", "domains", "files", "spaces", "workers", "observation_parts"},
    "distributional": {"types", "arrays", "errors"},
    "environments": BASE | {"distributional", "domains", "files", "spaces", "workers", "observation_parts"},
    "presets": BELOW_RUNS,
    "runs": BELOW_RUNS | {"presets", "__version__"},
    "benchmark": BELOW_RUNS | {"runs"},
    "__init__": BELOW_RUNS | {"runs"},  # the public API, each name imported when it is used
}
"""Part of valuelab -> the other parts that it may import. Whatever is not named here may not be imported."""

OPTIONAL = {
    *(
        "gymnasium",
        "gymnasium_robotics",
        "ale_py",
        "ogbench",
        "dm_control",
        "mujoco",
        "matplotlib",
        "imageio",
        "IPython",
    ),
    *("h5py", "minari", "tensorflow_datasets", "tensorflow", "array_record", "av", "pyarrow"),
    *("tensorboardX", "tensorboard", "wandb"),
    *("flatbuffers", "onnx", "onnxruntime"),
}
CORE = (
    "types",
    "errors",
    "files",
    "arrays",
    "configuration",
    "platforms",
    "ops",
    "observation_parts",
    "networks",
    "feature_learners",
    "critics",
    "policies",
    "agents",
    "training",
    "distributional",
    "workers",
)
LIGHT = {"absl", "chex", "flax", "jax", "numpy", "optax", "orbax", "rich", "scipy"}
"""What may be imported when a module is; jax brings scipy, flax brings rich."""


def modules(package="valuelab"):
    """All modules of a package, as paths from the root."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py"))


def dotted(path: pathlib.Path) -> str:
    """The name under which a module is imported."""
    return ".".join(path.with_suffix("").parts)


def part(name: str) -> str:
    """The part of valuelab that a dotted name belongs to: "valuelab.data.storage" gives "data"."""
    return name.split(".")[1] if "." in name else ""


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imports(path: pathlib.Path, outside_functions: bool = False):
    """Dotted names that a module imports; `from a import b` gives a.b."""
    nodes: list[ast.AST] = [tree(path)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write whole names in imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not (outside_functions and isinstance(node, ast.FunctionDef)):
            nodes += ast.iter_child_nodes(node)


def documented_table() -> dict[str, set[str]]:
    """The table of docs/development/architecture.md, as MAY_IMPORT."""
    page = (ROOT / "docs/development/architecture.md").read_text()
    section = page.partition("## What may import what")[2].partition("## ")[0]
    table: dict[str, set[str]] = {}
    for own, allowed in re.findall(r"^\| (`.*?) \| ?(.*?) ?\|$", section, re.MULTILINE):
        names = set(re.findall(r"`(\w+)`", allowed))
        if allowed.startswith("all above"):
            names = table.keys() - names  # all above except `NAME`
        elif allowed.startswith("as "):
            first, _, rest = allowed.partition(",")
            names = table[first.split("`")[1]] | set(re.findall(r"`(\w+)`", rest))
        table |= dict.fromkeys(re.findall(r"`(\w+)`", own), names)
    return table


def test_the_documented_table_is_this_one():
    assert documented_table() == {own: names - {"__version__"} for own, names in MAY_IMPORT.items()}


def test_every_part_is_in_the_table():
    found = {part(dotted(path)) for path in modules()} - {"__init__"}
    assert found <= MAY_IMPORT.keys()


def test_the_diagram_shows_imports_that_are_allowed():
    """Each arrow of docs/images/architecture.png goes from a part to one that may import it."""
    diagrams = runpy.run_path(str(ROOT / "docs/images/diagrams.py"))
    for lower, upper in diagrams["ARROWS"]:
        for importer in upper.split(", "):
            imported = BASE if lower == "base" else set(lower.split(", "))
            assert importer == "experiments" or imported & MAY_IMPORT[importer], (lower, upper)


def test_imports_flow_one_way():
    """Programs of experiments import valuelab, never back."""
    offenders = []
    for path in modules():
        own = part(dotted(path))
        for name in imports(path):
            top = name.split(".")[0]
            if top == "experiments" or (
                top == "valuelab" and part(name) not in MAY_IMPORT.get(own, set()) | {own}
            ):
                offenders.append(f"{path} imports {name}")
    assert offenders == []


def test_a_module_imports_nothing_that_is_optional():
    """Inside functions it may, through errors.require."""
    light = set(sys.stdlib_module_names) | LIGHT | {"valuelab"}
    outside = {
        path: {name.split(".")[0] for name in imports(path, outside_functions=True)} for path in modules()
    }
    assert {path: names - light for path, names in outside.items() if names - light} == {}


BLOCKED = """
import importlib, pkgutil, sys
blocked = set(sys.argv[1].split(","))

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
import valuelab
for part in sys.argv[2].split(","):
    module = importlib.import_module(f"valuelab.{part}")
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(found.name)
print(len([name for name in sys.modules if name.startswith("valuelab")]))
"""


def test_the_core_works_with_its_own_dependencies_alone():
    command = [sys.executable, "-c", BLOCKED, ",".join(OPTIONAL), ",".join(CORE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    core = [path for path in modules() if path.parts[1].removesuffix(".py") in CORE]
    assert int(done.stdout) == len(core) + 1  # valuelab itself


HANDS_OGBENCH_ITS_GENERATOR = {
    "valuelab/environments/ogbench.py": {"RandomState", "get_state", "set_state"},
    "valuelab/data/collection/recipe.py": {"seed"},
}
"""OGBench draws from numpy's global generator: these files give it a state, and take nothing from it."""


def drawn_or_unpickled(path: pathlib.Path):
    """Where a module unpickles, or draws from numpy's global generator: what stands there."""
    allowed = {"default_rng", "Generator", "SeedSequence"} | HANDS_OGBENCH_ITS_GENERATOR.get(str(path), set())
    for node in ast.walk(tree(path)):
        match node:
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random")):
                if node.attr not in allowed:
                    yield f"{path}, line {node.lineno}: np.random.{node.attr}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="load")):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if given.get("allow_pickle") != "False":
                    yield f"{path}, line {node.lineno}: np.load"


def test_nothing_is_unpickled_and_no_global_generator_is_drawn_from():
    banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "random"}
    paths = [*modules("valuelab"), *modules("experiments")]
    offenders = [
        f"{path} imports {name}" for path in paths for name in imports(path) if name.split(".")[0] in banned
    ]
    offenders += [where for path in paths for where in drawn_or_unpickled(path)]
    assert offenders == []


RUNS = {
    "valuelab/__init__.py": {"import_module"},  # modules of valuelab itself
    "valuelab/errors.py": {"import_module"},  # packages that are named in the code
    "valuelab/environments/creation.py": {"import_module"},  # packages of a list
    "valuelab/environments/own.py": {  # a module or a file that the user names
        *("import_module", "spec_from_file_location", "exec_module"),
    },
    "valuelab/runs/flags.py": {"compile", "exec"},  # an agent file that the user names or trusts
    "valuelab/benchmark/suites.py": {"run_path"},  # a suite file that the user names
    "valuelab/runs/command_line.py": {"run_path"},  # a reward or an objective file that the user names
    "valuelab/runs/completion.py": {"import_module"},  # programs of experiments
    "experiments/__main__.py": {"run_module"},  # programs of experiments
    "valuelab/benchmark/processes.py": {"import_module", "Popen"},  # programs of experiments
}
"""Which files run code or programs that are named while they run, and by what; SECURITY.md tells of each."""


def runs(node: ast.AST) -> str:
    """What a call runs that is named while it runs: code, a program, or a pickle; nothing for others."""
    match node:
        case ast.Call(func=ast.Name(id="eval" | "exec" | "compile" | "__import__" as name)):
            return name
        case ast.Call(
            func=ast.Attribute(
                attr="import_module"
                | "run_path"
                | "run_module"
                | "exec_module"
                | "spec_from_file_location"
                | "system"
                | "popen"
                | "Popen"
                | "check_call"
                | "check_output" as name
            )
        ):
            return name
        case ast.Call(func=ast.Attribute(attr="read_array" | "load" as name)) if "np." in ast.unparse(
            node.func
        ) and "allow_pickle=False" not in ast.unparse(node):
            return name
    return ""


def test_nothing_runs_what_a_file_says():
    banned = {"yaml", "torch", "marshal", "code", "cPickle"}
    found: dict[str, set[str]] = {}
    for path in [*modules("valuelab"), *modules("experiments")]:
        names = {runs(node) for node in ast.walk(tree(path))} - {""}
        names |= banned & {name.split(".")[0] for name in imports(path)}
        if path.is_relative_to("experiments/renamed"):
            assert names <= {"run_module"}, path  # of the program's new name
        elif names:
            found[str(path)] = names
    assert found == RUNS


def test_what_runs_code_is_found():
    lines = ["eval(text)", "np.load(file)", "np.lib.format.read_array(file)", "os.system(text)"]
    assert [line for line in lines if not runs(ast.parse(line).body[0].value)] == []


def test_programs_are_short_and_old_names_lead_to_programs():
    """A program is a docstring and a command line for a function of the library."""
    lines = {path: len((ROOT / path).read_text().splitlines()) for path in modules("experiments")}
    programs = {path: count for path, count in lines.items() if len(path.parts) == 2}
    assert {path: count for path, count in programs.items() if count > 100} == {}
    for path in modules("experiments/renamed"):
        for new in re.findall(r'run_module\("([\w.]+)"', (ROOT / path).read_text()):
            program = pathlib.Path(*new.split(".")).with_suffix(".py")
            assert '__name__ == "__main__"' in (ROOT / program).read_text(), path
