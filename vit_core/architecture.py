"""Architecture: what a Vision Transformer is made of, one field an option.

The families translate their configs into it (`vit_core.families`), and the backends build from it: neither they nor the
table of parameters asks what type of model it has. The defaults are those of the first Vision Transformer
(Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929). Sizes stay in the config.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from vit_core.checks import require_choice, require_number

PREFIX_TOKENS = ("cls_token", "distillation_token")

#: Positions that are added to the tokens: trained, or the fixed sines and cosines of MAE.
AbsolutePositions = Literal["learned", "sincos"]
#: Positions that are added to the scores of attention: a table in each layer, or one for all of them.
RelativePositions = Literal["layers", "shared"]
#: A summary of the image: a dense layer and tanh over the class token; LayerNorm of the mean of the patches; the class
#: token as it is.
Pooler = Literal["dense", "mean-norm", "class-token"]
#: What the classifier reads, after the last LayerNorm: the class token, the pooler's output, the mean of the patches.
Summary = Literal["class-token", "pooler", "mean"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a Vision Transformer is made of.

    Attributes:
        prefix_tokens: names of the tokens before the patches. The distillation token is DeiT's (Touvron et al. 2020,
            https://arxiv.org/abs/2012.12877, section 4). Without a class token, nothing can read it.
        absolute_positions: see `AbsolutePositions` (He et al. 2021, https://arxiv.org/abs/2111.06377, appendix A.1);
            None where there are relative positions alone.
        resamples_unasked: whether images may have any size without `interpolate_pos_encoding`.
        embedding_dropout: whether there is dropout after the embeddings, as often as `hidden_dropout_prob` says.
        mask_token: whether the base model has one in every task; None where the task or the constructor decides.
        key_bias: whether keys have a bias where queries and values have one; one for all keys changes no attention
            (Bao et al. 2021, https://arxiv.org/abs/2106.08254, leave it out).
        relative_positions: see `RelativePositions` (BEiT, after Raffel et al. 2019, https://arxiv.org/abs/1910.10683).
        layer_scale: the start of the trained factors, one a channel, of what each half of a layer adds (Touvron et al.
            2021, https://arxiv.org/abs/2103.17239, equation 4); None has no such factors.
        drop_path_rate: how often the last layer is skipped for an image in training, and the layers before it less
            often, in even steps from 0 (Huang et al. 2016, https://arxiv.org/abs/1603.09382, section 3).
        final_norm: whether there is a LayerNorm after the last layer.
        pooler: see `Pooler`.
        has_pooler: whether the base model has it, where its constructor is not told.
        classifier_reads: see `Summary`.
        masked_from: the first of the tokens that stand for the patches in masked image modeling; None for the first
            patch. DeiT's published model counts from the distillation token.
    """

    prefix_tokens: tuple[str, ...] = ("cls_token",)
    absolute_positions: AbsolutePositions | None = "learned"
    resamples_unasked: bool = False
    embedding_dropout: bool = True
    mask_token: bool | None = None
    key_bias: bool = True
    relative_positions: RelativePositions | None = None
    layer_scale: float | None = None
    drop_path_rate: float = 0.0
    final_norm: bool = True
    pooler: Pooler | None = "dense"
    has_pooler: bool = True
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
        if "cls_token" not in self.prefix_tokens and self.classifier_reads == "class-token":
            raise ValueError("classifier_reads is 'class-token', and prefix_tokens have none; choose 'mean'.")
        if self.layer_scale is not None:
            require_number("layer_scale", self.layer_scale, 0.0, 1e6)
        require_number("drop_path_rate", self.drop_path_rate, 0.0, 1.0, upper_included=False)

    @property
    def num_prefix_tokens(self) -> int:
        """How many tokens stand before the patches."""
        return len(self.prefix_tokens)

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
        pooled = self.classifier_reads == "pooler" and self.pooler != "mean-norm"
        return bool(self.prefix_tokens) and (self.classifier_reads == "class-token" or pooled)

    def drop_path_rates(self, layers: int) -> list[float]:
        """How often each of the layers is skipped in training."""
        return [self.drop_path_rate * layer / max(layers - 1, 1) for layer in range(layers)]


def option_names() -> list[str]:
    """The names of the options."""
    return [field.name for field in fields(Architecture)]


def choices(option: str) -> tuple[str, ...]:
    """The values of an option that is one of several names; empty for any other option."""
    hint = get_type_hints(Architecture)[option]
    names = [value for each in (hint, *get_args(hint)) for value in get_args(each) if isinstance(value, str)]
    return tuple(dict.fromkeys(names))
