"""LRCN, the paper's LSTM baseline: an image network's features of each frame, read by an LSTM (Donahue et al. 2015)."""

import timm
from torch import Tensor, nn

FRAMES = 16
HIDDEN = 256  # units of the LSTM (section 4.1 of Donahue et al.)


class LRCN(nn.Module):
    """A timm backbone without its classifier, an LSTM over the frames, and a classifier at each frame.

    Args:
        backbone: any image classifier of timm; the paper's is ResNet101.
        num_frames: in a snippet.
        num_classes: K.
        dropout: before the classifier.
    """

    def __init__(self, backbone: str, num_frames: int, num_classes: int, dropout: float):
        super().__init__()
        self.num_frames, self.num_classes = num_frames, num_classes
        self.features = timm.create_model(backbone, num_classes=0)
        self.lstm = nn.LSTM(self.features.num_features, HIDDEN, batch_first=True)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(HIDDEN, num_classes))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of snippets: the mean of the answers after each frame (section 4.1 of Donahue et al.).

        Args:
            frames: (N, 3 · num_frames, H, W) float32, channels r0 g0 b0 r1 ...

        Returns:
            (N, K).
        """
        images = frames.unflatten(1, (self.num_frames, 3)).flatten(0, 1)
        states, _ = self.lstm(self.features(images).unflatten(0, (-1, self.num_frames)))
        return self.classifier(states).mean(dim=1)
