"""The GPUs that a node finds, and what a task sees of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from manyhands_shared.errors import ConfigError
from manyhands_worker.host import gpus, resources

_NVML = """
class NVMLError(Exception):
    pass
def nvmlInit():
    if not KINDS:
        raise NVMLError("Driver Not Loaded")
def nvmlShutdown():
    pass
def nvmlDeviceGetCount():
    return len(KINDS)
def nvmlDeviceGetHandleByIndex(index):
    return index
def nvmlDeviceGetName(handle):
    return KINDS[handle]
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine with no GPU, driver or variable."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus, "_AMD_DRIVER", tmp_path / "kfd")
    monkeypatch.setattr(gpus, "_NVIDIA_DRIVER", tmp_path / "nvidiactl")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return Machine(monkeypatch, tmp_path)


class Machine:
    """What a node finds around it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
        self._monkeypatch = monkeypatch
        self._place = place

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)

    def driver(self, name: str) -> None:
        (self._place / name).touch()

    def nvml(self, *kinds: str) -> None:
        """Install a library that counts these."""
        self._monkeypatch.delitem(sys.modules, "pynvml")
        (self._place / "pynvml.py").write_text(f"KINDS = {kinds!r}{_NVML}")
        self._monkeypatch.syspath_prepend(self._place)


def test_nvml_counts_and_names_them(machine: Machine) -> None:
    machine.nvml("NVIDIA A100", "NVIDIA T4")
    amounts, found = resources.offered("gpu=auto,big=1")
    assert amounts == {"gpu": 2.0, "big": 1.0}
    assert found.offered == {"0": 1.0, "1": 1.0}
    assert found.told == "gpu=auto: 2 by NVML: 0 NVIDIA A100, 1 NVIDIA T4"
    assert found.variables(["1"]) == {"CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "1"}


def test_what_the_node_may_use_counts_before_what_is_there(machine: Machine) -> None:
    machine.nvml("A", "B", "C", "D")
    machine.set("CUDA_VISIBLE_DEVICES", "3,1,9,0")
    amounts, found = resources.offered("gpu=auto")
    assert amounts == {"gpu": 2.0}
    assert list(found.offered) == ["3", "1"], "CUDA reads no further than a number that is none"
    assert found.told == "gpu=auto: 2 by NVML: 3 D, 1 B"


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("0,2", ["0", "2"]),
        (" 1 , 1 ", ["1"]),
        ("GPU-8932f937,MIG-a/1/0", ["GPU-8932f937", "MIG-a/1/0"]),
        ("0,-1,1", ["0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_alone_is_enough(machine: Machine, listed: str, names: list[str]) -> None:
    machine.set("CUDA_VISIBLE_DEVICES", listed)
    amounts, found = resources.offered("gpu=auto")
    assert list(found.offered) == names
    assert amounts == {"gpu": float(len(names))}
    if names:
        words = f"gpu=auto: {len(names)} by CUDA_VISIBLE_DEVICES: {', '.join(names)}"
    else:
        words = "gpu=auto: no GPU found: CUDA_VISIBLE_DEVICES lists none that is here"
    assert found.told == words


def test_none_is_told_in_one_line_with_what_to_do(machine: Machine) -> None:
    words = "gpu=auto: no GPU found: {}, and CUDA_VISIBLE_DEVICES is not set; {} or write gpu=N"
    amounts, found = resources.offered("gpu=auto")
    assert amounts == {"gpu": 0}
    assert not found.offered
    assert found.told == words.format("nvidia-ml-py is not installed", "install it")
    machine.nvml()
    told = resources.offered("gpu=auto")[1].told
    assert told == words.format("NVML says Driver Not Loaded", "install the driver")


def test_a_number_names_as_many(machine: Machine) -> None:
    amounts, found = resources.offered("gpu=2.5")
    assert amounts == {"gpu": 2.5}
    assert found.offered == {"0": 1.0, "1": 1.0, "2": 0.5}
    assert not found.told
    machine.set("CUDA_VISIBLE_DEVICES", "5,GPU-x,6")
    assert list(resources.offered("gpu=2")[1].offered) == ["5", "GPU-x"]
    assert resources.offered("gpu=0,big=1") == ({"gpu": 0.0, "big": 1.0}, gpus.NO_GPUS)
    assert resources.offered("") == ({}, gpus.NO_GPUS)


def test_more_than_the_node_may_use_is_refused(machine: Machine) -> None:
    machine.set("CUDA_VISIBLE_DEVICES", "5")
    with pytest.raises(ConfigError) as caught:
        resources.offered("gpu=2")
    assert str(caught.value) == (
        "resources: gpu=2, but CUDA_VISIBLE_DEVICES lists 1; write gpu=auto, or unset "
        "CUDA_VISIBLE_DEVICES"
    )


def test_on_amd_the_first_variable_narrows_what_the_others_count(machine: Machine) -> None:
    machine.driver("kfd")
    found = resources.offered("gpu=4")[1]
    assert found.variables(["2", "3"]) == {
        "ROCR_VISIBLE_DEVICES": "2,3",
        "HIP_VISIBLE_DEVICES": "0,1",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    machine.set("ROCR_VISIBLE_DEVICES", "1,GPU-y")
    machine.set("CUDA_VISIBLE_DEVICES", "0")
    assert list(resources.offered("gpu=auto")[1].offered) == ["1", "GPU-y"]


def test_an_amd_processor_beside_nvidias_gpu_is_not_taken_for_one(machine: Machine) -> None:
    machine.driver("kfd")
    machine.driver("nvidiactl")
    assert not resources.offered("gpu=1")[1].amd
