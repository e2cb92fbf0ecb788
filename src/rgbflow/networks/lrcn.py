"""LRCN, the recurrent network that the paper compares with as LSTM (Donahue et al. 2015)."""

from torch import Tensor, nn

from rgbflow.networks.family import Family
from rgbflow.networks.image import create_backbone, image_statistics, imagenet_weights
from rgbflow.stream import PLANES, StreamSpec

FRAMES = 16  # of a snippet (Donahue et al. 2015, section 4.1)
HIDDEN = 256  # units of the LSTM on RGB frames (Donahue et al. 2015, section 4.1)


class LRCN(nn.Module):
    """Features of each frame, an LSTM over the frames, and the mean of its outputs (Donahue et al. 2015, section 4).

    Args:
        features: an image network without its classifier; gives (N, F) for (N, planes, H, W).
        feature_size: F.
        num_classes: K.
        dropout: dropout of the LSTM's outputs, before the classifier.
    """

    def __init__(self, features: nn.Module, feature_size: int, num_classes: int, dropout: float):
        super().__init__()
        self.features = features
        self.lstm = nn.LSTM(feature_size, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(HIDDEN, num_classes)

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits of snippets: the mean over the frames; the LSTM at each frame has read all earlier frames.

        Args:
            snippets: (N, 16 · planes, H, W) float32, frame after frame, each with its planes.

        Returns:
            (N, K) logits.
        """
        return self.classifier(self.dropout(self._answers(snippets))).mean(dim=1)

    def embed(self, snippets: Tensor) -> Tensor:
        """The features that the classifier reads, (N, HIDDEN): the mean of the LSTM's outputs over the frames."""
        return self._answers(snippets).mean(dim=1)

    def _answers(self, snippets: Tensor) -> Tensor:
        frames = snippets.unflatten(1, (FRAMES, -1))  # (N, 16, planes, H, W)
        features = self.features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        answers, _ = self.lstm(features)
        return answers

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of snippets, in evaluation."""
        features = self.embed(snippets)
        return self.classifier(features), features


def _build(spec: StreamSpec, num_classes: int) -> LRCN:
    features = create_backbone(spec.backbone, PLANES[spec.stream], num_classes=0)
    return LRCN(features, features.num_features, num_classes, spec.dropout)


FAMILY = Family(
    build=_build,
    logits_and_features=LRCN.logits_and_features,
    statistics=image_statistics,
    frames=FRAMES,
    published={"imagenet": lambda spec: imagenet_weights(spec.backbone)},
    loaded_part=lambda network: network.features,
    val_snippets=1,
    defaults={"dropout": 0.5, "weights": "imagenet"},
    title="{} + LSTM",
)
