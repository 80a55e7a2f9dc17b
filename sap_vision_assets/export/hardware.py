"""Names of the hardware that a figure was measured on; a latency without one means nothing."""

import os
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
import psutil

from sap_vision_assets.export.session import Device

CPU_INFO = Path("/proc/cpuinfo")
GPU_INFO = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What one benchmark ran on."""

    device: Device
    name: str
    """The GPU's or the CPU's model name, as the machine gives it."""
    usable_cores: int
    """Logical cores that this process may use."""
    physical_cores: int | None
    """Of the machine; None where it does not say."""
    has_vnni: bool
    """Whether the CPU multiplies int8 without saturating; without it int8 is hardly faster."""
    threads: int
    """Asked of onnxruntime; 0 is its default, one a physical core."""
    onnxruntime: str


def describe_hardware(
    device: Device, *, threads: int, cpu_info: Path = CPU_INFO, gpu_info: Path = GPU_INFO
) -> Hardware:
    """The hardware behind a session on `device`."""
    lines = cpu_info.read_text(errors="replace").splitlines() if cpu_info.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return Hardware(
        device=device,
        name=_gpu_name(gpu_info) if device == "cuda" else _value(lines, "model name") or "unknown CPU",
        usable_cores=len(os.sched_getaffinity(0)),
        physical_cores=psutil.cpu_count(logical=False),
        has_vnni="avx512_vnni" in flags or "avx_vnni" in flags,
        threads=threads,
        onnxruntime=ort.__version__,
    )


def _gpu_name(gpu_info: Path) -> str:
    for file in sorted(gpu_info.glob("*/information")):
        name = _value(file.read_text(errors="replace").splitlines(), "Model")
        if name:
            return name
    return "unknown NVIDIA GPU"


def _value(lines: list[str], key: str) -> str:
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
