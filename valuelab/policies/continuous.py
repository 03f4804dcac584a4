"""What policies over continuous actions share."""

from valuelab.errors import InputError
from valuelab.types import Spec


def check_continuous(name: str, spec: Spec) -> None:
    """Refuses data with discrete actions.

    Args:
        name: of the policy, for the message.
        spec: of the data.

    Raises:
        InputError: for discrete actions.
    """
    if spec.discrete:
        raise InputError(f"policy {name} draws continuous actions; these data have discrete ones")
