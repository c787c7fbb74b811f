"""The GPUs that a node offers, and the variables by which a task sees its own alone."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from manyhands_shared.errors import ConfigError

#: What lists the GPUs that a process may use. On AMD the first narrows what the others count from 0.
_CUDA, _ROCR, _HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
#: The compute devices of AMD's driver and of NVIDIA's.
_AMD_DRIVER, _NVIDIA_DRIVER = Path("/dev/kfd"), Path("/dev/nvidiactl")

#: What to do where NVML has no GPU.
_CURE = "install the driver"


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs of a node.

    - `offered`: what tasks may take of each, by the name that it has in those variables.
    - `amd`: they are AMD's.
    - `told`: one line for people; empty where there is nothing to tell.
    """

    offered: Mapping[str, float] = field(default_factory=dict)
    amd: bool = False
    told: str = ""

    def variables(self, names: Sequence[str]) -> dict[str, str]:
        """Return the variables with which a process sees these GPUs and no others."""
        listed = ",".join(names)
        if not self.amd:
            return {_CUDA: listed, _ROCR: listed}
        counted = ",".join(map(str, range(len(names))))
        return {_ROCR: listed, _HIP: counted, _CUDA: counted}


#: Of a node that offers none.
NO_GPUS = Gpus()


def find(amount: float | None) -> Gpus:
    """Return the GPUs of a node that offers this amount of them; None: as many as are found.

    A list in the node's own variables always counts, for the node may be allowed some of the GPUs alone.

    Raises:
        ConfigError: it offers more than the list has.
    """
    amd = _is_amd()
    name, listed = _listed(amd=amd)
    if amount is None:
        return _found(name, listed, amd=amd)
    count = math.ceil(amount)
    if listed is None:
        listed = list(map(str, range(count)))
    elif len(listed) < count:
        raise ConfigError(
            f"resources: gpu={amount:g}, but {name} lists {len(listed)}; write gpu=auto, or unset {name}"
        )
    offered = {listed[at]: min(1.0, amount - at) for at in range(count)}
    return Gpus(offered, amd)


def _found(name: str, listed: list[str] | None, *, amd: bool) -> Gpus:
    kinds, (what, cure) = _nvml()
    if listed is None and not kinds:
        todo = f"{name} is not set; {cure} or write gpu=N"
        return Gpus(told=f"gpu=auto: no GPU found: {what}, and {todo}")
    if listed is None:
        listed = list(map(str, range(len(kinds))))
    elif kinds:
        # As CUDA reads it: what follows a number that is none is left out.
        wrong = [at for at, one in enumerate(listed) if one.isdigit() and int(one) >= len(kinds)]
        listed = listed[: wrong[0]] if wrong else listed
    if not listed:
        return Gpus(told=f"gpu=auto: no GPU found: {name} lists none that is here")
    words = [f"{one} {kinds[int(one)]}" if one.isdigit() and kinds else one for one in listed]
    source = "NVML" if kinds else name
    told = f"gpu=auto: {len(listed)} by {source}: {', '.join(words)}"
    return Gpus(dict.fromkeys(listed, 1.0), amd, told)


def _is_amd() -> bool:
    if _AMD_DRIVER.exists():
        return not _NVIDIA_DRIVER.exists()
    return _ROCR in os.environ and _CUDA not in os.environ


def _listed(*, amd: bool) -> tuple[str, list[str] | None]:
    """Return the variable that lists GPUs, and the list; None: there is none."""
    names = (_ROCR, _HIP, _CUDA) if amd else (_CUDA,)
    name = next((name for name in names if name in os.environ), names[0])
    if name not in os.environ:
        return name, None
    found: dict[str, None] = {}
    for part in map(str.strip, os.environ[name].split(",")):
        if not (part.isdigit() or part.startswith(("GPU-", "MIG-"))):
            break
        found[part] = None
    return name, list(found)


def _nvml() -> tuple[list[str], tuple[str, str]]:
    """Return the names of NVIDIA's GPUs, in order; and why there are none, with what to do."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return [], ("nvidia-ml-py is not installed", "install it")
    try:
        nvml.nvmlInit()
        try:
            handles = map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
            return list(map(nvml.nvmlDeviceGetName, handles)), ("NVML counts none", _CURE)
        finally:
            nvml.nvmlShutdown()
    except nvml.NVMLError as error:
        return [], (f"NVML says {error}", _CURE)
