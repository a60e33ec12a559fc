"""Modules as a user would write them."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(1)
DOUBLE = torch.float64


def squares(output):
    return output.square().sum()


def mlp(dtype=DOUBLE, depth=4, width=12, phi=nn.Tanh):
    torch.manual_seed(1)
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), phi())]
    return nn.Sequential(*layers).to(dtype), torch.randn(5, width).to(dtype)


def learner(rate=1e-3, **about):
    """A network in float32, its inputs and plain gradient descent."""
    net, x = mlp(torch.float32, **about)
    return net, x, torch.optim.SGD(net.parameters(), lr=rate)


class Made(nn.Module):
    """A module of parts, whose forward pass is a function of itself and its inputs."""

    def __init__(self, of, **parts):
        super().__init__()
        self.of = of
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.of(self, *inputs)


class Residual(nn.Module):
    """A ResNet block with its in-place ReLUs."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        h = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu_(x + self.bn2(self.conv2(h)))


class ResNet(nn.Module):
    def __init__(self, blocks=2, channels=6):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(*[Residual(channels) for _ in range(blocks)])
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(channels, 3)

    def forward(self, x):
        return self.head(self.drop(self.blocks(self.stem(x)).mean((2, 3))))


class GPT(nn.Module):
    """A small GPT with the embedding tied to the output."""

    def __init__(self, vocabulary=17, context=8, width=16, heads=2, layers=2, tied=True):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        shape = {"dim_feedforward": 4 * width, "dropout": 0.0, "activation": "gelu"}
        self.h = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, norm_first=True, batch_first=True, **shape)
            for _ in range(layers)
        )
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.wte.weight = self.lm_head.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=x.dtype)
        for block in self.h:
            x = block(x, mask, is_causal=True)
        return self.lm_head(self.ln_f(x))


def next_token(tokens):
    def loss(logits):
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    return loss


def cases():
    """name -> module, inputs, loss; all in float64."""
    torch.manual_seed(2)
    tokens = torch.randint(17, (3, 8))
    images, labels = torch.randn(4, 1, 8, 8, dtype=DOUBLE), torch.tensor([0, 1, 2, 1])

    def entropy(output):
        return functional.cross_entropy(output, labels)

    cnn = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(144, 3),
    )  # fmt: skip
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return {
        "mlp": (*mlp(), squares),
        "cnn": (cnn.double(), images, entropy),
        "resnet": (ResNet().double(), images, entropy),
        "encoder": (encoder.double(), torch.randn(2, 5, 8, dtype=DOUBLE), squares),
        "gpt": (GPT().double(), tokens, next_token(tokens)),
        "lstm": (
            nn.LSTM(4, 5, num_layers=2).double(),
            torch.randn(6, 2, 4, dtype=DOUBLE),
            lambda output: squares(output[0]),
        ),
    }


CASES = ["mlp", "cnn", "resnet", "encoder", "gpt", "lstm"]


def plain(module, inputs, loss):
    """{name: .grad} of a copy that shares nothing with the module, same dropout masks."""
    own = copy.deepcopy(module)
    own.zero_grad()
    with torch.random.fork_rng([]):
        loss(own(inputs.clone())).backward()
    return {name: p.grad for name, p in own.named_parameters()}


def norm(g):
    return float(torch.linalg.vector_norm(g.double()))


def true_norm(df, row):
    return math.ldexp(df.grad_norm_mantissa[row], int(df.grad_norm_exponent[row]))
