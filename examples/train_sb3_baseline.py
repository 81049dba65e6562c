"""Train a stable-baselines3 baseline: SAC + HER on a goal environment, from the simulator's state.

    python examples/train_sb3_baseline.py --steps 1000000 --out runs/sb3_baseline
    python examples/train_sb3_baseline.py --env grasp_envs:grasp_envs/Wall-v0 --env-arg success=strict --steps 100000

Each checkpoint plays validation seeds 20000, 20001, ...; `log.csv` lists the results, `best.zip` had the most
successes. A stopped run goes on from its last checkpoint.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env

from grasp_agent.cli.options import named_values
from grasp_agent.evaluation import evaluate
from grasp_envs.pusht_features import PushTReachFeatures

ENV = "grasp_envs:grasp_envs/PushTReach-v0"


def publish(model: SAC, path: Path) -> None:
    """Save what it takes to act: no replay buffer (nor the need for one on loading), no optimiser state."""
    model.replay_buffer_class, model.replay_buffer_kwargs, model.buffer_size = None, {}, 1
    assert model.ent_coef_optimizer is not None  # the entropy coefficient is learned here
    for optimizer in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):
        optimizer.state.clear()
    replace(path, model.save)


def replace(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write a file that appears whole or not at all."""
    unfinished = path.with_stem(f"{path.stem}_unfinished")
    save(unfinished)
    unfinished.replace(path)


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps")
parser.add_argument("--every", type=int, default=40_000, help="steps from one checkpoint to the next")
parser.add_argument("--episodes", type=int, default=100, help="validation episodes")
parser.add_argument("--hours", type=float, default=3.0, help="no new stretch of training after this time")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("runs/sb3_baseline"))
parser.add_argument("--env", default=ENV, help="a goal environment whose observations are vectors")
parser.add_argument("--env-arg", action="append", default=[], help="an argument of it, NAME=VALUE; repeatable")
args = parser.parse_args()
env_kwargs = named_values("--env-arg", args.env_arg, "success=strict")

torch.set_num_threads(1)
args.out.mkdir(parents=True, exist_ok=True)
last, replay, log = args.out / "last.zip", args.out / "replay.pkl", args.out / "log.csv"
end = time.monotonic() + 3600 * args.hours
env = make_vec_env(args.env, 16, seed=args.seed, env_kwargs=env_kwargs)
if last.exists():
    model = SAC.load(last, env)
    model.load_replay_buffer(replay)
    env.seed(args.seed + model.num_timesteps)
else:
    policy: dict[str, Any] = {"net_arch": [256, 256]}
    if args.env == ENV:
        policy["features_extractor_class"] = PushTReachFeatures
    options: dict[str, Any] = {"learning_rate": 5e-4, "gamma": 0.95, "tau": 0.01, "gradient_steps": 4}
    options |= {"ent_coef": "auto_0.1", "learning_starts": 5_000}
    options |= {"replay_buffer_class": HerReplayBuffer, "buffer_size": 500_000}
    log.write_text("steps,updates,success\n")
    model = SAC("MultiInputPolicy", env, policy_kwargs=policy, seed=args.seed, device="cpu", **options)

with Progress() as progress:
    bar = progress.add_task("SAC + HER", total=args.steps)

    def show(now: dict[str, Any], _: dict[str, Any]) -> bool:
        progress.update(bar, completed=now["self"].num_timesteps)
        return True

    while model.num_timesteps < args.steps and time.monotonic() < end:
        stretch = min(args.every, args.steps - model.num_timesteps)
        model.learn(stretch, show, reset_num_timesteps=False)
        seeds = range(20_000, 20_000 + args.episodes)
        rows = evaluate({"sac": model}, args.env, seeds, env_kwargs=env_kwargs, progress=False).rows
        success = sum(bool(row.success) for row in rows) / args.episodes
        best = max((float(line.split(",")[2]) for line in log.read_text().splitlines()[1:]), default=-1.0)
        replace(replay, model.save_replay_buffer)
        replace(last, model.save)
        if success > best:
            publish(SAC.load(last, env), args.out / "best.zip")
        with log.open("a") as file:
            file.write(f"{model.num_timesteps},{model._n_updates},{success}\n")
