"""Planning by foreseen rewards beside reinforcement learning that has seen as many environment steps.

    python examples/plan_by_reward.py --env CartPole-v1 --algorithm PPO --out runs/cartpole
    python examples/plan_by_reward.py --env Pendulum-v1 --algorithm SAC --out runs/pendulum

A world model learns from random actions what comes next and what it earns, and GRASPAgent plans with it. The policy of
stable-baselines3 learns from its own actions. Both have --steps steps. A stopped run goes on where it was.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import stable_baselines3
from rich.console import Console

from grasp_agent import GRASPAgent, load_world_model
from grasp_agent.data import CollectSettings, EpisodeDataset, collect
from grasp_agent.evaluation import evaluate, results_table
from grasp_agent.files.progress import progress_bars
from grasp_agent.objectives import Rewards
from grasp_agent.planning import GRASP
from grasp_agent.training import make_recipe, train

parser = argparse.ArgumentParser()
parser.add_argument("--env", default="CartPole-v1", help="an environment with vector observations")
parser.add_argument("--algorithm", default="PPO", choices=("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"))
parser.add_argument("--steps", type=int, default=10_000, help="environment steps that both learn from")
parser.add_argument("--training-steps", type=int, help="of each of the model's networks; default: the recipe's")
parser.add_argument("--episodes", type=int, default=20)
parser.add_argument("--seed", type=int, default=10_000, help="the first episode")
parser.add_argument("--batch", type=int, default=20, help="episodes planned side by side")
parser.add_argument("--horizon", type=int, help="steps that plans span; default: the agent's")
parser.add_argument("--out", type=Path, default=Path("runs/plan_by_reward"))
args = parser.parse_args()

settings = CollectSettings((args.env,), args.steps, policy="random", episode_length=1_000, shard_steps=args.steps)
data = EpisodeDataset(collect(settings, args.out / "data", workers=1))
steps = {stage: args.training_steps for stage in ("dynamics", "proposal", "outcomes") if args.training_steps}
with progress_bars(Console()) as show:
    train(
        data,
        make_recipe("vector", data, steps),
        args.out / "train",
        on_log=lambda stage, step, steps, terms: show(stage, step, steps, f"loss {terms['loss']:.3g}"),
    )
policy = args.out / "policy.zip"
if not policy.exists():
    learner = getattr(stable_baselines3, args.algorithm)("MlpPolicy", args.env, seed=0, device="cpu")
    learner.learn(args.steps, progress_bar=True)
    unfinished = policy.with_stem("unfinished")
    learner.save(unfinished)
    os.replace(unfinished, policy)

model: Any = load_world_model(args.out / "train" / "model")
objective = Rewards(model)
env = gym.make(args.env)
agent = GRASPAgent(
    model, env.action_space, GRASP.for_model(model, objective), objective=objective, horizon=args.horizon
)
results = evaluate(
    {"grasp": agent, args.algorithm.lower(): policy, "random": "random"},
    args.env,
    range(args.seed, args.seed + args.episodes),
    out=args.out / "results",
    batch=args.batch,
    trust=True,  # the policy was made above
)
Console().print(results_table(results))
