"""What runs the network of each stream: from 8-bit snippets to logits."""

from typing import Protocol

import numpy as np
import torch

from rgbflow.model import StreamNet, choose_device, has_fast_bf16
from rgbflow.stream import Crops, Stream, StreamSpec
from rgbflow.transforms import snippets_to_input


class Engine(Protocol):
    """Runs the networks of a bundle; crop, scaling and normalisation are its part too."""

    name: str  # such as "torch fp32" or "openvino int8"

    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        """Class logits of snippets.

        Args:
            stream: whose network.
            snippets: (N, C, h, w) uint8, from `transforms.read_snippets`.
            crops: of each snippet, 1 or 10; its logits are the mean over them.

        Returns:
            (N, K) float32.
        """
        ...


class TorchEngine:
    """PyTorch, on any device; in bfloat16 where the hardware computes in it.

    Args:
        specs: the streams.
        networks: one per stream, with its weights.
        device: "auto", or a torch device name.
        bf16: whether to compute in bfloat16; None asks the hardware.
    """

    def __init__(
        self,
        specs: dict[Stream, StreamSpec],
        networks: dict[Stream, StreamNet],
        device: str = "auto",
        bf16: bool | None = None,
    ):
        self.device = choose_device(device)
        self.specs = specs
        self.networks = {
            stream: network.to(self.device, memory_format=network.memory_format).eval()
            for stream, network in networks.items()
        }
        bf16 = has_fast_bf16(self.device) if bf16 is None else bf16
        self._precision = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False)
        place = "" if self.device.type == "cpu" else f" on {self.device}"
        self.name = f"torch {'bf16' if bf16 else 'fp32'}{place}"

    @torch.inference_mode()
    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        inputs = snippets_to_input(torch.from_numpy(snippets).to(self.device), self.specs[stream], crops)
        with self._precision:
            logits = self.networks[stream](inputs[:, None])  # each snippet as a clip of its own
        return logits.unflatten(0, (crops, -1)).mean(dim=0).cpu().numpy()
