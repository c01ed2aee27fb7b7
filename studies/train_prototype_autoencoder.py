"""Train the autoencoder that ships as a prior for pictures: python studies/train_prototype_autoencoder.py chest

Every choice is fixed here, so a second run on the same machine gives the same weights. A code's numbers are principal components, in closed form; three
convolutions learn to mend what they add up to, with a little noise on the code.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import torch
from safetensors.torch import save_file
from torch import Tensor

from pellucid.phantoms import cases
from pellucid.phantoms.nets import code_hash as drawing_hash
from pellucid.prototypes.autoencoder import PLANS, WEIGHTS, Autoencoder, build

TRAIN_SEED, HELD_OUT_SEED = 1, 2
PLAN = {"chest": (700, 100, 8, 32, 3e-3, 0.1)}  # cases for training, held out, epochs, batch, learning rate, noise on the code


def draw(name: str, n: int, seed: int) -> Tensor:
    """Images (n, c, *space)."""
    return torch.stack([case.image.values for case in cases(name, n, seed)])


@torch.no_grad()
def told(net: Autoencoder, x: Tensor, mean: Tensor) -> dict[str, float]:
    """Root mean square error, and the share of the variance about the mean image that is redrawn."""
    net.eval()
    error = torch.cat([net(part) - part for part in x.split(50)]).square().mean()
    return {"rmse": round(float(error.sqrt()), 4), "explained": round(float(1 - error / (x - mean).square().mean()), 4)}


@torch.no_grad()
def components(net: Autoencoder, small: Tensor) -> None:
    """Mean and principal components of images (n, c, *space), in closed form."""
    net.mean.copy_(small.mean(0))
    _, sizes, shapes = torch.linalg.svd((small - net.mean).flatten(1).double(), full_matrices=False)
    side = torch.where(shapes[: net.numbers].sum(1) < 0, -1.0, 1.0)  # a component and its negative are one: brighter counts up
    net.shapes.copy_((shapes[: net.numbers] * side[:, None]).view_as(net.shapes))
    net.spread.copy_(sizes[: net.numbers] / (len(small) - 1) ** 0.5)
    net.mend[-1].weight.zero_()  # nothing is mended at first
    net.mend[-1].bias.zero_()


def train(name: str) -> None:
    """Draw, train, measure, write ``weights/<name>.safetensors`` (half precision) and ``.json``."""
    began = time.process_time()
    torch.set_num_threads(1)
    count, held, epochs, batch, rate, noise = PLAN[name]
    x, xv = draw(name, count, TRAIN_SEED), draw(name, held, HELD_OUT_SEED)
    print(f"drawn in {time.process_time() - began:.0f} s", flush=True)
    net, mean, small = build(name), x.mean(0), torch.nn.functional.avg_pool2d(x, 2)
    components(net, small)
    print("components", told(net, xv, mean), f"{time.process_time() - began:.0f} s", flush=True)
    optimizer = torch.optim.Adam(net.mend.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * (count // batch), pct_start=0.15)
    g, codes = torch.Generator().manual_seed(0), net.encode(x)
    for epoch in range(epochs):
        net.train()
        for rows in torch.randperm(count, generator=g).split(batch):
            if len(rows) < batch:
                continue
            code = codes[rows] + noise * torch.randn(codes[rows].shape, generator=g)
            loss = (net.drawn(code) - small[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(epoch + 1, told(net, xv, mean), f"{time.process_time() - began:.0f} s", flush=True)
    WEIGHTS.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, WEIGHTS / f"{name}.safetensors")
    net.load_state_dict({k: v.half().float() for k, v in net.state_dict().items()})
    facts = {
        "name": name,
        "held_out": told(net, xv, mean),
        "parameters": sum(p.numel() for p in net.parameters()),
        "input": list(x.shape[1:]),
        "code": PLANS[name][2],
        "cases": {"train": count, "train_seed": TRAIN_SEED, "held_out": held, "held_out_seed": HELD_OUT_SEED},
        "training": {
            "script": "studies/train_prototype_autoencoder.py", "seed": 0, "epochs": epochs, "batch": batch, "rate": rate, "noise": noise,
        },
        "code_hash": drawing_hash(name),
        "seconds": round(time.process_time() - began),
        "machine": f"{platform.machine()} CPU, 1 thread, torch {torch.__version__}",
    }  # fmt: skip
    (WEIGHTS / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(facts["held_out"], facts["seconds"], "s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=PLAN)
    for chosen in parser.parse_args().names:
        train(chosen)
