r"""D-eta-N, the deep eta network (Pires et al. 2025, arXiv:2501.13028): one network for all risk levels.

The defaults are for small environments. Runs and scores:

risk_averse, risk_seeking, target, homeostasis, satisficing: the gridworlds of valuelab/distributional
    python -m experiments.studies.risk.compare_eta_network --problem=target --num_seeds=5 \
      --workdir=runs/target
    hardware: two CPU cores; five seeds. The loss in percent of what the optimum gains over random actions, at
    the worst setting and at the worst first stock:
    risk_averse: 1.4 % (0.0 to 2.8) at level 0.05, and 0.3 %
    risk_seeking: 1.9 % (1.1 to 2.9) at level 0.6, and 3.7 % (1.0 to 6.5) at stock -3.4; at most 0.5 % at
    other stocks (--episodes=2000, with a standard error of about 2 % for each seed)
    target: 2.3 % (1.4 to 3.7) at target 8, and 2.4 %
    homeostasis: 0.3 % (0.0 to 0.8) at (-6, 0), and 4.3 %
    satisficing: 4.7 % (3.8 to 5.6) at sum 9.5, at most 3.0 % at others, and 4.4 % (3.7 to 5.2); 0.9 % over
    all stocks (--episodes=200000). Without the ramp it is 8.1 % and 7.3 %
qr_dqn: distributional learning of the mean, in the gridworld risk_averse
    python -m experiments.train --agent=eta_network:qr_dqn --workdir=runs/qr_dqn
    hardware: two CPU cores. In experiments.studies.risk.compare_risk it lost 3.5, 2.0 and 1.4 of CVaR at
    levels 0.05, 0.1 and 0.25
greedy_cvar: the same, but greedy in CVaR without the stock; one run for each level
    python -m experiments.train --agent=eta_network:greedy_cvar --agent.commands=0.25 \
      --workdir=runs/greedy_cvar
    hardware: two CPU cores. In experiments.studies.risk.compare_risk it lost at most 0.13 of CVaR
cartpole: all levels of CVaR; only the first state is random
    python -m experiments.train --agent=eta_network:cartpole --num_seeds=3 --workdir=runs/cartpole
    hardware: one CPU core; 1 minute; three seeds of 20 episodes. Steps at levels 0.1, 0.5 and 1: 190 (140
    to 271), 204 (152 to 286), 192 (133 to 280); 500 steps, a discounted return of 99, are not reached. The
    dual of CVaR at the chosen stock: 28 (4 to 71), 77 (72 to 84), 81 (74 to 90). At level 0.1 it multiplies
    the error of the stock by ten, and grid stocks are 5 apart
cartpole_target: hold the pole for a given number of steps, then drop it
    python -m experiments.train --agent=eta_network:cartpole_target --num_seeds=3 \
      --workdir=runs/cartpole_target
    hardware: one CPU core; 1 minute; three seeds of 20 episodes. Steps for the targets 50, 100 and 150: 50
    (49 to 52), 101 (99 to 103), 149 (148 to 151)
lunarlander
    python -m experiments.train --agent=eta_network:lunarlander --num_seeds=3 --workdir=runs/lunarlander
    hardware: one CPU core; 7 minutes; three seeds of 20 episodes. Undiscounted returns at levels 0.25 and
    1: 77 (-21 to 159) and 90 (-25 to 194). The dual of CVaR: -48 (-67 to -31) and 45 (39 to 53)
pong: 200 atoms and DQN's network
    python -m experiments.train --agent=eta_network:pong --workdir=runs/pong
    hardware: one GPU, with 7 GB of its memory for the replay buffer; not run
pong_small
    python -m experiments.train --agent=eta_network:pong_small --workdir=runs/pong_small
    hardware: one CPU core; 72 minutes; one seed, before return distributions were interpolated between stocks
    (see CHANGELOG). After 120,000 updates and 244,000 steps, greedy games last 1,447 steps (1,266 to 2,145,
    ten games). Games with two random actions in three last 936 steps. The return is -20.1 (-21 or -18); at
    random it is -20.7 (six games). Curve: benchmarks/eta_network_pong.json
pong_first_to_3: Pong on a small board; every final score is a target
    python -m experiments.train --agent=eta_network:pong_first_to_3 --num_seeds=3 --workdir=runs/pong_first
    hardware: one CPU core; about 1 minute of CPU time for a seed. Mean scores for the targets -3, -2, -1, 1,
    2 and 3 (three runs with --seed=0, 1 and 2, 100 games each): -3.00, -2.02, -1.04, 1.09, 1.91, 2.82;
    at random -2.68. Figures: benchmarks/eta_network_pong_first_to_3.json
"""

