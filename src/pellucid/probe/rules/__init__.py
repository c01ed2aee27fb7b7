"""Rules on primitive operations: what stands for each operation of a network in the backward pass of a method."""

from pellucid.probe.rules.mode import RuleMode as RuleMode
from pellucid.probe.rules.mode import Rules as Rules
from pellucid.probe.rules.operation import Operation as Operation
