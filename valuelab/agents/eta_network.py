"""D-eta-N, the deep eta network: deep distributional Q-learning with the stock as a second input.

The network gives the law of the return from observation s and stock c after each action, as N atoms θ_i(s, c,
a). Actions are greedy in E f(c + θ(s, c, ·)), f the utility of the objective, and c' = (c + r) / γ. What is
asked of the agent, a risk level or a target return, only chooses the first stock: one network answers all.

One update:

1. Stock editing: dynamics do not depend on the stock, so each transition of the batch is replayed with
   E stocks c drawn anew from a grid, c' = (c + r) / γ.
2. Targets y_j = r + γ · mask · θ̄_j(s', c', a*), a* = argmax_a mean_i [f(c' + θ̄_i) + w θ̄_i](s', c', a), with
   the target network; w = 0, the paper's choice, leaves ties of E f to chance.
3. A step down the quantile Huber loss of θ(s, c, a) to y; where rewards are vectors, the energy distance.
4. Every `target_period` updates the target network becomes a copy of the NEW one.

Nothing here asks where transitions come from: on a logged dataset this is offline D-eta-N.

Without the stock (`augmented=False`) it is plain distributional learning: greedy, at every state, in the
objective as if an episode began there. That is QR-DQN for the expectation, and greedy in CVaR for CVaR.

Source: Pires et al. 2025, "Optimizing Return Distributions with Distributional Dynamic Programming",
arXiv:2501.13028; quantile regression of Dabney et al. 2018, arXiv:1710.10044.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from valuelab.agents import commands as commanding
from valuelab.configuration import check_ranges, check_widths
from valuelab.errors import InputError
from valuelab.networks import encoders, learning
from valuelab.networks.encoders import EncoderName
from valuelab.networks.quantiles import ReturnAtoms
from valuelab.ops.quantile import energy_loss, quantile_huber_loss
from valuelab.ops.stock import next_stock
from valuelab.types import Agent, Array, Augmented, Key, Memory, Metrics, Spec, TrainState, Transitions


@dataclasses.dataclass(frozen=True)
class EtaNetworkConfig:
    """Hyperparameters of D-eta-N.

    Attributes:
        objective: what is maximised.
        commands: what the agent is evaluated on: risk levels of cvar and upper_cvar, target returns of
            target, satisficing (0.5 below a whole number to reach it) and homeostatic (m numbers each);
            expectation takes none.
        mean_weight: w >= 0; the greedy action maximises E f(c + G) + w E G. A small one breaks ties: where
            stock is to spare, or cannot be saved, f is flat, and to waste it is as good as to go on.
        jump_width: width of the ramp that stands for the jump of satisficing's f where actions are compared,
            in units of returns; 0 for none. Where c + G is never on the ramp, as with whole rewards, a width
            of 1 and stocks half-way between whole numbers, the objective stays as it is, and atoms that are
            a little off no longer decide.
        augmented: whether the network sees the stock; else the agent is greedy in its one command everywhere.
        stock_low: least stock that the network tells apart, minus the greatest return that matters.
        stock_high: greatest stock that the network tells apart, minus the least return that matters.
        stock_edits: stocks that each transition of a batch is replayed with.
        stock_points: evenly spaced stocks, in each component, with which transitions are replayed, and which
            are compared when a risk level is asked for; the network sees others between their neighbours.
        num_atoms: atoms of each return distribution.
        num_targets: of the target's atoms, so many are learnt from in each update, evenly spaced from a
            random one on; none for all. Divides num_atoms.
        encoder: of images, "impala_small", "drq" or "dqn"; none for vectors, and for dqn.
        hidden_dims: width of each hidden layer; after the encoder where observations are images.
        layer_norm: normalise the hidden layers after the first.
        huber: κ of the quantile Huber loss, at least 0, in units of returns.
        discount: γ in (0, 1].
        learning_rate: of Adam.
        learning_rate_schedule: "cosine" (to 0 at the end of the run) or "constant".
        target_period: updates between two copies to the target network.
        epsilon_start: share of random actions at the first update.
        epsilon_end: share of random actions from `epsilon_updates` on.
        epsilon_updates: updates over which the share falls.
    """

    objective: Literal["expectation", "cvar", "upper_cvar", "target", "satisficing", "homeostatic"] = "cvar"
    commands: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    mean_weight: float = 0.0
    jump_width: float = 0.0
    augmented: bool = True
    stock_low: float = -10.0
    stock_high: float = 10.0
    stock_edits: int = 4
    stock_points: int = 65
    num_atoms: int = 32
    num_targets: int | None = None
    encoder: EncoderName | None = None
    hidden_dims: tuple[int, ...] = (64, 64)
    layer_norm: bool = False
    huber: float = 0.0
    discount: float = 0.99
    learning_rate: float = 1e-3
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    target_period: int = 200
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_updates: int = 10_000

    def __post_init__(self) -> None:
        check_widths(self, "hidden_dims")
        check_ranges(
            self,
            mean_weight="[0, inf)",
            jump_width="[0, inf)",
            stock_edits="[1, inf)",
            stock_points="[2, inf)",
            num_atoms="[1, inf)",
            num_targets="[1, inf)",
            huber="[0, inf)",
            discount="(0, 1]",
            learning_rate="(0, inf)",
            target_period="[1, inf)",
            epsilon_start="[0, 1]",
            epsilon_end="[0, 1]",
            epsilon_updates="[1, inf)",
        )
        if self.num_targets and self.num_atoms % self.num_targets:
            raise InputError(f"num_targets is {self.num_targets}; it must divide num_atoms {self.num_atoms}")
        traced = isinstance(self.stock_low, jax.Array) or isinstance(self.stock_high, jax.Array)
        if not traced and not self.stock_low < self.stock_high:
            raise InputError(f"stock_low is {self.stock_low}; it must lie below stock_high {self.stock_high}")


def eta_network(config: EtaNetworkConfig, spec: Spec) -> Agent:
    """Builds the agent.

    Args:
        config: hyperparameters; numeric ones may be traced.
        spec: of the data; actions are discrete, observations vectors or images.

    Returns:
        The agent. Its memory is the stock [B, m]; act and value take `Augmented`, and value is
        E f(c + G) of the greedy action.

    Raises:
        InputError: for continuous actions, observations of another shape, an objective of other rewards, or
            commands that the objective cannot take.
    """
    if not spec.discrete:
        raise InputError("eta_network chooses between discrete actions; for continuous ones take agent iql")
    commands = commanding.named(config.objective, config.commands, spec.reward_dim)
    if not config.augmented and len(commands) > 1:
        raise InputError(
            f"agent.commands has {len(commands)} commands; without the stock the agent knows one: give one"
        )
    objective = commanding.objective(config.objective, next(iter(commands.values())))
    if objective.properties.reward_dim not in (None, spec.reward_dim):
        raise InputError(
            f"rewards have {spec.reward_dim} components; agent.objective {config.objective} takes "
            f"{objective.properties.reward_dim}"
        )
    network = return_atoms(config, spec)
    optimizer = optax.adam(learning.scheduled(config.learning_rate, config.learning_rate_schedule, spec))
    epsilon = optax.linear_schedule(config.epsilon_start, config.epsilon_end, config.epsilon_updates)

    points = jnp.linspace(config.stock_low, config.stock_high, config.stock_points)

    def draw_stocks(key: Key, shape: tuple[int, ...]) -> Array:
        return points[jax.random.randint(key, (*shape, spec.reward_dim), 0, config.stock_points)]

    def worth(atoms: Array, stocks: Array) -> Array:
        """What is asked for of each action, [B, E, A]."""
        if config.augmented:
            return commanding.worth(objective, stocks[:, :, None, None] + atoms, config.jump_width)
        return commanding.worth_alone(objective, atoms)

    def greedy_actions(atoms: Array, stocks: Array) -> Array:
        """[B, E]."""
        mean_returns = jnp.mean(atoms, axis=-2).sum(axis=-1)
        return jnp.argmax(worth(atoms, stocks) + config.mean_weight * mean_returns, axis=-1)

    def greedy(atoms: Array, stocks: Array) -> Array:
        """The greedy action's atoms, [B, E, N, m]."""
        return of_actions(atoms, greedy_actions(atoms, stocks))

    def learnt_from(atoms: Array, key: Key) -> Array:
        """The atoms [B, E, N', m] of the N of a law that an update learns from."""
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
        stocks = jnp.zeros((len(example.observations), 1, spec.reward_dim))
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
        targets = rewards[:, None] + config.discount * masks * learnt_from(
            greedy(next_atoms, next_stocks), jax.random.fold_in(key, 1)
        )
        actions = jnp.broadcast_to(batch.actions[:, None], (size, edits))

        def loss(params):
            atoms = of_actions(network.apply(params, batch.observations, stocks), actions)
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

    def look(state: TrainState, augmented: Augmented) -> tuple[Array, Array]:
        """Atoms [B, 1, A, N, m] and stocks [B, 1, m]."""
        stocks = augmented.memory[:, None]
        return network.apply(state.params, augmented.observations, stocks), stocks

    def act(state: TrainState, augmented: Augmented, key: Key, temperature: Array | float) -> Array:
        best = greedy_actions(*look(state, augmented))[:, 0].astype(jnp.int32)
        explore_key, action_key = jax.random.split(key)
        explores = jax.random.uniform(explore_key, best.shape) < temperature * epsilon(state.step)
        return jnp.where(explores, jax.random.randint(action_key, best.shape, 0, spec.num_actions), best)

    def value(state: TrainState, augmented: Augmented) -> Array:
        atoms, stocks = look(state, augmented)
        best = greedy_actions(atoms, stocks)[..., None]
        return jnp.take_along_axis(worth(atoms, stocks), best, axis=-1)[:, 0, 0]

    def choose(state: TrainState, observations: Array, commands: Array) -> Array:
        grid = jnp.repeat(points[:, None], spec.reward_dim, axis=1)
        stocks = jnp.broadcast_to(grid[None], (len(observations), *grid.shape))
        atoms = greedy(network.apply(state.params, observations, stocks), stocks)

        def one(command: Array, atoms: Array) -> Array:
            return commanding.first_stock(commanding.objective(config.objective, command), grid, atoms)

        return jax.vmap(one)(commands, atoms)

    def score(commands: Array, stocks: Array, returns: Array) -> Array:
        utilities = commanding.worth(objective, (stocks + returns.reshape(stocks.shape))[:, None])

        def one(command: Array, stock: Array, utility: Array) -> Array:
            return commanding.score(commanding.objective(config.objective, command), stock, utility)

        return jax.vmap(one)(commands, stocks, utilities)

    memory = Memory(
        commands=commands,
        draw=lambda state, observations, key: draw_stocks(key, (len(observations),)),
        choose=choose,
        update=lambda stocks, rewards: next_stock(stocks, rewards.reshape(stocks.shape), config.discount),
        discount=config.discount,
        score=score,
    )
    return Agent(init, update, act, value, memory)


def return_atoms(config: EtaNetworkConfig, spec: Spec) -> ReturnAtoms:
    """The network of the agent, for looking at laws: `apply(state.params, observations, stocks)`."""
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
    )


def of_actions(atoms: Array, actions: Array) -> Array:
    """Atoms [B, E, A, N, m] of the given actions [B, E], [B, E, N, m]."""
    numbers = jnp.arange(atoms.shape[2])[None, None, :, None, None]
    # A masked sum and its gradient fuse with their neighbours; a gather and its scatter took twice as long.
    return jnp.sum(jnp.where(numbers == actions[..., None, None, None], atoms, 0), axis=2)
