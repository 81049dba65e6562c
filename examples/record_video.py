"""Film GRASPAgent beside another planner on the same world model, with the goal on every frame.

python examples/record_video.py --out runs/grasp_and_cem.mp4
"""

import argparse
from pathlib import Path

import gymnasium as gym

from grasp_agent import GRASPAgent, MPCAgent, load_world_model
from grasp_agent.evaluation import record_video
from grasp_agent.planning import CEM

ENV = "grasp_envs:grasp_envs/PushTReach-v0"

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="pusht", help="world model: a shipped name, a folder or a hub id")
parser.add_argument("--seed", type=int, default=0, help="the first episode")
parser.add_argument("--episodes", type=int, default=2)
parser.add_argument("--goal-horizon", type=int, default=25, help="expert steps from start to goal")
parser.add_argument("--out", type=Path, default=Path("runs/grasp_and_cem.mp4"), help=".mp4 or .gif")
args = parser.parse_args()

model = load_world_model(args.model)
actions = gym.make(ENV).action_space
args.out.parent.mkdir(parents=True, exist_ok=True)
rows = record_video(
    {"GRASP": GRASPAgent(model, actions), "CEM": MPCAgent(model, actions, CEM())},
    ENV,
    range(args.seed, args.seed + args.episodes),
    args.out,
    env_kwargs={"goal_horizon": args.goal_horizon},
)
for row in rows:
    print(f"episode {row.episode}  {row.entrant:5s}  {'success' if row.success else 'no success'}")
print(f"wrote {args.out}")
