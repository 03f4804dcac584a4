"""The vocabulary: the few types through which the parts of valuelab meet.

Algorithms are named tuples of pure functions, as optax has them for gradient transformations: an
`Agent` learns and acts; most agents are a `Critic` (how values are learnt) composed with a `Policy`
(how actions are drawn from them). What they carry is a `TrainState`; what they learn from is
`Transitions`, drawn by a `Sampler` from a `Dataset` or met in a `VectorEnvironment`; what they may know of
them beforehand is a `Spec`. Field names follow D4RL and OGBench.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Key = jax.Array
Params = Any
"""A pytree of arrays: the parameters of one or several networks."""
Metrics = dict[str, Array]
"""Names to scalars, all on the device.

If some updates skip a step, such as the policy's, the metrics of this step have names GROUP/NAME. The metric
GROUP/stepped is 1 in updates with the step and 0 in the others, where all metrics of the group are 0. The log
has means over the steps.
"""
STEPPED = "stepped"
"""The last part of the name of that metric."""
Solver = Literal["euler", "midpoint", "heun"]
"""How a step along a flow is made."""


# What is learnt from.


class Segments(NamedTuple):
    """What followed the transitions of a batch, for H steps from each.

    Attributes:
        actions: [B, H, A] or [B, H], the first the transition's own.
        observations: [B, H, ...], to which they led.
        masks: [B, H], 1 where the trajectory lasted so long; elsewhere its last step is repeated.
    """

    actions: Array
    observations: Array
    masks: Array


class Transitions(NamedTuple):
    """A batch of transitions; B is the batch size, A the number of action dimensions.

    Attributes:
        observations: [B, ...].
        actions: [B, A] floats, or [B] integers where actions are discrete.
        rewards: [B], or [B, m] where rewards are vectors.
        masks: [B], 1 - terminated: 0 only where the episode truly ended, never at a time limit.
        next_observations: [B, ...].
        goals: [B, ...] of the observations' shape, the goals that rewards and masks refer to; None
            where the task is not goal-conditioned.
        policy_goals: [B, ...], the goals that the policy is trained on; None likewise.
        subgoals: [B, ...], the observations k steps later, or the last of the trajectory: the goals of
            low-level policies. None unless the sampler was asked for them.
        policy_subgoals: [B, ...], the observations k steps later on the way to `policy_goals`, or these where
            they are nearer: what high-level policies predict. None likewise.
        next_actions: the data's actions at next_observations, as `actions`, or any where none were taken
            there; None where batches have goals.
        futures: [B, ...], observations later in the trajectory, as far on as a geometric distribution has
            it; None unless the sampler was asked for them.
        segments: the steps that followed; None likewise.
    """

    observations: Array
    actions: Array
    rewards: Array
    masks: Array
    next_observations: Array
    goals: Array | None = None
    policy_goals: Array | None = None
    subgoals: Array | None = None
    policy_subgoals: Array | None = None
    next_actions: Array | None = None
    futures: Array | None = None
    segments: Segments | None = None


class GoalConditioned(NamedTuple):
    """Observations together with the goals to reach: what `act` takes in goal-conditioned tasks.

    Attributes:
        observations: [B, ...].
        goals: [B, ...] of the same shape.
    """

    observations: Array
    goals: Array


class Augmented(NamedTuple):
    """Observations together with what the agent carries through the episode: see `Memory`.

    Attributes:
        observations: [B, ...].
        memory: a pytree with leading axis B; for D-eta-N the stocks [B, m], for zero-shot agents the tasks
            z [B, d].
    """

    observations: Array
    memory: Any


@dataclasses.dataclass(frozen=True)
class ObservationPart:
    """One part of an observation of several parts; `observation_parts.pack` joins the parts.

    Attributes:
        name: its key in the dictionary that agents see.
        shape: [H, W, C] of an image, or [k] of a vector.
        dtype: dtype name, "float32" or "uint8".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Spec:
    """What an agent may know of its data before it sees any; made by the data layer, never written to.

    Everything is as the agent sees it, after `Normalization`: continuous actions lie in [-1, 1].

    Attributes:
        observation_shape: shape of one observation.
        observation_dtype: dtype name of observations, "float32" or "uint8".
        action_dim: number of continuous action dimensions; 0 where actions are discrete.
        num_actions: number of discrete actions; 0 where actions are continuous.
        reward_min: least reward in the data.
        reward_max: greatest reward in the data.
        reward_dim: number of components m of a reward.
        goal_conditioned: whether batches carry goals.
        num_updates: length of the run in updates, for schedules; 0 where unknown.
        observation_parts: the parts of an observation, sorted by name, where observations are packed bytes
            [P]; agents then see a dictionary of arrays. Empty where an observation is one array.
        observation_entries: the names of the entries that were joined into vectors, in this order; empty
            where unknown.
        task_dim: size of the task z at the end of an observation, for policies of zero-shot agents; otherwise
            0.
        representation_dim: d of the representations of goals that the critic offers, for policies; otherwise
            0.
    """

    observation_shape: tuple[int, ...]
    observation_dtype: str
    action_dim: int
    num_actions: int
    reward_min: float
    reward_max: float
    reward_dim: int = 1
    goal_conditioned: bool = False
    num_updates: int = 0
    observation_parts: tuple[ObservationPart, ...] = ()
    observation_entries: tuple[str, ...] = ()
    task_dim: int = 0
    representation_dim: int = 0

    @property
    def discrete(self) -> bool:
        """Whether actions are integers."""
        return self.num_actions > 0


