"""The files that hosts of code read: workflows, forms of issues and CITATION.cff."""

import os
import re
import tomllib

import pytest
import yaml
from helpers import ROOT

import valuelab

WORKFLOWS = sorted(path.name for path in (ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path.name for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ACTION = r"actions/[a-z-]+@v\d+"
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def read(path: str) -> dict:
    return yaml.load((ROOT / path).read_text(), yaml.BaseLoader)  # where "on" is a text


def assert_exists(command: str) -> None:
    """Asserts that a command of a workflow is a target of make, or a file that can be executed."""
    program, *rest = command.split()
    if program == "make":
        assert rest, command
        assert set(rest) <= TARGETS, command
    else:
        assert not rest, command
        assert os.access(ROOT / program, os.X_OK), command


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_run_what_exists_with_few_permissions(name):
    workflow = read(f".github/workflows/{name}")
    assert workflow.keys() == {"name", "on", "permissions", "concurrency", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert set(job.get("needs", [])) <= workflow["jobs"].keys()
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            if "uses" in step:
                assert re.fullmatch(ACTION, step["uses"]), step
            else:
                assert_exists(step["run"])
            if "python-version" in step.get("with", {}):
                assert PROJECT["requires-python"] == f">={step['with']['python-version']}"


def test_the_workflows_test_publish_and_check_links():
    jobs = {
        name: job for file in WORKFLOWS for name, job in read(f".github/workflows/{file}")["jobs"].items()
    }
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {".ci/run", "make docs", "make links"}
    writers = {name for name, job in jobs.items() if "write" in job.get("permissions", {}).values()}
    assert writers == {"publish"}
    assert "refs/heads/main" in jobs["publish"]["if"]
    folder = next(step["with"]["path"] for step in jobs["site"]["steps"] if "path" in step.get("with", {}))
    assert f"docs {folder}\n" in (ROOT / "Makefile").read_text()
    for line in (ROOT / ".ci/run").read_text().splitlines():
        if "make " in line and not line.startswith("#"):
            assert_exists(re.sub(r"^[A-Z_]+=\S+ ", "", line))


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_issues_are_valid(name):
    form = read(f".github/ISSUE_TEMPLATE/{name}")
    assert form.keys() == {"name", "description", "labels", "body"}
    identities = [field["id"] for field in form["body"]]
    assert len(set(identities)) == len(identities)
    for field in form["body"]:
        assert field["type"] in FIELDS
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
    assert any(field.get("validations") == {"required": "true"} for field in form["body"])


def test_links_to_contacts_belong_to_the_project():
    for link in read(".github/ISSUE_TEMPLATE/config.yml")["contact_links"]:
        assert link.keys() == {"name", "url", "about"}
        assert link["url"].startswith((PROJECT["urls"]["Source"], PROJECT["urls"]["Documentation"]))


def test_the_citation_says_what_the_package_says():
    citation = read("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == valuelab.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["keywords"] == PROJECT["keywords"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert citation["url"] == PROJECT["urls"]["Documentation"]
