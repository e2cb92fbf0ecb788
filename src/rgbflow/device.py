"""Which device computes, and in which arithmetic."""

import os

import torch

from rgbflow.errors import InputError, first_line


def choose_device(device: str = "auto") -> torch.device:
    """The device of a name; "auto" is the first of CUDA, MPS and CPU that the machine has.

    Raises:
        InputError: if the machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # "meta" would take tensors, but compute nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {device!r} can't be used here ({first_line(error)}): pass auto or cpu") from error
    return chosen


def total_memory(device: torch.device) -> int | None:
    """Bytes of memory of a device, used or free; None where the system doesn't say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16, which is then worth using."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))