class Normalization(NamedTuple):
    """How an agent sees its data. Everything outside the agent stays in the data's own units.

    The agent sees (observation - observation_mean) / observation_std, actions mapped linearly from
    [action_low, action_high] to [-1, 1], and reward_scale * reward + reward_shift; what it returns is
    mapped back. None stands for the identity.

    Attributes:
        observation_mean: of the observations' shape, or None; a dictionary of these for several parts.
        observation_std: of the observations' shape, [1, 1, C] for images, positive, or None; likewise.
        action_low: [A], or None.
        action_high: [A], or None.
        reward_scale: positive number.
        reward_shift: number.
    """

    observation_mean: np.ndarray | dict[str, np.ndarray] | None = None
    observation_std: np.ndarray | dict[str, np.ndarray] | None = None
    action_low: np.ndarray | None = None
    action_high: np.ndarray | None = None
    reward_scale: float = 1.0
    reward_shift: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A whole dataset on the host: flat arrays of N rows in time order, episode after episode.

    Two storages. Full: every row is a transition and `next_observations` holds its successor. Compact:
    `next_observations` is None, each observation is stored once, and row i is a transition where
    `valid[i]`; its successor is then row i + 1. (The last row of an episode then only holds the final
    observation.)

    Attributes:
        name: the source's name, such as "ogbench/pointmaze-medium-navigate-v0".
        observations: [N, ...] float32 or uint8.
        actions: [N, A] float32, or [N] int32 where actions are discrete.
        rewards: [N] float32, as the source defines them (never normalised here).
        masks: [N] float32, 1 - terminated.
        terminals: [N] bool, True at the last row of each episode whatever ended it: boundaries only.
        next_observations: [N, ...], or None in compact storage.
        valid: [N] bool, or None in full storage, where every row is valid.
        action_low: [A] float32 lower bounds; empty where actions are discrete.
        action_high: [A] float32 upper bounds; empty where actions are discrete.
        num_actions: number of discrete actions, 0 where actions are continuous.
        goal_conditioned: whether rewards and masks are to be relabelled with goals when sampled.
        observation_parts: the parts of an observation, sorted by name, where observations are packed bytes
            [N, P] uint8; see `observation_parts.pack`. Empty where an observation is one array.
        observation_entries: the names of the entries that were joined into vectors, in this order; empty
            where unknown.
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    masks: np.ndarray
    terminals: np.ndarray
    next_observations: np.ndarray | None = None
    valid: np.ndarray | None = None
    action_low: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    action_high: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    num_actions: int = 0
    goal_conditioned: bool = False
    observation_parts: tuple[ObservationPart, ...] = ()
    observation_entries: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The name and the sizes, not the numbers."""
        parts = ", ".join(f"{part.name} {part.dtype}{list(part.shape)}" for part in self.observation_parts)
        seen = parts or f"{self.observations.dtype}{list(self.observations.shape[1:])}"
        actions = (
            f"{self.num_actions} actions" if self.num_actions else f"actions {list(self.actions.shape[1:])}"
        )
        episodes = int(np.count_nonzero(self.terminals))
        return (
            f"Dataset({self.name!r}: {episodes:,} episodes, {len(self.rewards):,} rows, observations {seen}, "
            f"{actions})"
        )


class Sampler(NamedTuple):
    """How batches are drawn from a dataset: first the numbers of rows, then the rows.

    Attributes:
        arrays: a pytree of host arrays, each with rows as leading axis; the loop places them on the
            devices once, sharded over the data axis (rows padded at the end to divide evenly; a sampler
            never draws padding), and passes them to jit as an argument. If the data are streamed, they stay
            on the host.
        draw: (arrays, key) -> a NamedTuple of arrays with leading axis B, or an array [B]: the numbers of the
            rows, and whatever else is drawn. Pure, called inside jit. It reads only arrays that are small.
        gather: (arrays, drawn) -> Transitions. Row i depends only on row i of `drawn`. Called inside jit, and
            on the host with NumPy arrays whose axes before B are kept. A field of `drawn` that is None
            leaves out the fields of the batch that need it.
        batch_size: B.
        num_transitions: M, among which it draws.
    """

    arrays: Any
    draw: Callable[[Any, Key], Any]
    gather: Callable[[Any, Any], Transitions]
    batch_size: int
    num_transitions: int

    def sample(self, arrays: Any, key: Key) -> Transitions:
        """A batch of transitions [B]; pure, called inside jit."""
        return self.gather(arrays, self.draw(arrays, key))


# What learns.


class TrainState(NamedTuple):
    """All that one learnt part carries from update to update.

    Attributes:
        params: parameters, the only tree the optimiser sees.
        target_params: averaged copies of (some of) them; an empty dict where there are none.
        opt_state: the optimiser's state.
        step: int32 scalar, updates done.
        key: the part's random key; update t draws from fold_in(key, t).
    """

    params: Params
    target_params: Params
    opt_state: Any
    step: Array
    key: Key


class Estimates(NamedTuple):
    """What a trained critic says about observations and actions; None for what it does not offer.

    Attributes:
        q: (observations [B, ...], actions) -> [B] action values.
        value: (observations [B, ...]) -> [B] state values.
        advantage: (batch) -> [B] advantages of the batch's transitions, for weighting data actions.
        goal_representation: (observations joined with goals, [B, ...]) -> [B, d], representations φ(s, g) of
            the goals.
    """

    q: Callable[[Array, Array], Array] = None  # type: ignore[assignment] # composition checks offers first
    value: Callable[[Array], Array] = None  # type: ignore[assignment]
    advantage: Callable[[Transitions], Array] = None  # type: ignore[assignment]
    goal_representation: Callable[[Array], Array] = None  # type: ignore[assignment]


class NextActions(NamedTuple):
    """What targets take to follow next observations.

    Attributes:
        actions: [B, A] or [B].
        costs: [B], in units of returns, subtracted from their values; such as SAC's α log π.
    """

    actions: Array
    costs: Array


class PolicyView(NamedTuple):
    """What the update of a critic may ask the policy. Nothing of it carries gradients into the policy.

    Attributes:
        look_ahead: (batch, key) -> NextActions of the batch's next observations, for targets.
        sample: (observations [B, ...] or GoalConditioned, key) -> actions [B, A] and their log-likelihoods
            [B]; observations as the critic sees them. None where the policy gives no likelihoods.
        representation_loss: (batch as the critic sees it, represent) -> scalar, the loss of the policy that
            sees goals through `represent`, (observations joined with goals) -> representations [B, d]. None
            where the policy sees goals otherwise.
    """

    look_ahead: Callable[[Transitions, Key], NextActions]
    sample: Callable[[Any, Key], tuple[Array, Array]] = None  # type: ignore[assignment]
    representation_loss: Callable[[Transitions, Callable[[Array], Array]], Array] = None  # type: ignore[assignment]


class Layer(NamedTuple):
    """What a hidden layer of E networks gives for B pairs of observation and action.

    A network that sees more than the pair (the level of a quantile, a point of a flow) is looked at in P
    places for each pair, those from which it makes Q; others in one.

    Attributes:
        units: [E, B, P, width], after the activation and before layer norm, which hides inactive units and
            the lengths of vectors.
        features: [E, B, P, width], after layer norm and the residual sum: the next layer's input.
    """

    units: Array
    features: Array


class Flow(NamedTuple):
    """How a flow critic comes from noise to values: what it takes to follow the flow in other ways than it.

    Attributes:
        start: (key, B) -> z(0) of the m draws for each pair, [E, B, m], the same for all E members.
        velocity: (state, observations [B, ...], actions) -> the members' fields: (z [E, B, m], time scalar)
            -> dz/dt [E, B, m]. Every z moves on its own.
        num_steps: K, steps that the critic makes.
        solver: how it makes them.
    """

    start: Callable[[Key, int], Array]
    velocity: Callable[[TrainState, Array, Array], Callable[[Array, Array], Array]]
    num_steps: int
    solver: Solver


class Diagnostics(NamedTuple):
    """What a critic shows for diagnostics.

    Attributes:
        discount: of the returns that its values estimate.
        layers: (state, observations, actions, key) -> its hidden layers by name; Q is read from the last one.
            The key draws noise, for critics that need some.
        flow: of a flow critic; None for others.
    """

    discount: Array | float
    layers: Callable[[TrainState, Array, Array, Key], dict[str, Layer]] | None = None
    flow: Flow | None = None


class MetricCheck(NamedTuple):
    """A check of a metric; a run in which the metric fails it ends with a warning.

    Attributes:
        metric: the name of the metric, as `update` reports it.
        level: the value of the metric while the fault lasts; a line in the metric's curve shows it.
        below: the metric must fall below this number in at least one row of each member's log.
        meaning: the fault and the advice, in words that follow a colon.
    """

    metric: str
    level: float
    below: float
    meaning: str


class ZeroShot(NamedTuple):
    """What a critic shows that learns the values of all tasks z at once.

    Attributes:
        features: (state, observations [B, ...]) -> [B, d], from which tasks are inferred.
        num_features: d.
        infer_tasks: (features [N, d], rewards [T, N]) -> the tasks z [T, d] for those rewards.
        perceive: (state, observations [B, ...]) -> vectors [B, k] that policies and estimates get in place of
            the observations, as constants.
        goal_tasks: as of `FeatureLearner`.
    """

    features: Callable[[TrainState, Array], Array]
    num_features: int
    infer_tasks: Callable[[Array, Array], Array]
    perceive: Callable[[TrainState, Array], Array]
    goal_tasks: Callable[[Array, Array], Array] | None = None


class Critic(NamedTuple):
    """How a value function is learnt.

    Attributes:
        name: its name in messages.
        offers: which fields of Estimates it fills, and "q_gradient" where q is differentiable in actions.
        init: (key, example: Transitions) -> TrainState.
        update: (state, batch, policy: PolicyView) -> (state, Metrics): every gradient step of the critic; the
            targets stay as they are.
        average_targets: (state) -> state: moves the target parameters towards the new parameters.
        estimates: (state) -> Estimates.
        diagnostics: what it shows for diagnostics; None where it shows nothing.
        zero_shot: of critics of all tasks z. Such a critic gets goals apart from observations; others get
            both joined, as policies do. None for others.
        goal_scores: (state, observations [B, ...], actions, goals [B, ...]) -> [B], the log probability of
            meeting the goals later, relative to that of other goals, up to a constant. None for critics that
            do not learn it.
        representation_dim: d of goal_representation; 0 where the critic does not offer it.
        needs: what its update uses of what policies offer: "log_probs" for `PolicyView.sample`, and
            "representation_loss".
        checks: the checks of its metrics at the end of a run.
    """

    name: str
    offers: frozenset[str]
    init: Callable[[Key, Transitions], TrainState]
    update: Callable[[TrainState, Transitions, PolicyView], tuple[TrainState, Metrics]]
    average_targets: Callable[[TrainState], TrainState]
    estimates: Callable[[TrainState], Estimates]
    diagnostics: Diagnostics | None = None
    zero_shot: ZeroShot | None = None
    goal_scores: Callable[[TrainState, Any, Array, Any], Array] | None = None
    representation_dim: int = 0
    needs: frozenset[str] = frozenset()
    checks: tuple[MetricCheck, ...] = ()


class FeatureLearner(NamedTuple):
    """How features of observations are learnt, independently of the policy.

    Attributes:
        name: its name in messages.
        dim: d.
        init: (key, example: Transitions) -> params.
        loss: (params, target_params, batch, key) -> (scalar, Metrics); target_params are averages of
            params, without gradient.
        encode: (params, observations [B, ...]) -> features [B, d].
        predictors: the names of its parameters that learn at the critic's learning rate; all others learn at
            the rate of features.
        goal_tasks: (ψ(s) [B, d], ψ(g) [B, d]) -> [B, d], the tasks of reaching goals g from states s, of any
            length; None for ψ(g).
    """

    name: str
    dim: int
    init: Callable[[Key, Transitions], Params]
    loss: Callable[[Params, Params, Transitions, Key], tuple[Array, Metrics]]
    encode: Callable[[Params, Array], Array]
    predictors: frozenset[str] = frozenset()
    goal_tasks: Callable[[Array, Array], Array] | None = None


class Policy(NamedTuple):
    """How actions are drawn from a value function.

    Attributes:
        name: its name in messages.
        needs: what its update and sample use of what critics offer.
        init: (key, example: Transitions) -> TrainState.
        update: (state, batch, estimates) -> (state, Metrics).
        sample: (state, observations [B, ...], key, temperature, estimates) -> actions; temperature 0 is
            the most likely action, 1 the policy as learnt.
        look_ahead: (state, batch, key, estimates) -> NextActions, for critics' targets; None for samples
            at temperature 1 without costs.
        sample_with_log_probs: (state, observations [B, ...], key) -> actions and their log-likelihoods [B];
            None where the policy gives none.
        representation_loss: (state, batch, estimates, represent) -> scalar, see `PolicyView`; None likewise.
        period: number of updates of the critic for each step of the policy. Update n, counted from 1, has a
            step where n is a multiple of it.
        slows_targets: whether the critic's targets move only in updates with a step of the policy, as in TD3.
    """

    name: str
    needs: frozenset[str]
    init: Callable[[Key, Transitions], TrainState]
    update: Callable[[TrainState, Transitions, Estimates], tuple[TrainState, Metrics]]
    sample: Callable[[TrainState, Array, Key, Array | float, Estimates], Array]
    look_ahead: Callable[[TrainState, Transitions, Key, Estimates], NextActions] | None = None
    sample_with_log_probs: Callable[[TrainState, Array, Key], tuple[Array, Array]] | None = None
    representation_loss: (
        Callable[[TrainState, Transitions, Estimates, Callable[[Array], Array]], Array] | None
    ) = None
    period: int = 1
    slows_targets: bool = False


class Memory(NamedTuple):
    """What an agent carries through an episode beside the observations, and what it can be asked for.

    D-eta-N carries the stock: a command (a risk level, a target return) chooses the first stock, and so what
    the one network does. `act` and `value` of an agent with a memory take `Augmented`.

    Attributes:
        commands: name -> command, a float array [k]: what the agent is evaluated on.
        draw: (state, observations [B, ...], key) -> memory at the start of episodes of training.
        choose: (state, observations [B, ...], commands [B, k]) -> memory at the start of evaluated episodes.
        update: (memory, rewards [B] or [B, m]) -> memory after one more step.
        discount: of the returns that `score` takes.
        score: (commands [B, k], memory at the start, discounted returns [B] or [B, m]) -> [B], whose mean
            over episodes is the objective that the command asks for; None where the environment's own score
            stands.
    """

    commands: Mapping[str, np.ndarray]
    draw: Callable[[Any, Array, Key], Any]
    choose: Callable[[Any, Array, Array], Any]
    update: Callable[[Any, Array], Any]
    discount: Array | float
    score: Callable[[Array, Any, Array], Array] | None


class Agent(NamedTuple):
    """A whole algorithm.

    Attributes:
        init: (key, example: Transitions) -> state, any pytree of arrays.
        update: (state, batch: Transitions) -> (state, Metrics); random keys are drawn from the state.
        act: (state, observations [B, ...] or GoalConditioned or Augmented, key, temperature) -> actions;
            temperature 0 is greedy, 1 acts as in training.
        value: (state, observations as for act) -> [B] state values, for looking at; None where the agent
            has none.
        memory: what it carries through an episode; None where it acts on observations alone.
        critic: how it learns values, with `state.critic` as its state; None where there is none, or where
            it sees data otherwise than the agent does.
        features: (state, observations [B, ...]) -> [B, d]; of zero-shot agents, which learn without rewards.
            They act for tasks z when given `Augmented` with z [B, d] as memory.
        infer_tasks: (features [N, d], rewards [T, N]) -> tasks z [T, d]; of zero-shot agents.
        goal_tasks: (state, ψ(s) [B, d] or None, ψ(g) [B, d]) -> the tasks z [B, d] of reaching goals g from
            states s; of zero-shot agents. ψ(s) may be None if the task depends on the goal alone.
        renews_tasks: whether the task of a goal depends on the current state, and so changes at each step.
        goal_scores: (state, observations [B, ...], actions, goals [B, ...]) -> [B], as of `Critic`; None for
            agents that do not learn them.
        checks: the checks of its metrics at the end of a run.
    """

    init: Callable[[Key, Transitions], Any]
    update: Callable[[Any, Transitions], tuple[Any, Metrics]]
    act: Callable[[Any, Any, Key, Array | float], Array]
    value: Callable[[Any, Any], Array] = None  # type: ignore[assignment]
    memory: Memory | None = None
    critic: Critic | None = None
    features: Callable[[Any, Array], Array] | None = None
    infer_tasks: Callable[[Array, Array], Array] | None = None
    goal_tasks: Callable[[Any, Array | None, Array], Array] | None = None
    renews_tasks: bool = False
    goal_scores: Callable[[Any, Any, Array, Any], Array] | None = None
    checks: tuple[MetricCheck, ...] = ()


class MakeAgent(Protocol):
    """What a config file calls `make_agent`: hyperparameters and facts of the data in, an Agent out.

    Numeric fields of the config may be traced arrays (that is how a population trains in one program),
    so an agent never branches in Python on one of them.
    """

    def __call__(self, config: Any, spec: Spec) -> Agent:
        """Builds the agent of a config for data of a spec."""


# What is acted in.


class Outcomes(NamedTuple):
    """What came of one step of N environments.

    Attributes:
        observations: [N, ...], the successors; where an episode ended, its final observations.
        rewards: [N], or [N, m].
        terminated: [N] bool, whether the episode truly ended.
        truncated: [N] bool, whether it was cut, such as by a time limit.
    """

    observations: Array
    rewards: Array
    terminated: Array
    truncated: Array


class VectorEnvironment(NamedTuple):
    """N environments that step together inside jit.

    An episode that ended is followed by another: the step after its last one ignores the action, returns the
    first observation of the next episode with reward 0, and is no transition (gymnasium calls this next-step
    autoreset). `step` is a pure function of its arguments, also where the environments live on the host.

    Attributes:
        name: in messages.
        spec: what an agent may know of it.
        num_environments: N.
        max_episode_steps: after which episodes are truncated.
        reset: (key) -> (simulation, observations [N, ...]).
        step: (simulation, actions [N, ...]) -> (simulation, Outcomes).
        frames: how many frames observations stack on their last axis, newest last, zeros before an
            episode's first; 1 where they are no stacks. A replay buffer keeps single frames.
        action_low: [A] float32 lower bounds of the actions that `step` takes, in the environment's own
            units; empty where actions are discrete.
        action_high: [A] float32 upper bounds, likewise.
        failure: () -> why a step failed on the host, where JAX says only that one did; None if none has.
        inexact_resume: why a run that was stopped would not end with the same bits; empty if it would.
    """

    name: str
    spec: Spec
    num_environments: int
    max_episode_steps: int
    reset: Callable[[Key], tuple[Any, Array]]
    step: Callable[[Any, Array], tuple[Any, Outcomes]]
    frames: int = 1
    action_low: np.ndarray = np.zeros(0, np.float32)
    action_high: np.ndarray = np.zeros(0, np.float32)
    failure: Callable[[], Exception | None] = lambda: None
    inexact_resume: str = ""


# What is evaluated in.


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment to evaluate in, with the tasks and the score that its benchmark prescribes.

    Attributes:
        name: the environment's name.
        make: () -> a new gymnasium.Env.
        tasks: names of the tasks, one result each, mapped to the `options` that reset() takes for them.
        metric: the score's name: "success", "return" or "normalized_score".
        score: (episode return, success) -> the score of one episode.
        goal_conditioned: whether reset()'s info carries the goal of the episode under "goal".
        reward_dim: number of components m of a reward.
    """

    name: str
    make: Callable[[], Any]
    tasks: Mapping[str, dict[str, Any] | None]
    metric: str
    score: Callable[[float, bool], float]
    goal_conditioned: bool = False
    reward_dim: int = 1
