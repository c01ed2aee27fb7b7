"""A small network of all the shapes that a loader meets, its factories, and files that try to run code."""

import pickle
import sys
from pathlib import Path

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.drop(self.norm(self.conv(x)))) + x


class Small(nn.Module):
    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(1, 4, 3, stride=2), nn.Sequential(Block(), Block()), nn.Linear(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def small(seed: int = 0, outputs: int = 2) -> Small:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Small(outputs)
        for b in net.buffers():
            if b.is_floating_point():
                b.uniform_(0.5, 1.5)
    return net.eval()


class Bomb:
    """Pickled, it makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def bomb_bytes(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


FACTORY = """
from pathlib import Path
Path({mark!r}).touch()
import torch
sys_path_neighbor = __import__("{neighbor}")
from tests.loading.nets import Small, small

def make(outputs=2):
    return Small(outputs)

def shifted():
    return small(5)

class Holder:
    net = small(3)

def broken():
    raise KeyError("no config")

def wrong():
    return [1, 2]

number = 4
"""


def factory_file(folder: Path, mark: Path) -> Path:
    """A program that leaves a mark when it runs, and imports its neighbor."""
    neighbor = f"neighbor_{folder.name}"
    (folder / f"{neighbor}.py").write_text("x = 1\n")
    sys.modules.pop(neighbor, None)
    file = folder / "factory.py"
    file.write_text(FACTORY.format(mark=str(mark), neighbor=neighbor))
    return file
