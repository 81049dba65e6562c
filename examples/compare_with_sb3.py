"""GRASPAgent (from pixels) and a stable-baselines3 policy (from the simulator's state) on the same episodes.

    python examples/compare_with_sb3.py --episodes 20 --policy path/to/your_policy.zip --trust

Any algorithm's .zip will do: the environment is made with the observation that the policy was trained on. Such a file
can run any code when it is loaded, so give --trust only if you know who made it. The table gives success with Wilson
intervals and the paired difference to the first entrant.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
from rich.console import Console

from grasp_agent import GRASPAgent, load_world_model
from grasp_agent.evaluation import evaluate, results_table

ENV = "grasp_envs:grasp_envs/PushTReach-v0"
SHIPPED = Path(str(files("grasp_agent"))) / "pretrained" / "sac_her_pusht_reach" / "model.zip"

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="pusht", help="world model: a shipped name, a folder or a hub id")
parser.add_argument("--policy", type=Path, default=SHIPPED, help="stable-baselines3 .zip")
parser.add_argument("--trust", action="store_true", help="load the .zip although it can run any code")
parser.add_argument("--episodes", type=int, default=20)
parser.add_argument("--seed", type=int, default=10_000, help="the first episode")
parser.add_argument("--goal-horizon", type=int, default=25, help="expert steps from start to goal")
parser.add_argument("--out", type=Path, default=None, help="folder for results.csv and results.json")
args = parser.parse_args()

agent = GRASPAgent(load_world_model(args.model), gym.make(ENV).action_space)
results = evaluate(
    {"grasp": agent, "sac+her": args.policy, "random": "random"},
    ENV,
    range(args.seed, args.seed + args.episodes),
    env_kwargs={"goal_horizon": args.goal_horizon},
    out=args.out,
    trust=args.trust,
)
Console().print(results_table(results))
