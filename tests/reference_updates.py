"""One update of each published agent, written out from the equations of the papers.

Nothing here comes from valuelab. Parameters are nested dictionaries of arrays with the agent's own names, as
"critic/q" -> {"params": {"MLP_0": {"Dense_0": {"kernel", "bias"}}}}; E networks of an ensemble lie on the
leading axis of its arrays. Hyperparameters are read from `c` (of the critic) and `p` (of the policy) by name.
Random numbers are given. B is the batch size, A the number of action dimensions.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf


class State(NamedTuple):
    """What an agent carries; each field is a dictionary from the names of parts.

    Attributes:
        params: parameters θ.
        targets: slow averages θ̄ of some parts.
        first: Adam's first moments.
        second: Adam's second moments.
        counts: the number of gradient steps.
    """

    params: dict[str, Any]
    targets: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]
    counts: dict[str, Any]


# Learning.


def adam(state: State, name: str, gradients: Any, rate: Any) -> State:
    """Algorithm 1 of Kingma & Ba 2015, arXiv:1412.6980, with its β₁, β₂ and ε."""
    t = state.counts[name] + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state.first[name], gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, state.second[name], gradients)
    new = jax.tree.map(
        lambda w, m, v: w - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8),
        state.params[name],
        m,
        v,
    )
    return State(
        params=state.params | {name: new},
        targets=state.targets,
        first=state.first | {name: m},
        second=state.second | {name: v},
        counts=state.counts | {name: t},
    )


def descend(state: State, name: str, loss: Any, rate: Any) -> tuple[State, Any]:
    """One step of Adam on the loss of one part; the loss before the step."""
    value, gradients = jax.value_and_grad(loss)(state.params[name])
    return adam(state, name, gradients, rate), value


def average(state: State, name: str, rate: Any) -> State:
    """θ̄ ← (1 - ρ) θ̄ + ρ θ with the new θ."""
    new = jax.tree.map(
        lambda slow, new: (1 - rate) * slow + rate * new, state.targets[name], state.params[name]
    )
    return state._replace(targets=state.targets | {name: new})


# Networks.


def activated(x: Any, name: str) -> Any:
    """ReLU, or GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2)."""
    if name == "relu":
        return jnp.maximum(x, 0)
    return 0.5 * x * (1 + jnp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def dense(weights: Any, x: Any) -> Any:
    """X W + b."""
    return x @ weights["kernel"] + weights["bias"]


def normalised(weights: Any, x: Any) -> Any:
    """Layer norm (Ba et al. 2016, arXiv:1607.06450), with ε of 1e-6 in the root."""
    centred = x - x.sum(-1, keepdims=True) / x.shape[-1]
    variance = (centred**2).sum(-1, keepdims=True) / x.shape[-1]
    return weights["scale"] * centred / (variance + 1e-6) ** 0.5 + weights["bias"]


def hidden(layers: Any, x: Any, activation: str) -> Any:
    """Dense layers, each followed by its activation and then by layer norm where it has one."""
    for depth in range(sum(name.startswith("Dense") for name in layers)):
        x = activated(dense(layers[f"Dense_{depth}"], x), activation)
        if f"LayerNorm_{depth}" in layers:
            x = normalised(layers[f"LayerNorm_{depth}"], x)
    return x


def perceptron(weights: Any, activation: str, *inputs: Any) -> Any:
    """Hidden layers and a linear one, of inputs [B, D_i] side by side."""
    layers = weights.get("params", weights)
    return dense(layers["Dense_0"], hidden(layers["MLP_0"], jnp.concatenate(inputs, -1), activation))


def embedding_network(layers: Any, *inputs: Any) -> Any:
    """An embedding of each input (a normalised layer with tanh, then relu); relu layers; a linear layer."""
    embeddings = []
    for place, x in enumerate(inputs):
        x = jnp.tanh(normalised(layers[f"LayerNorm_{place}"], dense(layers[f"Dense_{2 * place}"], x)))
        embeddings.append(jnp.maximum(dense(layers[f"Dense_{2 * place + 1}"], x), 0))
    x, last = jnp.concatenate(embeddings, -1), sum(name.startswith("Dense") for name in layers) - 1
    for depth in range(2 * len(inputs), last):
        x = jnp.maximum(dense(layers[f"Dense_{depth}"], x), 0)
    return dense(layers[f"Dense_{last}"], x)


def of_ensemble(function: Any, weights: Any) -> Any:
    """function(weights of one network), for each network of an ensemble, [E, ...]."""
    return jax.vmap(function)(weights)


def q_values(weights: Any, activation: str, s: Any, a: Any) -> Any:
    """Q_i(s, a) of each network of the ensemble, [E, B]."""
    return of_ensemble(lambda one: perceptron(one["params"]["StateValue_0"], activation, s, a)[:, 0], weights)


AGGREGATIONS = {"mean": lambda values: values.mean(0), "min": lambda values: values.min(0)}
"""How the values of an ensemble [E, ...] are combined."""


def log_density(a: Any, mu: Any, log_std: Any) -> Any:
    """The logarithm of a Gaussian's density, with log σ within [-5, 2], [B]."""
    sigma = jnp.exp(jnp.minimum(jnp.maximum(log_std, -5), 2))
    return jnp.log(jnp.exp(-0.5 * ((a - mu) / sigma) ** 2) / (sigma * (2 * np.pi) ** 0.5)).sum(-1)


def q_loss(weights: Any, c: Any, batch: Any, y: Any) -> Any:
    """Σ_i E (Q_i(s, a) - y)²."""
    return ((q_values(weights, c.activation, batch.observations, batch.actions) - y) ** 2).mean(1).sum()


# Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169).


