"""GRASPAgent in a plain Gymnasium loop: Push-T from pixels, towards a goal picture.

python examples/quickstart.py --seed 3
"""

import argparse

import gymnasium as gym

from grasp_agent import GRASPAgent, load_world_model

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="pusht", help="world model: a shipped name, a folder or a hub id")
parser.add_argument("--seed", type=int, default=0, help="which episode")
parser.add_argument("--goal-horizon", type=int, default=25, help="expert steps from start to goal")
args = parser.parse_args()

model = load_world_model(args.model)
env = gym.make(
    "grasp_envs:grasp_envs/PushTReach-v0",
    obs_type="pixels",
    resolution=model.image_size,
    goal_horizon=args.goal_horizon,
)
agent = GRASPAgent(model, env.action_space)

observation, info = env.reset(seed=args.seed)
agent.reset()
terminated = truncated = False
steps = 0
while not (terminated or truncated or info["is_success"]):
    action = agent.act(observation)  # sees observation["pixels"] and observation["goal"], nothing else
    observation, reward, terminated, truncated, info = env.step(action)
    steps += 1
    assert agent.diagnostics is not None  # there are some after every decision
    cost, seconds = agent.diagnostics.plan_cost.item(), agent.diagnostics.seconds
    print(f"step {steps:2d}  plan cost {cost:8.3f}  {seconds:.3f} s")
print(f"{'reached the goal' if info['is_success'] else 'did not reach the goal'} in {steps} steps")
env.close()
