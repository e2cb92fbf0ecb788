"""PyTorch as the engine of a bundle, and the networks that it runs."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rgbflow.bundle import Bundle, check_file, load_weights, weights_file
from rgbflow.device import choose_device, has_fast_bf16
from rgbflow.errors import InputError, first_line
from rgbflow.networks.engine import StreamAnswer
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import SkippedRandomStart, check_values
from rgbflow.stream import Crops, EnginePrecision, Stream, StreamSpec
from rgbflow.transforms import snippets_to_input


class TorchEngine:
    """PyTorch, on any device.

    Args:
        specs: the streams.
        networks: one per stream, with its weights.
        device: "auto", or a torch device name.
        precision: "auto" takes bfloat16 where the hardware computes in it.
    """

    def __init__(
        self,
        specs: dict[Stream, StreamSpec],
        networks: Mapping[Stream, StreamNet],
        device: str = "auto",
        precision: EnginePrecision = "auto",
    ):
        self.device = choose_device(device)
        self.specs = specs
        self.networks = {
            stream: network.to(self.device).to(memory_format=network.memory_format).eval()
            for stream, network in networks.items()
        }
        bf16 = has_fast_bf16(self.device) if precision == "auto" else precision == "bf16"
        self._precision = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False)
        place = "" if self.device.type == "cpu" else f" on {self.device}"
        self.name = f"torch {'bf16' if bf16 else 'fp32'}{place}"

    def with_networks(self, networks: Mapping[Stream, StreamNet]) -> "TorchEngine":
        """Other networks of the same streams, on the same device and in the same precision."""
        precision: EnginePrecision = "bf16" if "bf16" in self.name else "fp32"
        return TorchEngine(self.specs, networks, str(self.device), precision)

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        return {stream: self._answer(stream, given, crops, with_features) for stream, given in snippets.items()}

    def _answer(self, stream: Stream, snippets: np.ndarray, crops: Crops, with_features: bool) -> StreamAnswer:
        try:
            return self._computed(stream, snippets, crops, with_features)
        except InputError:
            raise
        except (RuntimeError, ValueError, AssertionError, LookupError, MemoryError, TypeError) as error:
            spec = self.specs[stream]
            raise InputError(
                f"the network of {stream} ({spec.backbone}, {spec.input_size}×{spec.input_size}) can't read its input "
                f"({first_line(error)}): use fewer snippets, another device or another bundle"
            ) from error

    @torch.inference_mode()
    def _computed(self, stream: Stream, snippets: np.ndarray, crops: Crops, with_features: bool) -> StreamAnswer:
        began = time.perf_counter()
        inputs = snippets_to_input(torch.from_numpy(snippets).to(self.device), self.specs[stream], crops)
        clips, features = inputs[:, None], None  # each snippet as a clip of its own
        with self._precision:
            if with_features:
                logits, features = (
                    _mean_of_crops(one[:, 0], len(snippets)) for one in self.networks[stream].logits_and_features(clips)
                )
            else:
                logits = _mean_of_crops(self.networks[stream](clips), len(snippets))
        return StreamAnswer(logits, features, time.perf_counter() - began)


def _mean_of_crops(rows: Tensor, num_snippets: int) -> np.ndarray:
    """(crops · N, D), all snippets of a crop in a row, to (N, D)."""
    return rows.unflatten(0, (-1, num_snippets)).mean(dim=0).cpu().numpy()


def load_networks(folder: Path, bundle: Bundle) -> dict[Stream, StreamNet]:
    """The networks of a bundle with their weights.

    Raises:
        InputError: if weights are missing, damaged or of another network.
    """
    networks = {}
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter free to build the networks
        checks = [pool.submit(check_file, folder, bundle, weights_file(folder, one).name) for one in bundle.streams]
        for stream, spec in bundle.streams.items():
            with SkippedRandomStart():
                networks[stream] = StreamNet(spec, len(bundle.classes))
            weights = load_weights(folder, stream)
            try:
                check_values(weights, networks[stream].state_dict(), str(weights_file(folder, stream)))
                networks[stream].load_state_dict(weights)
            except RuntimeError as error:
                raise InputError(f"{folder}: the weights of {stream} do not fit {spec.backbone}") from error
        for check in checks:
            check.result()
    return networks
