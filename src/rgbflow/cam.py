"""Class activation maps: where in its input a stream found a class, and how to draw that."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from rgbflow.networks.family import FeatureMap, no_feature_map
from rgbflow.networks.stream_net import StreamNet
from rgbflow.transforms import centre_crop

UNLIT = 0.25  # share of its light that a picture keeps where the map is 0
OUTLINED = 0.5  # level of a map that a line is drawn around


@dataclass(frozen=True)
class ActivationMaps:
    """Where one stream found a class in a clip.

    Attributes:
        values: (M, h, w) float32, one map for each snippet, or for each step of time that a 3D network keeps, 0…1 on
            a common scale: 1 is the strongest point of the clip. All are 0 if nothing in the clip speaks for the class.
        places: (M,) int64, sorted: index of the middle frame (rgb) or flow field (flow) of each.
        crop_fraction: side of the centre square that the network saw, as a share of the frame's shorter side; the maps
            cover this square.
        aspect: width over height that frames are squeezed to first, None if they keep theirs; see
            `transforms.centre_crop`.
    """

    values: np.ndarray
    places: np.ndarray
    crop_fraction: float
    aspect: float | None = None

    @property
    def strongest_place(self) -> int:
        """The place of the snippet with the strongest point."""
        return int(self.places[self.values.max(axis=(1, 2)).argmax()])

    def on_frame(self, place: float, height: int, width: int) -> np.ndarray:
        """The map of a frame at the frame's size: (height, width) float32, 0…1; 0 outside the network's crop.

        Args:
            place: index of a frame (rgb) or flow field (flow) of the clip. Between two snippets their maps are mixed;
                before the first snippet and after the last, its map is used.
            height: height of the frame in pixels, at any scale.
            width: width of the frame in pixels.
        """
        crop = centre_crop(height, width, self.crop_fraction, self.aspect)
        enlarged = cv2.resize(self._at(place), (crop.width, crop.height), interpolation=cv2.INTER_CUBIC)
        laid = np.zeros((height, width), np.float32)
        laid[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = np.clip(enlarged, 0, 1)
        return laid

    def _at(self, place: float) -> np.ndarray:
        between = float(np.interp(place, self.places, np.arange(len(self.places))))
        before = int(between)
        after = min(before + 1, len(self.places) - 1)
        share = np.float32(between - before)
        return (1 - share) * self.values[before] + share * self.values[after]


class _Head(nn.Module):
    """A network from its feature map on. Captum needs the map as the output of a layer."""

    def __init__(self, backbone: nn.Module, feature_map: FeatureMap):
        super().__init__()
        self.backbone, self.read = backbone, feature_map.read
        self.feature_map = nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.read(self.backbone, self.feature_map(features))


def class_activation_maps(network: StreamNet, snippets: Tensor, answer: int) -> np.ndarray:
    """Grad-CAM of a class (Selvaraju et al. 2017, section 3), by captum.

    The network's family names the feature map: the last one before the pooling. Each channel is weighted by the mean of
    its gradient, and the sum of the channels is clipped at 0. Only the layers after the map are differentiated, so
    prediction needs as much memory.

    Args:
        network: in evaluation mode.
        snippets: (S, C, H, W) float32, from `transforms.evaluation_input`.
        answer: index of the class.

    Returns:
        (S, t, h, w) float32, 0…1 on one scale for all snippets; a map of 224×224 pixels has 7×7 for most networks. A 3D
        network keeps t steps of a snippet's time, for any other t is 1.

    Raises:
        InputError: if the network has no such map; c3d, lrcn and transformers have none.
    """
    from captum.attr import LayerGradCam

    backbone, feature_map = network.backbone, network.family.feature_map
    if feature_map is None:
        raise no_feature_map(backbone)
    with torch.no_grad():
        features = feature_map.make(backbone, snippets).float()
    with torch.enable_grad():
        head = _Head(backbone, feature_map)
        cam = LayerGradCam(head, head.feature_map)
        maps = cam.attribute(features.requires_grad_(), target=answer, relu_attributions=True)
    maps = maps.detach()[:, 0]
    maps = maps if maps.ndim == 4 else maps[:, None]
    return (maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)).cpu().numpy()


def middles(stack_length: int, steps: int) -> np.ndarray:
    """The frame in the middle of each of the equal steps of a snippet's time: (steps,) int64.

    >>> middles(16, 4)
    array([ 2,  6, 10, 14])
    """
    return (2 * np.arange(steps) + 1) * stack_length // (2 * steps)


def in_order(values: np.ndarray, places: np.ndarray, crop_fraction: float, aspect: float | None) -> ActivationMaps:
    """The maps of a clip in the order of time.

    Args:
        values: (S, t, h, w) float32, from `class_activation_maps`.
        places: (S, t) int64, the frame or flow field that each is about.
        crop_fraction: as of `ActivationMaps`.
        aspect: likewise.
    """
    order = np.argsort(places, axis=None, kind="stable")
    return ActivationMaps(values.reshape(-1, *values.shape[2:])[order], places.ravel()[order], crop_fraction, aspect)


def spotlight(picture: np.ndarray, light: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """A picture lit where a map is high, with a line around the parts above half; its hues do not change.

    Args:
        picture: (H, W, 3) uint8 RGB.
        light: (H, W) float32, 0…1, from `ActivationMaps.on_frame`.
        colour: red, green, blue of the line, 0…255.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    lit = np.rint(picture * (UNLIT + (1 - UNLIT) * light[..., None])).astype(np.uint8)
    outlines, _ = cv2.findContours((light >= OUTLINED).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(lit, outlines, -1, colour[:3], max(1, round(min(light.shape) / 200)), cv2.LINE_AA)
