"""Architecture: what a Vision Transformer is made of, one field an option.

The families translate their configs into it (`vit_core.families`), and the backends build from it: neither they nor the
table of parameters asks what type of model it has. The defaults are those of the first Vision Transformer
(Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929). Sizes stay in the config.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from vit_core.checks import require_choice, require_integer, require_number

PREFIX_TOKENS = ("cls_token", "distillation_token")
MOST_REGISTERS = 1024

#: Positions that are added to the tokens: trained, or the fixed sines and cosines of MAE.
AbsolutePositions = Literal["learned", "sincos"]
#: The tokens that such positions are for: all of them, the class token and the patches, the patches alone.
Positioned = Literal["all", "class-token", "patches"]
#: How trained positions are resampled for another grid: bicubic by its size; likewise with antialiasing; bicubic by
#: factors with DINO's offset of 0.1, as its authors' code does; bilinear, as FlexiViT's authors do; or by Catmull and
#: Rom's kernel without antialiasing, as Keras, TensorFlow and JAX do. See `vit_core.position`.
Resampling = Literal["bicubic", "antialiased", "offset", "bilinear", "catmull-rom"]
#: Positions that are added to the scores of attention: a table in each layer, or one for all of them.
RelativePositions = Literal["layers", "shared"]
#: Positions that rotate queries and keys: as DINOv3, as EVA-02 and as RoPE-Mixed do; see `vit_core.rotary`.
RotaryPositions = Literal["centres", "indices", "mixed"]
#: Which coordinate the first half of such pairs of channels knows.
RotaryFirst = Literal["rows", "columns"]
#: How a layer joins its halves, attention and the MLP: each reads normed tokens; what each makes is normed before it is
#: added; or both read the same normed tokens, and what they make is added at once.
Halves = Literal["pre-norm", "post-norm", "parallel"]
#: LayerNorm, or the root mean square alone.
Norm = Literal["layer", "rms"]
#: How often layers are skipped in training: the last one most often, or all alike.
DropPathGrowth = Literal["linear", "constant"]
#: A summary of the image: a dense layer and tanh over the class token; LayerNorm of the mean of the patches; the class
#: token as it is; LayerNorm of it; or what a trained query gathers from all tokens, or from the patches alone.
Pooler = Literal["dense", "mean-norm", "class-token", "class-norm", "attention", "patch-attention"]
#: What the classifier reads, after the last norm: the class token, the pooler's output, the mean of the patches, or the
#: class token and that mean side by side.
Summary = Literal["class-token", "pooler", "mean", "class-and-mean"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a Vision Transformer is made of.

    Attributes:
        prefix_tokens: names of the tokens before the patches. The distillation token is DeiT's (Touvron et al. 2020,
            https://arxiv.org/abs/2012.12877, section 4). Without a class token, nothing can read it.
        register_tokens: how many more stand between those and the patches, which nothing reads (Darcet et al. 2023,
            https://arxiv.org/abs/2309.16588).
        patch_bias: whether the projection of the patches has a bias.
        patch_norm: whether the patches are normed after it, before they get positions (AIMv2, Fini et al. 2024,
            https://arxiv.org/abs/2411.14402).
        absolute_positions: see `AbsolutePositions` (He et al. 2021, https://arxiv.org/abs/2111.06377, appendix A.1);
            None where there are relative or rotary positions alone.
        positioned: see `Positioned`.
        position_resampling: see `Resampling`.
        resamples_unasked: whether images may have any size without `interpolate_pos_encoding`.
        embedding_dropout: whether there is dropout after the embeddings, as often as `hidden_dropout_prob` says.
        embedding_norm: whether there is a norm before the first layer (Radford et al. 2021,
            https://arxiv.org/abs/2103.00020, section 2.4).
        mask_token: whether the base model has one in every task; None where the task or the constructor decides.
        query_bias: whether queries have a bias, where the config's `qkv_bias` leaves it open.
        key_bias: likewise for keys; one for all keys changes no attention (Bao et al. 2021,
            https://arxiv.org/abs/2106.08254, leave it out).
        value_bias: likewise for values.
        output_bias: whether the projection after attention has a bias.
        mlp_bias: whether the layers of the MLP have one.
        query_key_norm: whether the queries and keys of each head are normed (Dehghani et al. 2023,
            https://arxiv.org/abs/2302.05442, section 2).
        attention_norm: whether what attention gathered is normed before the projection (Wang et al. 2022,
            https://arxiv.org/abs/2210.06423, "sub-LN").
        mlp_norm: likewise, inside the MLP, before its last layer.
        gated_mlp: whether a second projection, through the activation, weighs the first (Shazeer 2020,
            https://arxiv.org/abs/2002.05202).
        mlp_dropout: whether there is dropout after the MLP, as often as `hidden_dropout_prob` says.
        halves: see `Halves` (after each half: Liu et al. 2021, https://arxiv.org/abs/2111.09883, section 3.2; parallel:
            Dehghani et al. 2023, section 2). Parallel halves share a norm and the factors of `layer_scale`.
        norm: see `Norm` (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).
        relative_positions: see `RelativePositions` (BEiT, after Raffel et al. 2019, https://arxiv.org/abs/1910.10683).
        rotary_positions: see `RotaryPositions` (Su et al. 2021, https://arxiv.org/abs/2104.09864).
        rotary_first: see `RotaryFirst` (columns: Heo et al. 2024, https://arxiv.org/abs/2403.13298; Perception Encoder,
            Bolya et al. 2025, https://arxiv.org/abs/2504.13181).
        rotary_offset: the number of the first row and column, unless positions are "centres" (1 in Perception Encoder).
        rotary_stretch: whether any grid is stretched to the one of training, unless positions are "centres"; if not,
            larger images have larger numbers (as in Heo et al.).
        layer_scale: the start of the trained factors, one a channel, of what each half of a layer adds (Touvron et al.
            2021, https://arxiv.org/abs/2103.17239, equation 4); None has no such factors.
        drop_path_rate: how often the last layer is skipped for an image in training (Huang et al. 2016,
            https://arxiv.org/abs/1603.09382, section 3).
        drop_path_growth: whether the layers before it are skipped less often, in even steps from 0, or as often.
        final_norm: whether there is a norm after the last layer.
        pooler: see `Pooler`.
        has_pooler: whether the base model has it, where its constructor is not told.
        keeps_pooler: whether models with a head have it, too, where they do not read it.
        classifier_reads: see `Summary`.
        masked_from: the first of the tokens that stand for the patches in masked image modeling; None for the first
            patch. DeiT's published model counts from the distillation token.
    """

    prefix_tokens: tuple[str, ...] = ("cls_token",)
    register_tokens: int = 0
    patch_bias: bool = True
    patch_norm: bool = False
    absolute_positions: AbsolutePositions | None = "learned"
    positioned: Positioned = "all"
    position_resampling: Resampling = "bicubic"
    resamples_unasked: bool = False
    embedding_norm: bool = False
    embedding_dropout: bool = True
    mask_token: bool | None = None
    query_bias: bool = True
    key_bias: bool = True
    value_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    query_key_norm: bool = False
    attention_norm: bool = False
    mlp_norm: bool = False
    gated_mlp: bool = False
    mlp_dropout: bool = True
    halves: Halves = "pre-norm"
    norm: Norm = "layer"
    relative_positions: RelativePositions | None = None
    rotary_positions: RotaryPositions | None = None
    rotary_first: RotaryFirst = "rows"
    rotary_offset: float = 0.0
    rotary_stretch: bool = True
    layer_scale: float | None = None
    drop_path_rate: float = 0.0
    drop_path_growth: DropPathGrowth = "linear"
    final_norm: bool = True
    pooler: Pooler | None = "dense"
    has_pooler: bool = True
    keeps_pooler: bool = False
    classifier_reads: Summary = "class-token"
    masked_from: int | None = None

    def validate(self) -> None:
        """Check that the options fit each other.

        Raises:
            ValueError: they do not; the message names the option and the value.
        """
        for name in self.prefix_tokens:
            require_choice("prefix_tokens", name, PREFIX_TOKENS)
        if len(set(self.prefix_tokens)) < len(self.prefix_tokens):
            raise ValueError(f"prefix_tokens are {self.prefix_tokens!r}; each can be there once.")
        if "cls_token" in self.prefix_tokens[1:]:
            raise ValueError(f"prefix_tokens are {self.prefix_tokens!r}; the class token comes first.")
        if "cls_token" not in self.prefix_tokens and self.classifier_reads in ("class-token", "class-and-mean"):
            raise ValueError(f"classifier_reads is {self.classifier_reads!r}, and there is no class token; use 'mean'.")
        if self.positioned == "class-token" and "cls_token" not in self.prefix_tokens:
            raise ValueError("positioned is 'class-token', and there is no class token; use 'patches'.")
        require_integer("register_tokens", self.register_tokens, 0, MOST_REGISTERS)
        if self.layer_scale is not None:
            require_number("layer_scale", self.layer_scale, 0.0, 1e6)
        require_number("rotary_offset", self.rotary_offset, -1e6, 1e6)
        require_number("drop_path_rate", self.drop_path_rate, 0.0, 1.0, upper_included=False)

    @property
    def num_prefix_tokens(self) -> int:
        """How many tokens stand before the patches."""
        return len(self.prefix_tokens) + self.register_tokens

    @property
    def num_positioned_prefix_tokens(self) -> int:
        """For how many of them there are absolute positions: the first ones."""
        return {"all": self.num_prefix_tokens, "class-token": 1, "patches": 0}[self.positioned]

    @property
    def first_masked(self) -> int:
        """The first of the tokens that stand for the patches in masked image modeling."""
        return self.num_prefix_tokens if self.masked_from is None else self.masked_from

    @property
    def teacher_places(self) -> tuple[int, int]:
        """Where the class token and the distillation token stand, which a model with a teacher reads.

        Raises:
            ValueError: one of them is not there.
        """
        if missing := [name for name in PREFIX_TOKENS if name not in self.prefix_tokens]:
            raise ValueError(
                f"prefix_tokens are {self.prefix_tokens!r}; a model with a teacher reads a {missing[0]} too, so add it."
            )
        cls_token, distillation_token = map(self.prefix_tokens.index, PREFIX_TOKENS)
        return cls_token, distillation_token

    @property
    def summary_is_prefix(self) -> bool:
        """Whether classifiers read tokens before the patches alone, so that the last layer needs no others."""
        of_prefix = self.pooler in ("dense", "class-token", "class-norm")
        pooled = self.classifier_reads == "pooler" and of_prefix
        return bool(self.prefix_tokens) and (self.classifier_reads == "class-token" or pooled)

    @property
    def factors(self) -> tuple[str, ...]:
        """The names of the factors by which layers scale what they add; empty without `layer_scale`."""
        if self.layer_scale is None:
            return ()
        return ("lambda_1",) if self.halves == "parallel" else ("lambda_1", "lambda_2")

    def drop_path_rates(self, layers: int) -> list[float]:
        """How often each of the layers is skipped in training."""
        if self.drop_path_growth == "constant":
            return [self.drop_path_rate] * layers
        return [self.drop_path_rate * layer / max(layers - 1, 1) for layer in range(layers)]


def option_names() -> list[str]:
    """The names of the options."""
    return [field.name for field in fields(Architecture)]


@functools.cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Architecture)


@functools.cache
def choices(option: str) -> tuple[str, ...]:
    """The values of an option that is one of several names; empty for any other option."""
    hint = _hints()[option]
    names = [value for each in (hint, *get_args(hint)) for value in get_args(each) if isinstance(value, str)]
    return tuple(dict.fromkeys(names))
