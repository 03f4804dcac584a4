"""D-eta-N, the deep eta network: deep distributional Q-learning with the stock as a second input.

The network maps an observation s and a stock c to the return distribution of each action, as N atoms
θ_i(s, c, a). Actions are greedy in E f(c + θ(s, c, ·)), where f is the utility of the objective, and
c' = (c + r) / γ. A command, such as a risk level or a target return, only chooses the first stock: one
network serves all commands.

One update:

1. Stock editing: dynamics do not depend on the stock, so each transition of the batch is replayed with
   E stocks c drawn anew from a grid, c' = (c + r) / γ.
2. Targets y_j = r + γ · mask · θ̄_j(s', c', a*), a* = argmax_a mean_i [f(c' + θ̄_i) + w θ̄_i](s', c', a), with
   the target network; w = 0, as in the paper, does not break ties of E f.
3. A step down the quantile Huber loss of θ(s, c, a) to y; where rewards are vectors, the energy distance.
4. Every `target_period` updates the target network becomes a copy of the NEW network.

The agent does not need to know where transitions come from: on a logged dataset it is offline D-eta-N.

Without the stock (`augmented=False`) it is distributional Q-learning. Its actions are greedy in the
objective as if an episode began in each state. That is QR-DQN for the expectation, and greedy in CVaR for
CVaR.

Source: Pires et al. 2025, "Optimizing Return Distributions with Distributional Dynamic Programming",
arXiv:2501.13028; quantile regression of Dabney et al. 2018, arXiv:1710.10044.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.agents import command_objectives
from valuelab.configuration import setting, widths
from valuelab.distributional.objectives import SearchedStart
from valuelab.errors import InputError
from valuelab.networks import encoders, learning
from valuelab.networks.encoders import EncoderName
from valuelab.networks.quantiles import ReturnAtoms
from valuelab.networks.settings import LearningConfig
from valuelab.ops.quantile import energy_loss, quantile_huber_loss
from valuelab.ops.stock import next_stock
from valuelab.types import Agent, Array, Augmented, Key, Memory, Metrics, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class EtaNetworkConfig(LearningConfig):
    """Hyperparameters of D-eta-N."""

    objective: Literal[
        "expectation",
        "cvar",
        "upper_cvar",
        "mean_cvar",
        "spectral",
        "var",
        "target",
        "homeostatic",
        "satisficing",
        "entropic",
        "utility",
    ] = setting(
        "cvar",
        help="Objective that is maximised, as in experiments.solve. FILE.py:FUNCTION: the mean of this "
        "function of the return. utility: the mean of the function that an agent file gives to eta_network.",
        function="utility",
    )
    commands: tuple[float, ...] = setting(
        (0.1, 0.25, 0.5, 1.0),
        help="Commands that the agent is evaluated on: levels of cvar, upper_cvar and var; target returns of "
        "target, satisficing (0.5 below a whole number to reach it) and homeostatic (m numbers each). "
        "Other objectives take none.",
    )
    tau: float | None = setting(None, "(0, 1]", "Level τ of mean_cvar.")
    weight: float | None = setting(None, "[0, 1]", "Weight of the mean in mean_cvar.")
    taus: tuple[float, ...] = setting((), "(0, 1]", "Levels of spectral.")
    weights: tuple[float, ...] = setting(
        (), help="Weights, one for each component (homeostatic) or each level (spectral)."
    )
    risk: float | None = setting(None, help="Risk parameter of entropic, not 0; negative is risk-averse.")
    norm: Literal["1", "2", "inf"] | None = setting(None, help="Norm of homeostatic.")
    power: float | None = setting(None, help="Power of homeostatic.")
    mean_weight: float = setting(
        0.0,
        "[0, inf)",
        "w >= 0; the greedy action maximises E f(c + G) + w E G. A small w breaks ties where f is flat.",
    )
    jump_width: float = setting(
        0.0,
        "[0, inf)",
        "Width of the ramp that replaces the jump of f (satisficing, var) where actions are compared, in "
        "units of returns; 0 for none. The objective stays the same if c + G never lies on the ramp, as with "
        "whole rewards, a width of 1 and stocks half-way between whole numbers.",
    )
    augmented: bool = setting(
        True,
        help="Show the stock to the network; otherwise the agent is greedy in its one command everywhere.",
    )
    stock_low: float = setting(
        -10.0,
        help="Smallest stock that the network tells apart: minus the largest return that matters.",
    )
    stock_high: float = setting(
        10.0,
        help="Largest stock that the network tells apart: minus the smallest return that matters.",
    )
    stock_edits: int = setting(
        4, "[1, inf)", "Number of stocks that each transition of a batch is replayed with."
    )
    stock_points: int = setting(
        65,
        "[2, inf)",
        "Number of evenly spaced stocks, in each component, that transitions are replayed with and that are "
        "compared for a risk level. The network interpolates between neighbours.",
    )
    num_atoms: int = setting(32, "[1, inf)", "Number of atoms of each return distribution.")
    num_targets: int | None = setting(
        None,
        "[1, inf)",
        "Number of the target's atoms that each update learns from, evenly spaced from a random first one; "
        "none for all. It divides num_atoms.",
    )
    encoder: EncoderName | None = setting(
        None,
        help='Encoder of images, "impala_small", "drq" or "dqn". None stands for no encoder of vectors, and '
        'for "dqn" of images.',
    )
    hidden_dims: tuple[int, ...] = widths(
        (64, 64), "Width of each hidden layer; of images, each layer after the encoder."
    )
    layer_norm: bool = setting(False, help="Normalise the hidden layers after the first.")
    huber: float = setting(0.0, "[0, inf)", "κ of the quantile Huber loss, in units of returns.")
    discount: float = setting(0.99, "(0, 1]", "Discount γ in (0, 1].")
    learning_rate: float = 1e-3
    learning_rate_schedule: Literal["cosine", "constant"] = setting(
        "cosine", help='Schedule of the learning rate, "cosine" (to 0 at the end of the run) or "constant".'
    )
    target_period: int = setting(200, "[1, inf)", "Updates between two copies to the target network.")
    epsilon_start: float = setting(1.0, "[0, 1]", "Share of random actions at the first update.")
    epsilon_end: float = setting(0.05, "[0, 1]", "Share of random actions from `epsilon_updates` on.")
    epsilon_updates: int = setting(10_000, "[1, inf)", "Updates over which that share falls.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_targets and self.num_atoms % self.num_targets:
            raise InputError(
                f"num_targets is {self.num_targets}; give a divisor of num_atoms, which is {self.num_atoms}"
            )
        traced = isinstance(self.stock_low, jax.Array) or isinstance(self.stock_high, jax.Array)
        if not traced and not self.stock_low < self.stock_high:
            raise InputError(
                f"stock_low is {self.stock_low}; give a number below stock_high, which is {self.stock_high}"
            )


_MAX_FIRST_STOCKS = 10_000
"""The largest number of first stocks that are compared."""


def eta_network(
    config: EtaNetworkConfig, spec: Spec, utility: Callable[[Array], Array] | None = None
) -> Agent:
    """Builds the agent.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data, with discrete actions and with vectors or images as observations.
        utility: f in jax.numpy, a function of returns [...] ([..., m] for m > 1 components), for
            objective="utility" or, from a file, "FILE.py:FUNCTION". Its mean is maximised.

    Returns:
        The agent. Its memory is the stock [B, m]; act and value take `Augmented`, and value is
        E f(c + G) of the greedy action.

    Raises:
        InputError: for continuous actions, observations of another shape, an objective with another number
            of reward components, commands or parameters that the objective cannot take, or an objective that
            needs discount 1.
    """
    if not spec.discrete:
        raise InputError(
            "agent eta_network needs discrete actions: for continuous ones use iql, or sac to learn by acting"
        )
    family = command_objectives.family_of(config, utility, spec.reward_dim)
    commands = command_objectives.commands_by_name(family, config.commands, spec.reward_dim)
    if not config.augmented and len(commands) > 1:
        raise InputError(
            f"agent.commands has {len(commands)} commands, but agent.augmented=false allows one: give one"
        )
    objective = command_objectives.objective_of(family, next(iter(commands.values())))
    wanted = 1 if config.objective == "spectral" else objective.properties.reward_dim
    if wanted not in (None, spec.reward_dim):
        raise InputError(
            f"rewards have {spec.reward_dim} components, but agent.objective {config.objective} takes "
            f"{wanted}; give another objective"
        )
    command_objectives.check(objective, config.discount)
    stock_dim = stock_size(config, spec)
    is_searched = isinstance(objective.start, SearchedStart)
    if is_searched and config.stock_points**stock_dim > _MAX_FIRST_STOCKS:
        raise InputError(
            f"agent.stock_points is {config.stock_points}, so {config.stock_points**stock_dim} first stocks "
            f"of {stock_dim} components are compared; give agent.stock_points at most "
            f"{int(_MAX_FIRST_STOCKS ** (1 / stock_dim) + 1e-9)}"
        )
    network = return_atoms(config, spec)
    optimizer = optax.adam(learning.scheduled(config.learning_rate, config.learning_rate_schedule, spec))
    epsilon = optax.linear_schedule(config.epsilon_start, config.epsilon_end, config.epsilon_updates)

    points = jnp.linspace(config.stock_low, config.stock_high, config.stock_points)

    def as_vectors(rewards: Array) -> Array:
        """Rewards or returns [B] or [B, m] as [B, m]."""
        return rewards.reshape(-1, spec.reward_dim)

    def draw_stocks(key: Key, shape: tuple[int, ...]) -> Array:
        return points[jax.random.randint(key, (*shape, stock_dim), 0, config.stock_points)]

    def action_values(atoms: Array, stocks: Array) -> Array:
        """The objective of each action, [B, E, A]."""
        if config.augmented:
            return command_objectives.value(objective, stocks[:, :, None, None] + atoms, config.jump_width)
        return command_objectives.value_as_start(objective, atoms)

    def greedy_actions(atoms: Array, stocks: Array) -> Array:
        """The greedy actions, [B, E]."""
        mean_returns = jnp.mean(atoms, axis=-2).sum(axis=-1)
        return jnp.argmax(action_values(atoms, stocks) + config.mean_weight * mean_returns, axis=-1)

    def greedy_atoms(atoms: Array, stocks: Array) -> Array:
        """The greedy action's atoms, [B, E, N, m]."""
        return atoms_of_actions(atoms, greedy_actions(atoms, stocks))

    def subsample(atoms: Array, key: Key) -> Array:
        """The N' of N atoms of the targets that an update uses, [B, E, N', m]."""
        count = config.num_targets or config.num_atoms
        spacing = config.num_atoms // count
        first = jax.random.randint(key, (), 0, spacing)
        return jnp.take(atoms.reshape(*atoms.shape[:2], count, spacing, -1), first, axis=3)

    def distance(atoms: Array, targets: Array) -> Array:
        """The loss of atoms [B * E, N, m]."""
        if spec.reward_dim > 1:
            return energy_loss(atoms, targets)
        return quantile_huber_loss(atoms[..., 0], targets[..., 0], config.huber)

    def init(key: Key, example: Transitions) -> TrainState:
        network_key, update_key = jax.random.split(key)
        stocks = jnp.zeros((len(example.rewards), 1, stock_dim))
        params = network.init(network_key, example.observations, stocks)
        return learning.start(update_key, params, params, optimizer.init(params))

    def update(state: TrainState, batch: Transitions) -> tuple[TrainState, Metrics]:
        # 1. Stock editing.
        size, edits = len(batch.rewards), config.stock_edits
        key = jax.random.fold_in(state.key, state.step)
        stocks = draw_stocks(key, (size, edits))
        rewards = batch.rewards.reshape(size, 1, spec.reward_dim)
        next_stocks = next_stock(stocks, rewards, config.discount)

        # 2. Targets.
        next_atoms = network.apply(state.target_params, batch.next_observations, next_stocks)
        masks = batch.masks[:, None, None, None]
        targets = rewards[:, None] + config.discount * masks * subsample(
            greedy_atoms(next_atoms, next_stocks), jax.random.fold_in(key, 1)
        )
        actions = jnp.broadcast_to(batch.actions[:, None], (size, edits))

        def loss(params):
            atoms = atoms_of_actions(network.apply(params, batch.observations, stocks), actions)
            flat = (size * edits, -1, spec.reward_dim)
            losses = distance(atoms.reshape(flat), targets.reshape(flat))
            return jnp.mean(losses), {"mean_return": jnp.mean(atoms)}

        # 3. Gradient step.
        params, opt_state, metrics = learning.gradient_step(loss, optimizer, state.params, state.opt_state)

        # 4. Target network.
        step = state.step + 1
        target_params = optax.periodic_update(params, state.target_params, step, config.target_period)
        state = state._replace(params=params, target_params=target_params, opt_state=opt_state, step=step)
        return state, metrics | {"epsilon": epsilon(step)}

    def predict(state: TrainState, augmented: Augmented) -> tuple[Array, Array]:
        """The atoms [B, 1, A, N, m] of all actions, and the stocks [B, 1, m]."""
        stocks = augmented.memory[:, None]
        return network.apply(state.params, augmented.observations, stocks), stocks

    def act(state: TrainState, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        best = greedy_actions(*predict(state, augmented))[:, 0].astype(jnp.int32)
        explore_key, action_key = jax.random.split(key)
        explores = jax.random.uniform(explore_key, best.shape) < temperature * epsilon(state.step)
        return jnp.where(explores, jax.random.randint(action_key, best.shape, 0, spec.num_actions), best)

    def value(state: TrainState, augmented: Augmented) -> Array:
        atoms, stocks = predict(state, augmented)
        best = greedy_actions(atoms, stocks)[..., None]
        return jnp.take_along_axis(action_values(atoms, stocks), best, axis=-1)[:, 0, 0]

    def choose(state: TrainState, observations: Array, commands: Array) -> Array:
        grid = jnp.repeat(points[:, None], stock_dim, axis=1)
        if is_searched:
            axes = jnp.meshgrid(*[points] * stock_dim, indexing="ij")
            grid = jnp.stack(axes, axis=-1).reshape(-1, stock_dim)
        stocks = jnp.broadcast_to(grid[None], (commands.shape[0], *grid.shape))
        atoms = greedy_atoms(network.apply(state.params, observations, stocks), stocks)

        def one(command: Array, atoms: Array) -> Array:
            return command_objectives.first_stock(
                command_objectives.objective_of(family, command), grid, atoms
            )

        return jax.vmap(one)(commands, atoms)

    def score(commands: Array, stocks: Array, returns: Array) -> Array:
        def one(command: Array, stock: Array, point: Array) -> Array:
            return command_objectives.score(command_objectives.objective_of(family, command), stock, point)

        return jax.vmap(one)(commands, stocks, stocks + as_vectors(returns))

    memory = Memory(
        commands=commands,
        draw=lambda state, observations, key: draw_stocks(key, (encoders.batch_size(observations),)),
        choose=choose,
        update=lambda stocks, rewards: next_stock(stocks, as_vectors(rewards), config.discount),
        discount=config.discount,
        score=score,
    )
    return Agent(init=init, update=update, act=act, value=value, memory=memory)


def return_atoms(config: EtaNetworkConfig, spec: Spec) -> ReturnAtoms:
    """The agent's network; `apply(state.params, observations, stocks)` gives its return distributions."""
    return ReturnAtoms(
        spec.num_actions,
        config.num_atoms,
        spec.reward_dim,
        config.hidden_dims,
        config.layer_norm,
        config.stock_low,
        config.stock_high,
        config.stock_points if config.augmented else 0,
        encoders.choose(config.encoder, spec, default="dqn"),
        stock_size(config, spec),
    )


def stock_size(config: EtaNetworkConfig, spec: Spec) -> int:
    """The number of components of a stock: for spectral one for each level, all with the same reward."""
    return len(config.taus) if config.objective == "spectral" else spec.reward_dim


def atoms_of_actions(atoms: Array, actions: Array) -> Array:
    """The atoms [B, E, N, m] of the given actions [B, E], from the atoms [B, E, A, N, m] of all actions."""
    numbers = jnp.arange(atoms.shape[2])[None, None, :, None, None]
    # XLA fuses a masked sum and its gradient with other operations; gather and scatter took twice as long.
    return jnp.sum(jnp.where(numbers == actions[..., None, None, None], atoms, 0), axis=2)
