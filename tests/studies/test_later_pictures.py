"""A study that only lacks its picture draws it, and leaves the config.json of its result as it was."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.studies import adapt
from experiments.studies.flow_claims import claims
from experiments.studies.flow_claims.claims import Claim, ClaimConfig, ClaimResult
from experiments.studies.risk import compare_eta_network
from experiments.studies.risk.compare_eta_network import CompareConfig
from valuelab.evaluation import figures, statistics
from valuelab.runs import flags, outputs
from valuelab.types import Spec

SPEC = Spec((3,), "float32", action_dim=1, num_actions=0, reward_min=-1.0, reward_max=0.0)


def adaptation(workdir, draw, monkeypatch):
    """Runs adapt without training."""
    monkeypatch.setattr(adapt.frozen_encoder, "read_run", lambda *_: None)
    encoder = SimpleNamespace(encode=None, state=None, dim=2)
    monkeypatch.setattr(adapt.frozen_encoder, "load", lambda *_: encoder)
    monkeypatch.setattr(adapt, "find_inputs", lambda _: SimpleNamespace(spec=SPEC))
    monkeypatch.setattr(adapt, "encoded", lambda agent, *_: agent)
    monkeypatch.setattr(adapt, "without_image_encoders", lambda agent_config: agent_config)
    monkeypatch.setattr(adapt.train, "run", lambda *_: {"eval": {"success": 1.0}})
    monkeypatch.setattr(adapt.results, "read_scores", lambda *_: {2: np.array([0.0, 1.0])})
    monkeypatch.setattr(adapt, "draw", lambda _: draw())
    settings = flags.default_fields() | {"encoder": "run", "eval_every": 2, "workdir": workdir}
    return adapt.run(adapt.AdaptConfig(**settings), lambda *_: None)


def comparison(workdir, draw, monkeypatch):
    """Runs compare_eta_network without training."""
    part = {"problem": "target", "reached": True}
    monkeypatch.setattr(compare_eta_network, "compare", lambda *_: (part, lambda: None))
    monkeypatch.setattr(compare_eta_network, "show", lambda _: None)
    monkeypatch.setattr(compare_eta_network, "draw_comparison", lambda *_: draw())
    return compare_eta_network.run(CompareConfig(problem="target", workdir=workdir))


def claim(workdir, draw, monkeypatch):
    """Examines a claim without training."""
    water = Claim("Water is wet", {"wetness": "of water, above that of sand"})
    examined = ClaimResult({"wetness": statistics.difference(np.ones(3), np.zeros(3))}, {}, draw)
    return claims.run(water, lambda _: examined, ClaimConfig(workdir=workdir))


@pytest.mark.parametrize("program", [adaptation, comparison, claim])
def test_drawing_later_keeps_the_config_of_the_result(program, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "saved", lambda *_: None)
    result = program(str(tmp_path), lambda: 1 / 0, monkeypatch)
    assert (tmp_path / outputs.UNDRAWN).exists()
    monkeypatch.setattr(outputs, "versions", lambda: {"valuelab": "a later version"})
    program(str(tmp_path), lambda: None, monkeypatch)
    assert not (tmp_path / outputs.UNDRAWN).exists()
    for name in ("config.json", "result.json"):
        saved = json.loads((tmp_path / name).read_text())
        assert saved["versions"] == result["versions"] != {"valuelab": "a later version"}