def iql_critic(state: State, batch: Any, c: Any, order: str = "paper") -> tuple[State, dict[str, Any]]:
    """Value and critic steps of algorithm 1; the target average stands after the policy's step.

    `order` names the value function that the critic's target sees: the new one, or "old value".
    """
    old_v = state.params["critic/value"]

    def value_loss(v):  # equation 5, with L of equation 4
        q = q_values(state.targets["critic/q"], c.activation, batch.observations, batch.actions)
        u = q.min(0) - perceptron(v, c.activation, batch.observations)[:, 0]
        return (abs(c.expectile - (u < 0)) * u**2).mean()

    state, v_loss = descend(state, "critic/value", value_loss, c.learning_rate)
    v = old_v if order == "old value" else state.params["critic/value"]
    next_v = perceptron(v, c.activation, batch.next_observations)[:, 0]
    y = batch.rewards + c.discount * batch.masks * next_v

    def critic_loss(q):  # equation 6, for both critics
        return q_loss(q, c, batch, y)

    state, loss = descend(state, "critic/q", critic_loss, c.learning_rate)
    return state, {"critic/q_loss": loss, "critic/value_loss": v_loss}


def iql(
    state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any, order: str = "paper"
) -> tuple[State, dict[str, Any]]:
    """One update of IQL; `order` may name one of the orders of other published programs.

    The paper's order: value; policy with the new value and the target critics; critic; target average.
    """
    del draws
    old = state
    if order == "average first":
        state = average(state, "critic/q", c.target_rate)
    targets = state.targets["critic/q"]
    state, losses = iql_critic(state, batch, c, order)
    v = (old if order == "old value" else state).params["critic/value"]
    q = state.params["critic/q"] if order == "online critic" else targets

    def policy_loss(pi):  # equation 7; weights are bounded as in the authors' program
        advantage = q_values(q, c.activation, batch.observations, batch.actions).min(0)
        advantage = advantage - perceptron(v, c.activation, batch.observations)[:, 0]
        weight = jnp.minimum(jnp.exp(p.inverse_temperature * advantage), p.weight_max)
        mu = jnp.tanh(perceptron(pi, p.activation, batch.observations))
        return -(weight * log_density(batch.actions, mu, pi["params"]["log_std"])).mean()

    rate = p.learning_rate
    if p.learning_rate_schedule == "cosine":  # to 0 at the end of the run, as in the appendix
        rate = rate * (1 + jnp.cos(np.pi * state.counts["policy"] / spec.num_updates)) / 2
    state, pi_loss = descend(state, "policy", policy_loss, rate)
    if order == "average old":
        averaged = average(old, "critic/q", c.target_rate)
        state = state._replace(targets=averaged.targets)
    elif order != "average first":
        state = average(state, "critic/q", c.target_rate)
    return state, losses | {"policy/loss": pi_loss}


# Implicit V-learning (Park et al. 2025, arXiv:2410.20092; impls/agents/gcivl.py and hiql.py there).


def goal_representations(weights: Any, activation: str, s: Any, g: Any) -> Any:
    """φ(s, g) on the sphere of radius √d, [B, d]."""
    x = perceptron(weights, activation, s, g)
    return x / (x**2).sum(-1, keepdims=True) ** 0.5 * x.shape[-1] ** 0.5


def state_values(v: Any, phi: Any, activation: str, s: Any, g: Any) -> Any:
    """V_i(s), V_i(s, g), or V_i(s, φ(s, g)), of each network of the ensemble, [E, B]."""
    weights, inputs = v["params"], [s]
    if phi is not None:
        weights, inputs = weights["network"], [s, goal_representations(phi, activation, s, g)]
    elif g is not None:
        inputs = [s, g]
    return of_ensemble(lambda one: perceptron(one, activation, *inputs)[:, 0], weights)


def ivl_loss(v: Any, phi: Any, old: State, batch: Any, c: Any) -> Any:
    """The value loss; the target network has the φ of the state before the update."""
    slow, old_phi = old.targets["critic/value"], old.params.get("critic/goal_encoder")
    next_v = state_values(slow, old_phi, c.activation, batch.next_observations, batch.goals)
    y = batch.rewards + c.discount * batch.masks * next_v
    least = batch.rewards + c.discount * batch.masks * next_v.min(0)
    u = least - state_values(slow, old_phi, c.activation, batch.observations, batch.goals).mean(0)
    predicted = state_values(v, phi, c.activation, batch.observations, batch.goals)
    return (jnp.where(u >= 0, c.expectile, 1 - c.expectile) * (y - predicted) ** 2).mean(1).sum()


def mean_values(state: State, c: Any, s: Any, g: Any) -> Any:
    """V(s, g), the mean over the ensemble, [B]."""
    phi = state.params.get("critic/goal_encoder")
    return state_values(state.params["critic/value"], phi, c.activation, s, g).mean(0)


def ivl_critic(state: State, batch: Any, c: Any, cloning: Any = None) -> tuple[State, dict[str, Any]]:
    """One step on V and φ together; the loss `cloning` of φ, if there is one, is added."""
    old = state
    names = [name for name in ("critic/value", "critic/goal_encoder") if name in state.params]

    def loss_of(new):
        phi = new.get("critic/goal_encoder")
        value_loss = ivl_loss(new["critic/value"], phi, old, batch, c)
        return value_loss + (cloning(phi) if cloning else 0)

    loss, gradients = jax.value_and_grad(loss_of)({name: state.params[name] for name in names})
    for name in names:
        state = adam(state, name, gradients[name], c.learning_rate)
    return state, {"critic/value_loss": loss}