from valuelab.agents.eta_network import EtaNetworkConfig as Config
from valuelab.agents.eta_network import eta_network as make_agent

__all__ = ["PRESETS", "Config", "make_agent"]

# Small worlds on the device itself: many environments, one update every 16 steps.
_GRIDWORLD = {
    "agent.stock_edits": 8,
    # One atom in a hundred, for the worlds' chances of a hundredth; and one wide layer, for N atoms of each
    # action must not pass through fewer features than they are.
    "agent.num_atoms": 100,
    "agent.hidden_dims": (512,),
    "agent.learning_rate": 1e-3,
    "agent.target_period": 100,
    "agent.epsilon_end": 0.2,
    "agent.epsilon_updates": 5_000,
    "interaction.num_environments": 16,
    "interaction.capacity": 100_000,
    "interaction.warmup_steps": 5_000,
    "interaction.update_to_data": 0.0625,
    "batch_size": 16,
    "steps": 24_000,
    "eval_every": 12_000,
    "eval_episodes": 200,
}

_RISK_AVERSE = {
    **_GRIDWORLD,
    "environment": "gridworld/risk_averse",
    "agent.mean_weight": 0.01,
    "agent.huber": 0.1,
    "agent.discount": 0.95,
    "agent.stock_low": -4.0,
    "agent.stock_high": 14.0,
    "agent.stock_points": 73,
}

_CLASSIC = {
    "agent.stock_edits": 4,
    "agent.num_atoms": 16,
    "agent.hidden_dims": (128, 128),
    "agent.target_period": 100,
    "agent.epsilon_updates": 4_000,
    "interaction.num_environments": 8,
    "interaction.capacity": 50_000,
    "interaction.warmup_steps": 2_000,
    "interaction.update_to_data": 0.25,
    "batch_size": 64,
    "steps": 10_000,
    "eval_every": 0,
    "eval_episodes": 20,
    "log_every": 500,
}

