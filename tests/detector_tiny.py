"""DE-FAKE's three networks, tiny and with random weights, in the layouts that their authors publish.

The towers are written here from the papers' definitions, apart from transformers, so that a conversion has something to
be compared with; :func:`author` does what the author's test.py does with an image, on Pillow and torchvision.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import transforms
from transformers import BertTokenizer, BlipTextConfig, CLIPTokenizer
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

SIZE, PATCH, WIDTH, JOINT, CONTEXT = 32, 8, 128, 16, 77
WORDS = ("ball", "house", "tree", "car", "fish", "flower", "cup", "small", "large", "and", "the", "in", "a", "of")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Block(nn.Module):
    """A residual attention block with OpenAI's names: QuickGELU, pre-norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Blocks(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Blocks(WIDTH, 2)
        self.proj = nn.Parameter(torch.randn(WIDTH, JOINT))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Clip(nn.Module):
    """OpenAI's CLIP (Radford et al. 2021), with its names."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.visual = Visual()
        self.transformer = Blocks(WIDTH, 2)
        self.token_embedding = nn.Embedding(words, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, JOINT))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu(1)
        x = self.ln_final(self.transformer(self.token_embedding(tokens) + self.positional_embedding, mask))
        return x[torch.arange(len(x)), tokens.argmax(-1)] @ self.text_projection


class VitBlock(nn.Module):
    """A block of timm's vision transformer, with its names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, _ = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).view(n, length, 3, WIDTH // 64, 64).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1)) / 8).softmax(-1) @ v
        x = x + self.attn["proj"](y.transpose(1, 2).reshape(n, length, WIDTH))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Vit(nn.Module):
    """BLIP's image encoder, with Salesforce's names."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH))
        self.blocks = nn.ModuleList(VitBlock() for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Perceptron(nn.Module):
    """The author's classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout2 = nn.Dropout(0.5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(2 * JOINT, 24), nn.Linear(24, 12), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(F.relu(self.fc2(self.dropout2(F.relu(self.fc1(x))))))


class Published:
    """What the author publishes, tiny, in a folder.

    Attributes:
        folder: with `clip.pt`, `blip.pth`, `mlp.pth` (state dicts), `module.pth` (a whole pickled module) and the
            tokenizers' folders `bert` and `words`.
        clip, vit, mlp: the networks themselves.
    """

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        self.folder = folder
        words = clip_tokenizer()
        words.save_pretrained(folder / "words")
        bert = bert_tokenizer()
        bert.save_pretrained(folder / "bert")
        self.clip, self.vit, self.mlp = Clip(len(words)).eval(), Vit().eval(), Perceptron().eval()
        text = BlipTextLMHeadModel(
            BlipTextConfig(
                vocab_size=len(bert) + 2,
                hidden_size=WIDTH,
                encoder_hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=2,
                num_attention_heads=WIDTH // 64,
                bos_token_id=len(bert),
                max_position_embeddings=80,
            )
        ).eval()
        with torch.no_grad():
            for name, part in text.named_parameters():  # untrained logits are nearly equal; these are far apart
                part.mul_(8.0 if "crossattention" in name or "word_embeddings" in name else 2.0)
            # words alone are said, and the end is as likely as a word
            text.cls.predictions.bias.fill_(-1e4)
            text.cls.predictions.bias[[102, *range(104, 104 + len(WORDS))]] = 0.0
        decoder = {f"text_decoder.{name}": part for name, part in text.state_dict().items()}
        seen = {f"visual_encoder.{name}": part for name, part in self.vit.state_dict().items()}
        beside = {
            "text_encoder.embeddings.word_embeddings.weight": torch.zeros(2, 2),
            "visual_encoder_m.cls_token": torch.zeros(1, 1, WIDTH),
            "text_decoder.bert.embeddings.position_ids": torch.arange(80)[None],
            "queue_ptr": torch.zeros(1, dtype=torch.long),
        }
        torch.save({"model": {**seen, **decoder, **beside}, "epoch": 20}, folder / "blip.pth")
        torch.save(self.clip.half().state_dict(), folder / "clip.pt")  # as clip.load gives it on a GPU
        self.clip.float()
        torch.save(self.mlp.state_dict(), folder / "mlp.pth")
        torch.save(self.mlp, folder / "module.pth")

    def files(self) -> dict[str, Path]:
        return {"blip": self.folder / "blip.pth", "clip": self.folder / "clip.pt", "mlp": self.folder / "mlp.pth"}

    def tokenizers(self) -> dict[str, str]:
        return {"blip": str(self.folder / "bert"), "clip": str(self.folder / "words")}


def clip_tokenizer() -> CLIPTokenizer:
    """One token a letter, OpenAI's order: letters, letters that end a word, the beginning, the end."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=CONTEXT)


def bert_tokenizer() -> BertTokenizer:
    """BERT's special tokens at BERT's places, then words."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    tokens = [special.get(i, f"[unused{i}]") for i in range(104)]
    return BertTokenizer(vocab={token: i for i, token in enumerate([*tokens, *WORDS, "picture"])})


def caption_view(data: bytes) -> torch.Tensor:
    """BLIP's input of the author's test.py, at this size."""
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    return transforms.Compose(steps)(Image.open(io.BytesIO(data)).convert("RGB"))[None]


def clip_view(data: bytes) -> torch.Tensor:
    """CLIP's input of the author's test.py, at this size."""
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(SIZE, bicubic), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    preprocess = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    return preprocess(Image.open(io.BytesIO(data)).resize((SIZE, SIZE)).convert("RGB"))[None]


def clip_tokens(caption: str) -> torch.Tensor:
    """CLIP's tokens with `truncate=True`: the end token stays, the rest is zeros."""
    words = clip_tokenizer()
    ids = words(caption, add_special_tokens=False)["input_ids"]
    start, end = words.bos_token_id, words.eos_token_id
    ids = [start, *ids, end]
    if len(ids) > CONTEXT:
        ids = [*ids[: CONTEXT - 1], end]
    return torch.tensor([ids + [0] * (CONTEXT - len(ids))])


@torch.no_grad()
def author(published: Published, data: bytes, caption: str) -> float:
    """The log odds of fake by the author's steps."""
    seen = published.clip.visual(clip_view(data))
    read = published.clip.encode_text(clip_tokens(caption))
    real, fake = published.mlp(torch.cat([seen, read], 1)).double()[0]
    return float(fake - real)