def ivl(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """One update: the value, the policy with the new value by AWR, and the target average."""
    del draws
    state, losses = ivl_critic(state, batch, c)
    s, g = batch.observations, batch.policy_goals
    after, before = (mean_values(state, c, x, g) for x in (batch.next_observations, s))
    if not spec.goal_conditioned:
        after = batch.rewards + c.discount * batch.masks * after

    def policy_loss(pi):
        weight = jnp.minimum(jnp.exp(p.inverse_temperature * (after - before)), p.weight_max)
        mu = jnp.tanh(perceptron(pi, p.activation, *([s] if g is None else [s, g])))
        return -(weight * log_density(batch.actions, mu, pi["params"]["log_std"])).mean()

    state, pi_loss = descend(state, "policy", policy_loss, p.learning_rate)
    return average(state, "critic/value", c.target_rate), losses | {"policy/loss": pi_loss}


# Contrastive RL (Eysenbach et al. 2022, arXiv:2206.07568), with the networks of OGBench.


def contrastive_logits(weights: Any, name: str, c: Any, goals: Any, *inputs: Any) -> Any:
    """φ(x_i)ᵀ ψ(g_j) / √d of each network, [E, B, B]; V has one."""

    def product(state: Any, goal: Any) -> Any:
        phi = perceptron(state, c.activation, *inputs)
        psi = perceptron(goal, c.activation, goals)
        return (phi[:, None] * psi[None]).sum(-1) / c.latent_dim**0.5

    both = (weights[f"{name}_state"]["params"], weights[f"{name}_goal"]["params"])
    return product(*both)[None] if name == "value" else jax.vmap(product)(*both)


def contrastive_loss(f: Any, c: Any) -> Any:
    """The mean over networks of binary NCE, or of symmetric InfoNCE with its regulariser, of f [E, B, B]."""
    positive = np.eye(f.shape[-1], dtype=bool)
    if c.loss == "binary":
        probability = 1 / (1 + jnp.exp(-f))
        return -jnp.log(jnp.where(positive, probability, 1 - probability)).mean()
    rows, columns = jnp.exp(f).sum(2), jnp.exp(f).sum(1)
    own = jnp.exp((f * positive).sum(2))
    cross_entropies = -jnp.log(own / rows) - jnp.log(own / columns)
    return (cross_entropies + c.logsumexp_weight * jnp.log(rows) ** 2).mean()


def crl(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """The critic's step, then the policy's: DDPG+BC, or advantage-weighted regression if there is a V."""
    del draws, spec
    names = ["q_state", "q_goal"] + ["value_state", "value_goal"] * c.state_value
    losses = {}
    s, a, g = batch.observations, batch.actions, batch.goals

    def q_loss(weights):
        return contrastive_loss(contrastive_logits(weights, "q", c, g, s, a), c)

    def v_loss(weights):
        return contrastive_loss(contrastive_logits(weights, "value", c, g, s), c)

    weights = {name: state.params[f"critic/{name}"] for name in names}
    for name, loss in {"q": q_loss, "value": v_loss}.items() if c.state_value else [("q", q_loss)]:
        losses[f"critic/{name}_loss"], gradients = jax.value_and_grad(loss)(weights)
        for part in (f"{name}_state", f"{name}_goal"):
            state = adam(state, f"critic/{part}", gradients[part], c.learning_rate)
    weights = {name: state.params[f"critic/{name}"] for name in names}
    goals = batch.policy_goals

    def diagonal(f):
        return jnp.diagonal(f, axis1=1, axis2=2).min(0)

    def policy_loss(pi):
        mu = perceptron(pi, p.activation, s, goals)
        log_probs = log_density(a, mu, np.zeros(2))  # σ = 1
        if c.state_value:
            q = diagonal(contrastive_logits(weights, "q", c, goals, s, a))
            advantage = q - diagonal(contrastive_logits(weights, "value", c, goals, s))
            return -(jnp.minimum(jnp.exp(p.inverse_temperature * advantage), p.weight_max) * log_probs).mean()
        q = diagonal(contrastive_logits(weights, "q", c, goals, s, clip(mu)))
        return -q.mean() / jax.lax.stop_gradient(abs(q)).mean() - p.bc_weight * log_probs.mean()

    state, losses["policy/loss"] = descend(state, "policy", policy_loss, p.learning_rate)
    return state, losses


# HIQL (Park et al. 2023, arXiv:2307.11949; impls/agents/hiql.py of OGBench).


def low_level_loss(low: Any, phi: Any, state: State, batch: Any, c: Any, p: Any) -> Any:
    """Actions towards subgoals, weighted by V(s', w) - V(s, w) of a state."""
    s, w = batch.observations, batch.subgoals
    advantage = mean_values(state, c, batch.next_observations, w) - mean_values(state, c, s, w)
    weight = jnp.minimum(jnp.exp(p.low_inverse_temperature * advantage), p.weight_max)
    weights = low["params"]["network"]
    mu = jnp.tanh(perceptron(weights, p.activation, s, goal_representations(phi, c.activation, s, w)))
    return -(weight * log_density(batch.actions, mu, weights["log_std"])).mean()


def high_level_loss(high: Any, state: State, batch: Any, c: Any, p: Any) -> Any:
    """Representations of subgoals on the way to goals, weighted by V(w, g) - V(s, g) of a state."""
    s, w, g = batch.observations, batch.policy_subgoals, batch.policy_goals
    advantage = mean_values(state, c, w, g) - mean_values(state, c, s, g)
    weight = jnp.minimum(jnp.exp(p.high_inverse_temperature * advantage), p.weight_max)
    wanted = goal_representations(state.params["critic/goal_encoder"], c.activation, s, w)
    mu = perceptron(high, p.activation, s, g)
    return -(weight * log_density(wanted, mu, high["params"]["log_std"])).mean()


def hiql(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """One update: the value with the old low level, both levels with the new value, the target average."""
    del draws, spec
    old = state

    def cloning(phi):
        return low_level_loss(old.params["policy/low"], phi, old, batch, c, p)

    learnt, losses = ivl_critic(state, batch, c, cloning if c.cloning_gradient else None)
    phi = learnt.params["critic/goal_encoder"]
    state, low_loss = descend(
        learnt, "policy/low", lambda low: low_level_loss(low, phi, learnt, batch, c, p), p.learning_rate
    )
    state, high_loss = descend(
        state, "policy/high", lambda high: high_level_loss(high, learnt, batch, c, p), p.learning_rate
    )
    losses |= {"policy/low_loss": low_loss, "policy/high_loss": high_loss}
    return average(state, "critic/value", c.target_rate), losses


# Flow policies (Park, Li, Levine 2025, arXiv:2502.02538).


def clone_loss(field: Any, p: Any, s: Any, a: Any, start: Any, times: Any) -> Any:
    """Flow matching on straight lines from noise to the data's actions, a mean over dimensions."""
    points = (1 - times) * start + times * a
    return ((perceptron(field, p.activation, s, points, times) - (a - start)) ** 2).mean()


def flow_actions(field: Any, p: Any, s: Any, noise: Any) -> Any:
    """The end of K Euler steps of the field, clipped to [-1, 1]."""
    x = noise
    for k in range(p.num_steps):
        t = np.full((len(x), 1), k / p.num_steps)
        x = x + perceptron(field, p.activation, s, x, t) / p.num_steps
    return clip(x)


def clip(a: Any, size: float = 1.0) -> Any:
    """Actions within [-size, size]."""
    return jnp.where(a > size, size, jnp.where(a < -size, -size, a))


def one_step_actions(state: State, p: Any, s: Any, noise: Any) -> Any:
    """μ(s, e), clipped to [-1, 1]."""
    return clip(perceptron(state.params["policy/policy"], p.activation, s, noise))


def task_policy(weights: Any, k: int, s: Any, *noise: Any) -> Any:
    """tanh of the study's network of TD-JEPA: (s, z, e) and (s, e) are embedded apart; s has k entries."""
    parts = [jnp.concatenate([x, *noise], -1) for x in (s, s[:, :k])]
    return jnp.tanh(embedding_network(weights["params"], *parts))


def study_flow(state: State, batch: Any, draws: Any, p: Any, k: int) -> tuple[State, dict[str, Any]]:
    """The study's policy for OGBench: a field without tasks, and a one-step policy that divides Q by |Q|."""
    s, a = batch.observations, batch.actions
    wanted = flow_actions(state.params["policy/field"], p, s[:, :k], draws["noise"])

    def field_loss(field):
        return clone_loss(field, p, s[:, :k], a, draws["start"], draws["action_times"])

    def policy_loss(mu):
        actions = task_policy(mu, k, s, draws["noise"])
        q = draws["q"](s, actions)
        improvement = q.mean() / jax.lax.stop_gradient(abs(q)).mean()
        return p.bc_weight * ((actions - wanted) ** 2).mean() - improvement

    state, _ = descend(state, "policy/field", field_loss, p.field_learning_rate)
    return descend(state, "policy/policy", policy_loss, p.learning_rate)


def study_noisy(state: State, batch: Any, draws: Any, p: Any, k: int) -> tuple[State, dict[str, Any]]:
    """The study's policy for ExoRL: it climbs Q at its own action with clipped noise."""

    def loss(mu):
        actions = task_policy(mu, k, batch.observations) + clip(p.noise * draws["noise"], p.noise_max)
        # The clipped action has the gradient of the action that is not clipped.
        taken = jax.lax.stop_gradient(clip(actions) - actions) + actions
        return -draws["q"](batch.observations, taken).mean()

    return descend(state, "policy", loss, p.learning_rate)


def one_step_flow(state: State, batch: Any, draws: Any, p: Any, q_of: Any) -> tuple[State, dict[str, Any]]:
    """Equations 5 to 8: the field clones, and the one-step policy is distilled and climbs Q(s, a).

    The two losses have no parameters in common, so their sum is the loss of both.
    """
    s, a = batch.observations, batch.actions
    wanted = flow_actions(state.params["policy/field"], p, s, draws["noise"])

    def field_loss(field):
        return clone_loss(field, p, s, a, draws["start"], draws["action_times"])

    def policy_loss(mu):
        actions = perceptron(mu, p.activation, s, draws["noise"])
        distillation = ((actions - wanted) ** 2).mean()
        values = q_of(s, clip(actions))
        size = abs(jax.lax.stop_gradient(values)).mean() if p.normalize_q else 1.0
        return p.bc_weight * distillation - values.mean() / size

    state, cloning = descend(state, "policy/field", field_loss, p.learning_rate)
    state, climbing = descend(state, "policy/policy", policy_loss, p.learning_rate)
    return state, {"policy/clone_loss": cloning, "policy/loss": cloning + climbing}


def ifql(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """IQL's critic and a cloning flow, as the appendix of Park et al. describes IFQL."""
    del spec
    state, losses = iql_critic(state, batch, c)
    state = average(state, "critic/q", c.target_rate)

    def field_loss(field):
        return clone_loss(field, p, batch.observations, batch.actions, draws["start"], draws["action_times"])

    state, cloning = descend(state, "policy", field_loss, p.learning_rate)
    return state, losses | {"policy/loss": cloning}


def fql(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """Twin critics with the next actions of the one-step policy, and this policy."""
    del spec
    next_actions = one_step_actions(state, p, batch.next_observations, draws["next_noise"])
    next_q = q_values(state.targets["critic"], c.activation, batch.next_observations, next_actions)
    y = batch.rewards + c.discount * batch.masks * AGGREGATIONS[c.aggregation](next_q)

    state, loss = descend(state, "critic", lambda q: q_loss(q, c, batch, y), c.learning_rate)

    def q_of(s, a):
        return q_values(state.params["critic"], c.activation, s, a).mean(0)

    state, losses = one_step_flow(state, batch, draws, p, q_of)
    return average(state, "critic", c.target_rate), losses | {"critic/q_loss": loss}


# Implicit quantiles (Dabney et al. 2018, arXiv:1806.06923).


def quantiles(weights: Any, c: Any, s: Any, a: Any, levels: Any) -> Any:
    """Z(s, a; τ) of each network at one level of each row, [E, B]: their networks and embedding."""
    waves = jnp.stack([jnp.cos(np.pi * i * levels) for i in range(c.num_waves)], -1)

    def of_one(one):
        layers = one["params"]
        embedded = activated(dense(layers["Dense_0"], waves), c.activation)
        state = hidden(layers["MLP_0"], jnp.concatenate([s, a], -1), c.activation)
        return dense(layers["Dense_1"], hidden(layers["MLP_1"], state * embedded, c.activation))[:, 0]

    return of_ensemble(of_one, weights)


def iqn(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """Quantile Huber regression between all pairs of levels, with FQL's policy."""
    del spec
    s, a, next_s = batch.observations, batch.actions, batch.next_observations
    next_actions = one_step_actions(state, p, next_s, draws["next_noise"])
    targets = []
    for j in range(c.num_target_levels):
        ends = quantiles(state.targets["critic"], c, next_s, next_actions, draws["target_levels"][:, j])
        targets.append(batch.rewards + c.discount * batch.masks * AGGREGATIONS[c.aggregation](ends))

    def critic_loss(critic):
        total = 0.0
        for i in range(c.num_levels):
            level = draws["levels"][:, i]
            predictions = quantiles(critic, c, s, a, level)
            for target in targets:
                u = target - predictions
                huber = jnp.where(abs(u) <= c.huber, u**2 / 2, c.huber * (abs(u) - c.huber / 2))
                losses = abs(level - (u < 0)) * huber / c.huber
                total = total + losses.mean(1).sum() / c.num_target_levels
        return total

    state, loss = descend(state, "critic", critic_loss, c.learning_rate)

    def q_of(s, a):  # the mean over evenly spaced levels stands for the one over random levels
        levels = [np.full(len(s), (2 * i + 1) / (2 * c.num_read_levels)) for i in range(c.num_read_levels)]
        return jnp.stack([quantiles(state.params["critic"], c, s, a, level) for level in levels]).mean((0, 1))

    state, losses = one_step_flow(state, batch, draws, p, q_of)
    return average(state, "critic", c.target_rate), losses | {"critic/q_loss": loss}


# Flow critics (Agrawalla et al. 2025, arXiv:2509.06863).


def histogram(z: Any, low: float, high: float, c: Any) -> Any:
    """The probabilities of equal bins under a Gaussian around z [B], of σ in bins: HL-Gauss, [B, n].

    Source: Imani & White 2018, arXiv:1806.04613; the mass outside the bins is spread in proportion.
    """
    width = (high - low) / c.num_bins
    z = jnp.where(z > high, high, jnp.where(z < low, low, z))
    edges = [low + width * i for i in range(c.num_bins + 1)]
    below = [0.5 * (1 + erf((edge - z) / (c.bin_width * width) / 2**0.5)) for edge in edges]
    total = below[-1] - below[0]
    return jnp.stack([(right - left) / total for left, right in itertools.pairwise(below)], -1)


def time_embedding(t: Any, c: Any) -> Any:
    """The number cos t as in the released program, or sines and cosines with the norm `time_scale`."""
    if c.time_embedding == "cosine":
        return jnp.cos(t)[:, None]
    size = c.time_size // 2
    frequencies = [0.25 * (c.time_fastest / 0.25) ** (i / (size - 1)) for i in range(size)]
    angles = jnp.stack([2 * np.pi * frequency * t for frequency in frequencies], -1)
    return c.time_scale * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1) / size**0.5


def velocities(weights: Any, c: Any, spec: Any, s: Any, a: Any, z: Any, t: Any) -> Any:
    """v(z, t | s, a) of each plain network of two hidden layers, [E, B], from z [E, B] and t [B].

    Its inputs lie side by side.
    """
    low, high = (spec.reward_min - 0.01) / (1 - c.discount), (spec.reward_max + 0.01) / (1 - c.discount)

    def of_one(one):
        weights, z = one
        layers = weights["params"]
        kernels = [layers[name]["kernel"] for name in ("state_layer", "value_layer", "time_layer")]
        first = {"kernel": jnp.concatenate(kernels), "bias": layers["state_layer"]["bias"]}
        second = layers["hidden_layers"]["Dense_0"]
        x = jnp.concatenate([s, a, histogram(z, low, high, c), time_embedding(t, c)], -1)
        x = hidden(layers["hidden_layers"] | {"Dense_0": first, "Dense_1": second}, x, c.activation)
        return dense(layers["output_layer"], x)[:, 0]

    return of_ensemble(of_one, (weights, z))


def flow_ends(weights: Any, c: Any, spec: Any, s: Any, a: Any, z: Any) -> Any:
    """z(1) of each network after K Euler steps from z(0) [B], [E, B]."""
    z = jnp.stack([z] * c.ensemble_size)
    for k in range(c.num_steps):
        t = np.full(z.shape[1], k / c.num_steps)
        z = z + velocities(weights, c, spec, s, a, z, t) / c.num_steps
    return z


def floq(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """Targets, the field's flow matching, and the distilled critic; then FQL's policy.

    Each of the m noise draws of a transition is a row of its own, all transitions of a draw together.
    """
    size, m = len(batch.rewards), c.num_draws
    low, high = (c.coverage * reward / (1 - c.discount) for reward in (spec.reward_min, spec.reward_max))
    s, a, next_s = (
        jnp.concatenate([x] * m) for x in (batch.observations, batch.actions, batch.next_observations)
    )

    def noise(shares):
        return (low + (high - low) * shares).T.reshape(-1)

    # The TD target, an expectation over draws.
    shared = c.next_actions == "shared"
    next_noise = jnp.concatenate([draws["next_noise"][0 if shared else j] for j in range(m)])
    next_a = one_step_actions(state, p, next_s, next_noise)
    ends = flow_ends(state.targets["critic/field"], c, spec, next_s, next_a, noise(draws["target_shares"]))
    ends = ends.reshape(c.ensemble_size, m, size)
    if c.aggregation == "min_of_means":
        next_q = ends.mean(1).min(0)
    else:
        next_q = AGGREGATIONS[c.aggregation](ends).mean(0)
    y = batch.rewards + c.discount * batch.masks * next_q

    def field_loss(fields):  # summed over draws
        z, t, ys = noise(draws["shares"]), draws["times"].T.reshape(-1), jnp.concatenate([y] * m)
        points = jnp.stack([(1 - t) * z + t * ys] * c.ensemble_size)
        errors = velocities(fields, c, spec, s, a, points, t) - (ys - z)
        return (errors**2).sum() / (c.ensemble_size * size)

    state, loss = descend(state, "critic/field", field_loss, c.learning_rate)

    # Distillation from the new field.
    start = noise(draws["distilled_shares"])
    ends = flow_ends(state.params["critic/field"], c, spec, s, a, start)
    values = ends.reshape(c.ensemble_size, m, size).mean((0, 1))

    def distillation(q):
        return q_loss(q, c, batch, values) / c.ensemble_size

    state, distilled = descend(state, "critic/distilled", distillation, c.learning_rate)

    def q_of(s, a):
        return q_values(state.params["critic/distilled"], c.activation, s, a).mean(0)

    state, losses = one_step_flow(state, batch, draws, p, q_of)
    state = average(state, "critic/field", c.target_rate)
    noise_variance = (high - low) ** 2 / 12
    blind = m * noise_variance * (1 + c.discount**2 * (batch.masks**2).mean() / m)
    losses |= {
        "critic/field_loss": loss,
        "critic/field_blind_ratio": loss / blind,
        "critic/q_loss": distilled,
    }
    return state, losses


# QRL (Wang et al. 2023, arXiv:2304.01203), with the losses of agents/qrl.py of OGBench.


def union_lengths(x: Any, y: Any) -> Any:
    """The length of the union of [x_i, max(x_i, y_i)] over the last axis, in the order of the starts."""
    order = jnp.argsort(x, -1)
    starts, ends = (jnp.take_along_axis(part, order, -1) for part in (x, jnp.maximum(x, y)))
    total, reached = 0.0, starts[..., 0]
    for i in range(x.shape[-1]):
        begun = jnp.maximum(starts[..., i], reached)
        reached = jnp.maximum(ends[..., i], reached)
        total = total + jnp.maximum(reached - begun, 0)
    return total


def quasimetric(weights: Any, c: Any, x: Any, y: Any) -> Any:
    """IQE with its reduction maxmean (Wang & Isola 2022, arXiv:2211.15120), or MRN (arXiv:2208.08133)."""
    if c.quasimetric == "mrn":
        half = c.latent_dim // 2
        norm = ((x - y)[:, :half] ** 2).sum(-1) ** 0.5
        return norm + jnp.maximum((x - y)[:, half:].max(-1), 0)
    groups = [part.reshape(len(part), -1, c.group_size) for part in (x, y)]
    share = 1 / (1 + jnp.exp(-weights["params"]["alpha"]))
    lengths = union_lengths(*groups)
    return share * lengths.mean(-1) + (1 - share) * lengths.max(-1)


def qrl(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """The value, the multiplier and the dynamics by one loss; DDPG+BC with the goals of the policy."""
    del draws, spec
    names = [name for name in state.params if name.startswith("critic/")]
    s, a, next_s = batch.observations, batch.actions, batch.next_observations

    def d(params, x, y):
        return quasimetric(params["critic/distance"], c, x, y)

    def phi(params, x):
        return perceptron(params["critic/encoder"], c.activation, x)

    def after(params, x, a):
        return x + perceptron(params["critic/dynamics"], c.activation, x, a)

    def critic_loss(params):
        x, next_x = phi(params, s), phi(params, next_s)
        far = d(params, x, phi(params, batch.goals))
        apart = (c.softness * jnp.log(1 + jnp.exp((c.offset - far) / c.softness))).mean()
        excess = (jnp.maximum(d(params, x, next_x) - 1, 0) ** 2).mean()
        lam, stop = jnp.exp(params["critic/log_multiplier"]), jax.lax.stop_gradient
        value_loss = apart + excess * stop(lam) + lam * (c.margin - stop(excess))
        predicted = after(params, x, a)
        return value_loss + (d(params, next_x, predicted) + d(params, predicted, next_x)).mean() / 2

    loss, gradients = jax.value_and_grad(critic_loss)({name: state.params[name] for name in names})
    for name in names:
        state = adam(state, name, gradients[name], c.learning_rate)

    def policy_loss(pi):
        mu = perceptron(pi, p.activation, s, batch.policy_goals)
        x = after(state.params, phi(state.params, s), clip(mu))
        q = -d(state.params, x, phi(state.params, batch.policy_goals))
        log_density = (-0.5 * (a - mu) ** 2 - 0.5 * np.log(2 * np.pi)).sum(-1)
        return -q.mean() / jax.lax.stop_gradient(abs(q)).mean() - p.bc_weight * log_density.mean()

    state, climbing = descend(state, "policy", policy_loss, p.learning_rate)
    return state, {"critic/loss": loss, "policy/loss": climbing}


# ReBRAC (Tarasov et al. 2023, arXiv:2305.09836).


def rebrac(state: State, batch: Any, draws: Any, c: Any, p: Any, spec: Any) -> tuple[State, dict[str, Any]]:
    """Cloning in the policy (equation 3) and in targets (equation 4), with TD3's noise and delay.

    The noise and the delay are those of algorithm 1 of Fujimoto et al. 2018, arXiv:1802.09477.
    """
    del spec
    next_a = jnp.tanh(perceptron(state.targets["policy"], p.activation, batch.next_observations))
    next_a = clip(next_a + clip(p.target_noise * draws["next_noise"], p.target_noise_max))
    cost = p.target_weight * ((next_a - batch.next_actions) ** 2).sum(-1)
    next_q = q_values(state.targets["critic"], c.activation, batch.next_observations, next_a)
    y = batch.rewards + c.discount * batch.masks * (AGGREGATIONS[c.aggregation](next_q) - cost)
    state, loss = descend(state, "critic", lambda q: q_loss(q, c, batch, y), c.learning_rate)

    def policy_loss(pi):
        actions = jnp.tanh(perceptron(pi, p.activation, batch.observations))
        values = q_values(state.params["critic"], c.activation, batch.observations, actions)
        values = AGGREGATIONS[c.q_aggregation](values)
        cloning = ((actions - batch.actions) ** 2).sum(-1)
        size = abs(jax.lax.stop_gradient(values)).mean()
        return (p.bc_weight * cloning - values / size).mean()

    stepped, pi_loss = descend(state, "policy", policy_loss, p.learning_rate)
    stepped = average(average(stepped, "critic", c.target_rate), "policy", p.target_rate)
    due = state.counts["critic"] % p.period == 0
    state = jax.tree.map(lambda new, old: jnp.where(due, new, old), stepped, state)
    return state, {"critic/q_loss": loss, "policy/loss": jnp.where(due, pi_loss, 0.0)}


# Zero-shot critics (Bagatella et al. 2025, arXiv:2510.00739). Tasks z are given as goals of the batch. The
# policy's next actions are given too. `f` is the config of a feature learner.


def on_sphere(x: Any) -> Any:
    """x with the length √d."""
    return x.shape[-1] ** 0.5 * x / (x**2).sum(-1, keepdims=True) ** 0.5


def encoding(weights: Any, x: Any, spherical: bool = True) -> Any:
    """A dense layer with layer norm and tanh, relu layers, a linear layer; with length √d if spherical."""
    layers = weights.get("params", weights)
    last = sum(name.startswith("Dense") for name in layers) - 1
    for depth in range(last):
        x = dense(layers[f"Dense_{depth}"], x)
        x = jnp.tanh(normalised(layers["LayerNorm_0"], x)) if depth == 0 else jnp.maximum(x, 0)
    x = dense(layers[f"Dense_{last}"], x)
    return on_sphere(x) if spherical else x


def prediction(weights: Any, x: Any, a: Any, z: Any) -> Any:
    """F(x, a, z) of each network, [E, B, d]."""
    sides = jnp.concatenate([x, z], -1), jnp.concatenate([x, a], -1)
    return of_ensemble(lambda one: embedding_network(one["params"], *sides), weights)


def orthonormality(x: Any) -> Any:
    """½ mean of C_ij² over i ≠ j, minus the mean of C_ii, with C = X Xᵀ of the batch."""
    products, n = x @ x.T, len(x)
    others = (1 - np.eye(n)) * products**2
    return others.sum() / (n * (n - 1)) / 2 - jnp.trace(products) / n


def densities_loss(c: Any, f: Any, b: Any, next_f: Any, next_b: Any, masks: Any) -> Any:
    """Algorithm 1 of Touati & Ollivier 2021, arXiv:2103.07945, summed over networks."""
    total, n = 0.0, len(b)
    for one in f:
        differences = one @ b.T - c.discount * masks[:, None] * (next_f.mean(0) @ next_b.T)
        others = (1 - np.eye(n)) * differences**2
        total = total + others.sum() / (n * (n - 1)) / 2 - jnp.trace(one @ b.T) / n
    return total


def zero_shot_step(state: State, c: Any, loss: Any, features: set[str]) -> tuple[State, dict[str, Any]]:
    """A step of Adam for each part on one loss of all, with the rate of features for some; then averages."""
    value, gradients = jax.value_and_grad(loss)(state.params)
    for name in state.params:
        state = adam(
            state, name, gradients[name], c.feature_learning_rate if name in features else c.learning_rate
        )
    for name in state.params:
        state = average(state, name, c.target_rate)
    return state, {"loss": value}


def td_jepa(state: State, batch: Any, next_actions: Any, c: Any) -> tuple[State, dict[str, Any]]:
    """Both predictors of TD-JEPA, or one predictor and one encoder in the symmetric variant."""
    z, s, next_s = batch.goals, batch.observations, batch.next_observations
    roles = [("task", "task")] if c.symmetric else [("state", "task"), ("task", "state")]
    weights = {"task": c.task_orthonormality, "state": c.state_orthonormality}

    def loss(params):
        total = 0.0
        for own, other in roles:
            old = state.targets
            after = prediction(
                old[f"{other}_predictor"], encoding(old[f"{own}_encoder"], next_s), next_actions, z
            )
            y = encoding(old[f"{other}_encoder"], next_s)
            y = y + c.discount * batch.masks[:, None] * after.mean(0)
            x = encoding(params[f"{own}_encoder"], s)
            errors = prediction(params[f"{other}_predictor"], x, batch.actions, z) - y
            total = total + (errors**2).sum(-1).mean() + weights[own] * orthonormality(x)
        return total

    return zero_shot_step(state, c, loss, {"task_encoder"})


def forward_backward(state: State, batch: Any, next_actions: Any, c: Any) -> tuple[State, dict[str, Any]]:
    """F and B by the loss of densities; B also by orthonormality."""
    z, old = batch.goals, state.targets
    next_f = prediction(
        old["forward"], encoding(old["state_encoder"], batch.next_observations), next_actions, z
    )
    next_b = encoding(old["backward"], batch.next_observations)

    def loss(params):
        f = prediction(
            params["forward"], encoding(params["state_encoder"], batch.observations), batch.actions, z
        )
        b = encoding(params["backward"], batch.next_observations)
        own = densities_loss(c, f, b, next_f, next_b, batch.masks)
        return own + c.orthonormality * orthonormality(b)

    return zero_shot_step(state, c, loss, {"backward"})


def rldp_loss(params: Any, targets: Any, batch: Any, f: Any) -> Any:
    """Each predictor follows its own predictions for H steps from φ(s); targets are φ̄ of the states there."""
    x, total = encoding(params["encoder"], batch.observations), 0.0
    for e in range(f.num_predictors):
        layers, followed = jax.tree.map(lambda leaf, e=e: leaf[e], params["predictor"]["params"]), x
        for h in range(f.horizon):
            a, mask = batch.segments.actions[:, h], batch.segments.masks[:, h]
            followed = embedding_network(layers, jnp.concatenate([followed, a], -1), followed)
            y = encoding(targets["encoder"], batch.segments.observations[:, h])
            total = total + (mask * ((followed - y) ** 2).sum(-1)).mean() / f.horizon / f.num_predictors
    return total + f.orthonormality * orthonormality(x)


def successor_features(state: State, batch: Any, next_actions: Any, c: Any) -> tuple[State, dict[str, Any]]:
    """F of RLDP's features by the loss of features or of densities; features learn by RLDP's loss alone."""
    z, old = batch.goals, state.targets
    next_f = prediction(
        old["predictor"], encoding(old["state_encoder"], batch.next_observations), next_actions, z
    )
    psi = encoding(state.params["features"]["encoder"], batch.next_observations)

    def loss(params):
        f = prediction(
            params["predictor"], encoding(params["state_encoder"], batch.observations), batch.actions, z
        )
        if c.loss == "measures":
            next_psi = encoding(old["features"]["encoder"], batch.next_observations)
            own = densities_loss(c, f, psi, next_f, next_psi, batch.masks)
        else:
            y = psi + c.discount * batch.masks[:, None] * next_f.mean(0)
            own = ((f - y) ** 2).sum(-1).mean()
        return own + rldp_loss(params["features"], old["features"], batch, c.feature_learner)

    return zero_shot_step(state, c, loss, {"features"})


# Feature learners: losses of parameters θ and averages θ̄. `n` is the batch; `goals` and `intents` are given.


def laplacian_loss(theta: Any, slow: Any, n: Any, c: Any, draws: Any) -> Any:
    """S / d + 2 c Ω, with S the mean squared change of features in a step."""
    del slow, draws
    features = encoding(theta, n.observations)
    changes = ((features - encoding(theta, n.next_observations)) ** 2).sum(-1).mean()
    return changes / features.shape[-1] + 2 * c.orthonormality * orthonormality(features)


def byol_loss(theta: Any, slow: Any, n: Any, c: Any, draws: Any) -> Any:
    """The mean over predictors of E ‖P(φ(s), a) - φ̄(s⁺)‖², plus β Ω. P's network is given."""
    features = encoding(theta["encoder"], n.observations)
    ahead = encoding(slow["encoder"], n.futures if c.ahead == "geometric" else n.next_observations)
    errors = draws["predict"](theta["predictor"], features, n.actions) - ahead
    return (errors**2).sum(-1).mean() + c.orthonormality * orthonormality(features)


def hilp_loss(theta: Any, slow: Any, n: Any, c: Any, draws: Any) -> Any:
    """Expectile regression of two distances; the smaller value and the mean decide the sides."""
    goals = draws["goals"]

    def values(weights, s):
        squares = [((encoding(w, s, False) - encoding(w, goals, False)) ** 2).sum(-1) for w in weights]
        return [-(jnp.maximum(square, 1e-6) ** 0.5) for square in squares]

    theta, slow = ([weights["value_0"], weights["value_1"]] for weights in (theta, slow))
    at_goal = (n.observations == goals).all(-1)
    after = [jnp.where(at_goal, 0, -1 + c.discount * v) for v in values(slow, n.next_observations)]
    advantage = jnp.minimum(*after) - sum(values(slow, n.observations)) / 2
    side = jnp.where(advantage < 0, 1 - c.expectile, c.expectile)
    mine = values(theta, n.observations)
    return sum((side * (y - v) ** 2).mean() for y, v in zip(after, mine, strict=True))


def icvf_loss(theta: Any, slow: Any, n: Any, c: Any, draws: Any) -> Any:
    """Expectile regression of T(φ(s), ψ(z))ᵀψ(g) for each of two T."""
    goals, intents = draws["goals"], draws["intents"]

    def values(weights, s, g):
        phi = encoding(weights["state"], s)
        psi_z, psi_g = encoding(weights["features"], intents), encoding(weights["features"], g)

        def of_one(one):
            t = encoding(one["params"]["Encoder_0"], psi_z)
            mixed = (phi * t) @ one["params"]["first"]["kernel"] @ one["params"]["second"]["kernel"]
            return (mixed * t * psi_g).sum(-1)

        return of_ensemble(of_one, weights["intent"])

    def after(g):
        reached = (n.next_observations == g).all(-1)
        return jnp.where(reached, 0, -1 + c.discount * values(slow, n.next_observations, g))

    now = jax.lax.stop_gradient(values(theta, n.observations, intents)).mean(0)
    side = jnp.where(after(intents).min(0) - now < 0, 1 - c.expectile, c.expectile)
    return (side * (after(goals) - values(theta, n.observations, goals)) ** 2).mean()
