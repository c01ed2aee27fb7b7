"""Train the phantom networks that ship with the package: python studies/train_phantom_nets.py fundus_dme|fundus_dr|chest|brain_atrophy|spectrogram

Every choice is fixed here, so a second run on the same machine gives the same weights. What keeps the networks on the causal signal:
shortcut, distractor and suppressor are present by coins that know nothing of the label; blocks outside the lesions are erased at random
with several fills, so that holes mean nothing; and an image whose lesions are erased counts as one without.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from pellucid.phantoms import cases
from pellucid.phantoms.nets import CLASSES, WEIGHTS, build, code_hash

TRAIN_SEED, HELD_OUT_SEED = 1, 2
PLAN = {  # cases for training, held out, epochs, batch, learning rate
    "fundus_dme": (1600, 400, 12, 32, 2e-3),
    "fundus_dr": (2000, 500, 20, 32, 2e-3),
    "chest": (2000, 400, 16, 32, 2e-3),
    "brain_atrophy": (480, 200, 12, 16, 2e-3),
    "spectrogram": (1600, 400, 12, 32, 3e-3),
}
SEVERAL = {"chest", "spectrogram"}  # labels that do not exclude each other
TURNS = {"fundus": (-1, -2), "chest": (-1, -2), "brain": (-3,), "spectrogram": ()}  # axes along which a mirrored case is as good a case
LABEL = {"fundus_dme": ("dme",), "fundus_dr": ("stage",), "brain_atrophy": ("atrophy",)} | {name: CLASSES[name] for name in sorted(SEVERAL)}


def draw(name: str, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, c, *space) in half precision, causal masks (n, 1, *space), labels (n, k)."""
    confounded = name.endswith("_confounded")
    kind = name.removesuffix("_confounded")
    images, masks, labels = [], [], []
    for case in cases(kind, n, seed, confounding=0.95 if confounded and seed == TRAIN_SEED else 0.0):
        images.append(case.image.values.half())
        masks.append(case.masks["causal"][None])
        labels.append([case.labels[key] for key in LABEL[kind]])
    return torch.stack(images), torch.stack(masks), torch.tensor(labels)


def fills(x: Tensor, choice: Tensor) -> Tensor:
    """What is laid over erased samples: black, the image's mean, or its blur, by ``choice`` (n,)."""
    blurred = x
    for axis in range(2, x.ndim):  # one axis at a time: the same mean over a box, far cheaper in 3D
        lines = blurred.movedim(axis, -1)
        blurred = F.avg_pool1d(lines.flatten(0, -2)[:, None], 9, 1, 4, count_include_pad=False).view(lines.shape).movedim(-1, axis)
    mean = x.flatten(2).mean(2).view(*x.shape[:2], *[1] * (x.ndim - 2)).expand_as(x)
    pick = choice.view(-1, *[1] * (x.ndim - 1))
    return torch.where(pick == 0, torch.zeros_like(x), torch.where(pick == 1, mean, blurred))


def empty(name: str) -> Tensor:
    """The labels of a case whose lesions (or sources) are erased: all 0, but silence 1."""
    return torch.tensor([int(key == "silence") for key in LABEL[name]])


