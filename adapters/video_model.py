"""Loading video models, and asking them: prompts, frames, answers, by one prefill each."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Cache,
    LlavaNextVideoForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.adapters.chat import VICUNA, Chat
from transfer.adapters.kinds import find_model
from transfer.adapters.llava_next_video import LlavaNextVideoAdapter
from transfer.adapters.loading import first_line, load_weights, unloadable
from transfer.adapters.preprocessing import (
    Preprocessing,
    load_chat_template,
    load_patch_size,
    load_preprocessing,
)
from transfer.arguments import typed
from transfer.errors import UserError
from transfer.tasks.text import check_text
from transfer.tasks.video_records import FRAME, VIDEO, Prompt
from transfer.video.frames import Clip

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class VideoFeatures:
    """Frames as the text model sees them; encoded once, used under every policy.

    Attributes:
        tensor: in the places of the prompt's video tokens.
        frames: how many they are.
    """

    tensor: Float[Tensor, "1 tokens hidden"]
    frames: int

    @property
    def tokens(self) -> int:
        """Video tokens that they take."""
        return self.tensor.shape[1]


@dataclass(frozen=True)
class VideoModel:
    """A LLaVA-NeXT-Video with everything that turns questions and frames into its inputs.

    Attributes:
        model: in evaluation mode.
        tokenizer: of the checkpoint.
        adapter: of the model.
        preprocessing: of frames.
        chat: the conversation around a question.
        name: as it was asked for; of a folder, its last part.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    adapter: LlavaNextVideoAdapter
    preprocessing: Preprocessing
    chat: Chat
    name: str

    @property
    def tokens_per_frame(self) -> int:
        """Video tokens of one frame."""
        return self.adapter.tokens_per_frame

    @typed
    def encode(self, clip: Clip | UInt8[np.ndarray, "frames height width 3"]) -> VideoFeatures:
        """Send frames through the vision tower, once for all questions and policies."""
        pixels = clip.pixels if isinstance(clip, Clip) else clip
        return VideoFeatures(self.adapter.encode(self.preprocessing(pixels)), len(pixels))

    @typed
    def prompt_ids(self, prompt: Prompt, frames: int) -> Int[Tensor, "1 tokens"]:
        """Tokens of a prompt with room for so many frames, as the official processor's.

        Args:
            prompt: of which one part is `VIDEO`, or a part `FRAME` for each frame, or neither.
            frames: of the video; without a place for it in the prompt, they do not matter.

        Raises:
            UserError: the prompt is longer than the model's positions, or its parts are wrong.
        """
        here = self._frames_of_parts(prompt, frames)
        for text in (prompt.system, *prompt.parts):
            check_text(text, self.tokenizer, self.adapter.positions, "a part of the prompt")
        token = str(self.tokenizer.convert_ids_to_tokens(self.model.config.video_token_index))
        room = [token * count * self.tokens_per_frame for count in here]
        user = "".join(text or part for text, part in zip(room, prompt.parts))
        ids = self.chat.encode(self.chat.render(user, prompt.system, prompt.prefill))
        tensor = torch.tensor([ids], device=self.model.device)
        video = sum(here) * self.tokens_per_frame
        if int(self.is_video(tensor).sum()) != video:
            raise UserError(
                f"the question holds the model's own token {token}; write it in another way"
            )
        if len(ids) > self.adapter.positions:
            fit = max(0, self.adapter.positions - (len(ids) - video)) // self.tokens_per_frame
            raise UserError(
                f"the prompt has {len(ids)} tokens, {video} of them for {sum(here)} frames, and the"
                f" model has {self.adapter.positions} positions; {fit} frames fit"
            )
        return tensor

    def _frames_of_parts(self, prompt: Prompt, frames: int) -> list[int]:
        """How many frames stand in the place of each part."""
        whole, single = prompt.parts.count(VIDEO), prompt.parts.count(FRAME)
        if (whole and single) or whole > 1 or single not in (0, frames):
            raise UserError(
                f"a prompt for {frames} frames has {whole} parts {VIDEO} and {single} parts {FRAME}"
                f"; use {VIDEO} once, or {FRAME} for each frame"
            )
        return [{VIDEO: frames, FRAME: 1}.get(part, 0) for part in prompt.parts]

    def is_video(self, ids: Int[Tensor, "1 tokens"]) -> Bool[Tensor, "1 tokens"]:
        """Which tokens of a prompt stand for frames."""
        return self.adapter.is_video(ids)

    @typed
    @torch.no_grad()
    def prefill(
        self,
        ids: Int[Tensor, "1 tokens"],
        features: VideoFeatures | None,
        cache: Cache | None,
        chunk: int | None = None,
    ) -> Float[Tensor, "1 vocabulary"]:
        """Read a prompt into a cache.

        Args:
            ids: of the prompt.
            features: of its video; None where the prompt has none.
            cache: empty, made by `memory.new_cache()` where a policy prunes; None: nothing is kept.
            chunk: tokens read at once, to bound memory; None, or without a cache: all of them.

        Returns:
            Logits of the token after the prompt.

        Raises:
            UserError: the prompt has room for other frames than the features', or a chunk has no
                token.
        """
        if chunk is not None and chunk < 1:
            raise UserError(f"chunk is {chunk}; use 1 token or more, or None")
        embeddings = self.adapter.embed(ids, None if features is None else features.tensor)
        step = ids.shape[1] if chunk is None or cache is None else chunk
        logits = embeddings.new_zeros(1, 0)
        for piece in embeddings.split(step, 1):
            logits = self._forward(cache, inputs_embeds=piece)
        return logits

    @typed
    def check_answers(self, answers: Sequence[str], prefill: str = "") -> None:
        """Refuse answers that the model cannot tell apart, as their likelihoods would say nothing.

        Args:
            answers: letters or words.
            prefill: of the prompt.

        Raises:
            UserError: two of them are the same tokens, or one is a word the model does not know.
        """
        tokens = [tuple(self.chat.encode_answer(answer, prefill)) for answer in answers]
        unknown = self.tokenizer.unk_token_id
        bad = [a for a, cut in zip(answers, tokens) if unknown in cut or tokens.count(cut) > 1]
        if bad:
            raise UserError(
                f"the model cannot tell the answers {', '.join(map(repr, bad))} from others, as its"
                " vocabulary lacks them or they are the same; use other answers or another model"
            )

    @typed
    @torch.no_grad()
    def option_log_likelihoods(
        self,
        logits: Float[Tensor, "1 vocabulary"],
        cache: Cache | None,
        answers: Sequence[str],
        prefill: str = "",
    ) -> list[float]:
        """Log-likelihood of every answer right after a prompt; the cache stays as it is.

        Args:
            logits: of `prefill`.
            cache: after it; only read for answers of several tokens, on copies.
            answers: letters or words.
            prefill: of the prompt, as it decides how an answer is cut into tokens.

        Raises:
            UserError: an answer of several tokens, and no cache.
        """
        tokens = [self.chat.encode_answer(answer, prefill) for answer in answers]
        first = _exact(logits[0]).log_softmax(-1)
        return [
            float(first[token]) + (self._rest(cache, [token, *rest]) if rest else 0.0)
            for token, *rest in tokens
        ]

    def _rest(self, cache: Cache | None, tokens: list[int]) -> float:
        """Log-likelihood of an answer's tokens behind the first."""
        if cache is None:
            raise UserError("answers of several tokens need the prompt's cache; prefill with one")
        ids = torch.tensor([tokens], device=self.model.device)
        logits = self.model(ids[:, :-1], cache=deepcopy(cache)).logits
        chosen = _exact(logits).log_softmax(-1).gather(-1, ids[:, 1:, None].to(logits.device))
        return float(chosen.sum())

    @typed
    @torch.no_grad()
    def generate(self, logits: Float[Tensor, "1 vocabulary"], cache: Cache, most: int) -> str:
        """Go on greedily from a prefilled cache, which grows.

        Args:
            logits: of `prefill`.
            cache: after it.
            most: new tokens, unless the model ends before.
        """
        ends = self._ends()
        tokens: list[int] = []
        while len(tokens) < most:
            token = int(logits[0].argmax())
            if token in ends:
                break
            tokens.append(token)
            if len(tokens) < most:
                logits = self._forward(cache, torch.tensor([[token]], device=self.model.device))
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _ends(self) -> list[Any]:
        end: Any = getattr(self.model.generation_config, "eos_token_id", None)
        return [self.tokenizer.eos_token_id, *(end if isinstance(end, list) else [end])]

    def _forward(
        self, cache: Cache | None, ids: Tensor | None = None, **inputs: Tensor
    ) -> Float[Tensor, "1 vocabulary"]:
        outputs = self.model(
            ids, cache=cache, use_cache=cache is not None, logits_to_keep=1, **inputs
        )
        return outputs.logits[:, -1]


