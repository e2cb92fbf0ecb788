"""C3D, a baseline of the paper: 3D convolutions over 16 frames (Tran et al. 2015)."""

import torch
from torch import Tensor, nn

FRAMES = 16
INPUT_SIZE = 112
# Channels of the convolutions of each of the five blocks; each block ends in a pooling (section 3.2, figure 3).
BLOCKS = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class C3D(nn.Module):
    """Eight 3×3×3 convolutions, five poolings, two hidden layers of 4096 and a classifier.

    Args:
        num_classes: K.
        dropout: after each hidden layer; the paper's is 0.5.
    """

    def __init__(self, num_classes: int, dropout: float):
        super().__init__()
        self.num_classes = num_classes
        layers, channels = [], 3
        for block, outputs in enumerate(BLOCKS):
            for output in outputs:
                layers += [nn.Conv3d(channels, output, 3, padding=1), nn.ReLU()]
                channels = output
            time = 1 if block == 0 else 2  # the first pooling keeps all 16 frames
            layers.append(nn.MaxPool3d((time, 2, 2), padding=(0, 1, 1) if block == len(BLOCKS) - 1 else 0))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 4 * 4, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):  # without batch norm the default start hardly learns
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier[-1].weight, std=0.01)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of snippets.

        Args:
            frames: (N, 3 · 16, 112, 112) float32, channels r0 g0 b0 r1 ...

        Returns:
            (N, K).
        """
        video = frames.unflatten(1, (FRAMES, 3)).transpose(1, 2)
        return self.classifier(torch.flatten(self.features(video), 1))