def augment(name: str, x: Tensor, mask: Tensor, y: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flips, brightness, noise, erased blocks outside the lesions, and now and then erased lesions (labelled as none) or no picture at all."""
    n, space = len(x), x.ndim - 2
    coin = lambda p: (torch.rand(n, generator=g) < p).view(-1, *[1] * (space + 1))  # noqa: E731
    for axis in TURNS[name.split("_")[0]]:
        turn = coin(0.5)
        x, mask = torch.where(turn, x.flip(axis), x), torch.where(turn, mask.flip(axis), mask)
    grow = F.max_pool2d if space == 2 else F.max_pool3d
    lesion = grow(grow(mask.float(), 3, 1, 1), 3, 1, 1) > 0
    cell = (4, 8, 16)[int(torch.randint(3, (), generator=g))]
    share = torch.rand(n, generator=g).view(-1, *[1] * (space + 1)) * 0.7
    coarse = torch.rand(n, 1, *[s // cell for s in x.shape[2:]], generator=g)
    holes = F.interpolate(coarse, x.shape[2:]) < share
    filled = fills(x, torch.randint(3, (n,), generator=g))
    x = torch.where(holes & ~lesion & coin(0.5), filled, x)
    healed = coin(0.15)
    other = lesion[torch.randperm(n, generator=g)]  # holes of a lesion's shape, elsewhere and in healthy images too
    x = torch.where((lesion | other) & healed, filled, x)
    blank = coin(0.03)
    x = torch.where(blank, filled.flatten(2).mean(2).view(n, -1, *[1] * space) * torch.ones_like(x), x)
    y = torch.where((healed | blank).view(-1, 1), empty(name), y)
    gain = 1 + 0.15 * (2 * torch.rand(n, generator=g) - 1).view(-1, *[1] * (space + 1))
    x = x * gain + 0.03 * torch.rand(n, generator=g).view(-1, *[1] * (space + 1)) * torch.randn(x.shape, generator=g)
    return x, y


def loss_of(logits: Tensor, y: Tensor) -> Tensor:
    """Cross entropy (or binary, for several labels) with smoothed labels, so that logits do not saturate."""
    if y.shape[1] > 1:
        return F.binary_cross_entropy_with_logits(logits, 0.05 + 0.9 * y.float())
    return F.cross_entropy(logits, y[:, 0], label_smoothing=0.08)


def auc(score: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve by ranks (ties counted half)."""
    a, b = score[positive], score[~positive]
    return float(((a[:, None] > b).float() + 0.5 * (a[:, None] == b).float()).mean())


@torch.no_grad()
def held_out(net: nn.Module, x: Tensor, y: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    """AUC per class, one against the rest."""
    net.eval()
    logits = torch.cat([net(part.float()) for part in x.split(64)])
    if y.shape[1] > 1:
        return {c: round(auc(logits[:, k], y[:, k] == 1), 4) for k, c in enumerate(classes)}
    p = logits.softmax(1)
    return {c: round(auc(p[:, k], y[:, 0] == k), 4) for k, c in enumerate(classes)}


def train(name: str) -> None:
    """Draw, train, measure, write ``weights/<name>.safetensors`` and ``.json``."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    count, held, epochs, batch, rate = PLAN[name]
    x, mask, y = draw(name, count, TRAIN_SEED)
    xv, _, yv = draw(name, held, HELD_OUT_SEED)
    drawn = time.perf_counter()
    print(f"{name}: {count} + {held} phantoms in {drawn - began:.0f} s", flush=True)
    net = build(name, seed=0)
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=2e-3)
    steps = epochs * (count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    g = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        net.train()
        total = 0.0
        for rows in torch.randperm(count, generator=g).split(batch):
            if len(rows) < batch:
                continue
            xb, yb = augment(name, x[rows].float(), mask[rows], y[rows], g)
            optimizer.zero_grad()
            loss = loss_of(net(xb), yb)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if epoch % 2 == 1 or epoch == epochs - 1:
            print(epoch + 1, round(total / (count // batch), 4), held_out(net, xv[:200], yv[:200], CLASSES[name]), flush=True)
    facts = {
        "name": name,
        "auc": held_out(net, xv, yv, CLASSES[name]),
        "classes": list(CLASSES[name]),
        **({"output": "multi-label"} if name in SEVERAL else {}),
        "parameters": sum(p.numel() for p in net.parameters()),
        "input": list(x.shape[1:]),
        "cases": {"train": count, "train_seed": TRAIN_SEED, "held_out": held, "held_out_seed": HELD_OUT_SEED},
        "training": {"script": "studies/train_phantom_nets.py", "seed": 0, "epochs": epochs, "batch": batch, "rate": rate},
        "code_hash": code_hash(name),
        "seconds": round(time.perf_counter() - began),
        "machine": f"{platform.machine()} CPU, 1 thread, torch {torch.__version__}",
    }
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, WEIGHTS / f"{name}.safetensors")
    (WEIGHTS / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(facts["auc"], facts["seconds"], "s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=PLAN)
    for chosen in parser.parse_args().names:
        train(chosen)
