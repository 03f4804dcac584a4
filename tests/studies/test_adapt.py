"""The comparison of learning from encodings and from observations: settings that it refuses."""

import pytest

from experiments.studies import adapt
from experiments.studies.adapt import AdaptConfig
from valuelab.errors import InputError
from valuelab.runs import flags


def config(**settings):
    return AdaptConfig(**(flags.default_fields() | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_every": 2}, "no encoder is given"),
        ({"encoder": "run", "eval_every": 0}, "eval_every is 0"),
        ({"encoder": "run", "eval_every": 2, "sweep": ("agent.expectile=0.7",)}, "leave out --sweep"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(InputError, match=message):
        adapt.run(config(**settings), None)