def _exact(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


@typed
def load_video_model(
    name: str | Path,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> VideoModel:
    """Load a shipped video model, a local folder, or a repository of the Hub.

    Args:
        name: `llava-next-video` is the one shipped.
        dtype: of the weights; None: as they are stored, or float32 where the CPU has no arithmetic
            for that; shipped ones in float32.
        device_map: of `from_pretrained`, as "auto".
        trust_remote_code: run the Python that its tokenizer brings; the model is of transformers.
        device: where it computes: auto, cpu, cuda, cuda:1, mps; None: the CPU, or as `device_map`
            says.

    Raises:
        UserError: nothing of that name, another family, files that are missing or damaged, or the
            device cannot be used.
    """
    source = find_model(name, "video")
    path = source.path
    model = load_weights(
        LlavaNextVideoForConditionalGeneration,
        path,
        partial(unloadable, "video"),
        dtype=dtype or (torch.float32 if source.shipped else None),
        device=device,
        small=source.shipped,
        device_map=device_map,
    )
    adapter = LlavaNextVideoAdapter(model)
    preprocessing = load_preprocessing(path)
    _check_pictures(path, adapter, preprocessing)
    tokenizer = _load_tokenizer(path, trust_remote_code)
    chat = Chat(tokenizer, load_chat_template(path) or _own_template(tokenizer) or VICUNA)
    return VideoModel(model, tokenizer, adapter, preprocessing, chat, source.title)


def _load_tokenizer(source: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(
            f"{source} has no tokenizer ({' or '.join(_TOKENIZER_FILES)});"
            " save the model's processor there"
        )
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    # The tokenizers of damaged files raise what they like, as KeyError or Exception itself.
    except Exception as error:
        raise UserError(
            f"the tokenizer of {source} ({', '.join(_TOKENIZER_FILES)} or tokenizer_config.json)"
            f" cannot be loaded ({first_line(error)}); save or download it again"
        ) from error


def _own_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _check_pictures(
    source: str, adapter: LlavaNextVideoAdapter, preprocessing: Preprocessing
) -> None:
    """Refuse files of a processor that belongs to another vision tower."""
    vision, patch = adapter.model.config.vision_config, load_patch_size(source)
    side = vision.image_size
    if patch not in (None, vision.patch_size):
        raise UserError(
            f"{source} has a processor for patches of {patch} pixels and a vision tower for"
            f" {vision.patch_size}; save the model's own processor there"
        )
    made = preprocessing.crop or preprocessing.size
    if made not in ((side, side), None):
        raise UserError(
            f"{source} has a processor that makes frames of {made} pixels and a vision tower for"
            f" {side} x {side}; save the model's own processor there"
        )