PRESETS = {
    "risk_averse": {**_RISK_AVERSE, "agent.commands": (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)},
    "risk_seeking": {
        **_GRIDWORLD,
        "environment": "gridworld/risk_seeking",
        "agent.mean_weight": 0.001,
        # At the lowest stocks a prize that comes once in 300 times decides.
        "agent.num_atoms": 200,
        "agent.num_targets": 50,
        # Between two points atoms are interpolated at each backup; many backups blur the distributions.
        "agent.stock_points": 289,
        # Many states with few stocks each teach more than few states with many.
        "batch_size": 128,
        "agent.stock_edits": 3,
        # Who plays on until a prize is won looks far ahead, and a copy is one backup.
        "agent.target_period": 50,
        "agent.learning_rate": 2e-3,
        "steps": 12_000,
        "agent.objective": "upper_cvar",
        "agent.discount": 0.95,
        "agent.stock_low": -16.0,
        "agent.stock_high": 20.0,
        "agent.commands": (0.1, 0.2, 0.5, 0.6, 1.0),
    },
    "target": {
        **_GRIDWORLD,
        "environment": "gridworld/target",
        "agent.objective": "target",
        "agent.discount": 1.0,
        "agent.stock_low": -21.0,
        "agent.stock_high": 20.0,
        "agent.stock_points": 42,
        "agent.commands": (-4.0, 0.0, 4.0, 8.0, 12.0),
    },
    "homeostasis": {
        **_GRIDWORLD,
        "environment": "gridworld/homeostasis",
        "agent.objective": "homeostatic",
        "agent.num_atoms": 32,
        "agent.learning_rate": 2e-3,
        "steps": 40_000,
        "agent.discount": 1.0,
        "agent.stock_low": -12.0,
        "agent.stock_high": 14.0,
        "agent.stock_points": 27,
        "agent.commands": (-4.0, -4.0, -8.0, 4.0, 4.0, -8.0, -6.0, 0.0),
    },
    "satisficing": {
        **_GRIDWORLD,
        "environment": "gridworld/satisficing",
        "agent.objective": "satisficing",
        "agent.jump_width": 1.0,
        "agent.mean_weight": 1e-4,
        "agent.learning_rate": 2e-3,
        "steps": 40_000,
        "agent.discount": 1.0,
        "agent.stock_low": -20.5,
        "agent.stock_high": 0.5,
        "agent.stock_points": 22,
        # Rewards are whole numbers: from 0.5 below what is wanted, small errors of the network do not count.
        "agent.commands": (7.5, 9.5, 11.5, 15.5, 19.5),
    },
    "qr_dqn": {
        **_RISK_AVERSE,
        "agent.objective": "expectation",
        "agent.mean_weight": 0.0,
        "agent.augmented": False,
        "agent.stock_edits": 1,
    },
    "greedy_cvar": {
        **_RISK_AVERSE,
        "agent.mean_weight": 0.0,
        "agent.augmented": False,
        "agent.stock_edits": 1,
        "agent.commands": (0.25,),
    },
    # Episodes of up to 500 steps of reward 1; with this discount their return is at most 100.
    "cartpole": {
        **_CLASSIC,
        "environment": "gymnasium/CartPole-v1",
        "agent.mean_weight": 0.01,
        "agent.discount": 0.99,
        "agent.stock_low": -100.0,
        "agent.stock_high": 0.0,
        "agent.stock_points": 21,
        "agent.commands": (0.1, 0.5, 1.0),
    },
    # Not discounted, a target is a number of steps: the pole is to fall neither before nor after.
    "cartpole_target": {
        **_CLASSIC,
        "environment": "gymnasium/CartPole-v1",
        "agent.objective": "target",
        "agent.discount": 1.0,
        "agent.stock_low": -150.0,
        "agent.stock_high": 10.0,
        "agent.stock_points": 33,
        "agent.commands": (50.0, 100.0, 150.0),
        # 150 steps ahead are 150 copies.
        "agent.target_period": 30,
        "steps": 15_000,
    },
    "lunarlander": {
        **_CLASSIC,
        "environment": "gymnasium/LunarLander-v3",
        "agent.mean_weight": 0.01,
        "agent.discount": 0.99,
        "agent.stock_low": -300.0,
        "agent.stock_high": 300.0,
        "agent.stock_points": 61,
        "agent.commands": (0.25, 1.0),
        "interaction.update_to_data": 0.125,
        "interaction.capacity": 100_000,
        "steps": 20_000,
    },
    # DQN's torso and 200 atoms; every final score, from -21 to 21, is a target, so nothing is discounted.
    "pong": {
        "environment": "atari/pong",
        "agent.objective": "target",
        "agent.commands": (-20.0, -10.0, 0.0, 10.0, 20.0),
        "agent.stock_low": -21.0,
        "agent.stock_high": 21.0,
        "agent.stock_points": 43,
        "agent.stock_edits": 1,
        "agent.num_atoms": 200,
        "agent.hidden_dims": (512,),
        "agent.huber": 1.0,
        "agent.discount": 1.0,
        "agent.learning_rate": 1e-4,
        "agent.target_period": 2_500,
        "agent.epsilon_end": 0.01,
        "agent.epsilon_updates": 62_500,
        "interaction.num_environments": 16,
        "interaction.capacity": 1_000_000,
        "interaction.warmup_steps": 50_000,
        "interaction.update_to_data": 0.25,
        "batch_size": 32,
        "steps": 5_000_000,
        "eval_every": 250_000,
        "eval_episodes": 10,
    },
    # For two CPU cores: few atoms, a narrow layer, a discount with which the next point decides, and the mean
    # alone for an objective: to lose on purpose, as targets below -1 ask for, would take half of the data.
    "pong_small": {
        "environment": "atari/pong",
        "agent.objective": "expectation",
        "agent.stock_low": -2.0,
        "agent.stock_high": 1.0,
        "agent.stock_points": 31,
        "agent.stock_edits": 1,
        "agent.num_atoms": 16,
        "agent.hidden_dims": (128,),
        "agent.huber": 1.0,
        "agent.discount": 0.97,
        "agent.learning_rate": 3e-4,
        "agent.target_period": 200,
        "agent.epsilon_updates": 15_000,
        "agent.epsilon_end": 0.02,
        "interaction.num_environments": 8,
        "interaction.capacity": 100_000,
        "interaction.warmup_steps": 4_000,
        "interaction.update_to_data": 0.5,
        "batch_size": 32,
        "steps": 120_000,
        "eval_every": 0,
        "eval_episodes": 10,
        "checkpoint_every": 5_000,
    },
    # Every final score is a target. The stock does not tell how many points are left: observations hold the
    # points of both sides.
    "pong_first_to_3": {
        **_CLASSIC,
        "environment": "pong/first_to_3",
        "agent.objective": "target",
        "agent.commands": (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0),
        "agent.stock_low": -3.0,
        "agent.stock_high": 3.0,
        "agent.stock_points": 7,
        "agent.num_atoms": 8,
        "agent.hidden_dims": (128, 64),
        "agent.discount": 1.0,
        "agent.target_period": 50,
        "interaction.capacity": 200_000,
        "interaction.num_environments": 16,
        "batch_size": 64,
        "steps": 40_000,
        "eval_episodes": 100,
    },
}
