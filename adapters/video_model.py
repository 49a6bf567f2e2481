"""Loading video models, and asking them: prompts, frames, answers, by one prefill each."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Cache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from transfer.adapters.chat import VICUNA, Chat
from transfer.adapters.kinds import find_model
from transfer.adapters.loading import first_line, load_weights, unloadable
from transfer.adapters.preprocessing import (
    Preprocessing,
    load_chat_template,
    load_patch_size,
    load_preprocessing,
)
from transfer.adapters.video_adapter import Layout, VideoAdapter
from transfer.arguments import typed
from transfer.attachment.adapter import get_adapter
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
        layout: how they lie there.
    """

    tensor: Float[Tensor, "1 tokens hidden"]
    layout: Layout

    @property
    def frames(self) -> int:
        """How many they are."""
        return self.layout.frames

    @property
    def tokens(self) -> int:
        """Video tokens that they take."""
        return self.tensor.shape[1]


@dataclass(frozen=True)
class VideoModel:
    """A video model with everything that turns questions and frames into its inputs.

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
    adapter: VideoAdapter
    preprocessing: Preprocessing
    chat: Chat
    name: str

    @typed
    def encode(self, clip: Clip | UInt8[np.ndarray, "frames height width 3"]) -> VideoFeatures:
        """Send frames through the vision tower, once for all questions and policies."""
        prepared = self.preprocessing(clip.pixels if isinstance(clip, Clip) else clip)
        frames, size = prepared.shape[1], (prepared.shape[3], prepared.shape[4])
        layout = Layout(frames, self.adapter.grid(frames, size))
        if isinstance(clip, Clip):
            layout = replace(layout, seconds=clip.seconds, duration=clip.duration)
        return VideoFeatures(self.adapter.encode(prepared), layout)

    @typed
    def prompt_ids(self, prompt: Prompt, video: VideoFeatures | int) -> Int[Tensor, "1 tokens"]:
        """Tokens of a prompt with room for a video, as the official processor's.

        Args:
            prompt: of which one part is `VIDEO`, or a part `FRAME` for each frame, or neither.
            video: what stands there; or frames, of models whose frames all take the same room.
                Without a place for it in the prompt, it does not matter.

        Raises:
            UserError: the prompt is longer than the model's positions, or its parts are wrong, or
                the model has to know more of the video.
        """
        for text in (prompt.system, *prompt.parts):
            check_text(text, self.tokenizer, self.adapter.positions, "a part of the prompt")
        rooms = self._rooms(prompt, video)
        text = self._as_processor(prompt, rooms) or self._as_text(prompt, rooms)
        ids = self.chat.encode(text)
        tensor = torch.tensor([ids], device=self.model.device)
        token, room = self._word(self.adapter.video_token), "".join(filter(None, rooms))
        if int(self.is_video(tensor).sum()) != room.count(token):
            raise UserError(
                f"the question holds the model's own token {token}; write it in another way"
            )
        if len(ids) > self.adapter.positions:
            raise self._too_long(len(ids), room, video)
        return tensor

    def _word(self, token: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token))

    def _rooms(self, prompt: Prompt, video: VideoFeatures | int) -> list[str | None]:
        """What is written in the place of each part; None: itself, as it is a text."""
        frames = video if isinstance(video, int) else video.frames
        whole, single = prompt.parts.count(VIDEO), prompt.parts.count(FRAME)
        if (whole and single) or whole > 1 or single not in (0, frames):
            raise UserError(
                f"a prompt for {frames} frames has {whole} parts {VIDEO} and {single} parts {FRAME}"
                f"; use {VIDEO} once, or {FRAME} for each frame"
            )
        if not whole and not single:
            return [None] * len(prompt.parts)
        adapter = self.adapter
        layout = Layout(video, adapter.grid(video)) if isinstance(video, int) else video.layout
        if whole:
            written = iter([adapter.whole(layout, self._word)])
        else:
            written = iter(adapter.apart(layout, self._word))
        return [next(written) if part in (VIDEO, FRAME) else None for part in prompt.parts]

    def _as_processor(self, prompt: Prompt, rooms: Sequence[str | None]) -> str:
        """A video and a text behind it, with between them what the chat template puts there.

        Returns:
            The conversation; empty: the parts are others, or the template has no place for them.
        """
        placeholder = self.adapter.placeholder(self._word)
        behind = "".join(prompt.parts[1:])
        if not placeholder or prompt.parts[:1] != (VIDEO,) or not behind.startswith("\n"):
            return ""
        text = self.chat.render_video(behind[1:], prompt.system, prompt.prefill)
        return text.replace(placeholder, rooms[0] or "") if text.count(placeholder) == 1 else ""

    def _as_text(self, prompt: Prompt, rooms: Sequence[str | None]) -> str:
        written = zip(rooms, prompt.parts)
        user = "".join(part if room is None else room for room, part in written)
        return self.chat.render(user, prompt.system, prompt.prefill)

    def _too_long(self, tokens: int, room: str, video: VideoFeatures | int) -> UserError:
        frames = (video if isinstance(video, int) else video.frames) if room else 0
        inside = len(self.tokenizer(room, add_special_tokens=False).input_ids)
        each = max(1, -(-inside // max(1, frames)))
        fit = max(0, self.adapter.positions - (tokens - inside)) // each
        return UserError(
            f"the prompt has {tokens} tokens, {inside} of them for {frames} frames, and the"
            f" model has {self.adapter.positions} positions; {fit} frames fit"
        )

    def unknown_words(self, *texts: str) -> tuple[str, ...]:
        """Words of texts that the model's vocabulary lacks, so that it reads nothing there.

        Each once, in their order. Vocabularies that know all characters lack none.
        """
        if self.tokenizer.unk_token_id is None or not self.tokenizer.is_fast:
            return ()
        found: dict[str, None] = {}
        for text in texts:
            cut = self.tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for token, (start, end) in zip(cut.input_ids, cut.offset_mapping):
                if token == self.tokenizer.unk_token_id:
                    found[text[start:end]] = None
        return tuple(found)

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
            cache: made by `memory.new_cache()` where a policy prunes; the prompt comes behind what
                it holds. None: nothing is kept.
            chunk: tokens read at once, to bound memory; None, or without a cache: all of them.

        Returns:
            Logits of the token after the prompt.

        Raises:
            UserError: the prompt has room for other frames than the features', or a chunk has no
                token.
        """
        if chunk is not None and chunk < 1:
            raise UserError(f"chunk is {chunk}; use 1 token or more, or None")
        tensor, layout = (None, None) if features is None else (features.tensor, features.layout)
        inputs = self.adapter.inputs(ids, tensor, layout, cache)
        step = ids.shape[1] if chunk is None or cache is None else chunk
        logits = inputs["inputs_embeds"].new_zeros(1, 0)
        for start in range(0, ids.shape[1], step):
            piece = {
                name: each[..., start : start + step]
                if name == "position_ids"
                else each[:, start : start + step]
                for name, each in inputs.items()
            }
            logits = self._forward(cache, **piece)
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
        ids, cache = torch.tensor([tokens], device=self.model.device), deepcopy(cache)
        logits = self.model(**self.adapter.following(ids[:, :-1], cache), cache=cache).logits
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
                ids = torch.tensor([[token]], device=self.model.device)
                logits = self._forward(cache, **self.adapter.following(ids, cache))
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def _ends(self) -> list[Any]:
        end: Any = getattr(self.model.generation_config, "eos_token_id", None)
        return [self.tokenizer.eos_token_id, *(end if isinstance(end, list) else [end])]

    def _forward(self, cache: Cache | None, **inputs: Tensor) -> Float[Tensor, "1 vocabulary"]:
        outputs = self.model(cache=cache, use_cache=cache is not None, logits_to_keep=1, **inputs)
        return outputs.logits[:, -1]


def unknown_words_said(words: Sequence[str]) -> str:
    """What to expect of an answer to words that the vocabulary lacks, as a sentence."""
    named = ", ".join(map(repr, words))
    return f"the model does not know {named}, and answers as if that were not there"


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
        AutoModelForImageTextToText,
        path,
        partial(unloadable, "video"),
        dtype=dtype or (torch.float32 if source.shipped else None),
        device=device,
        small=source.shipped,
        device_map=device_map,
    )
    adapter: Any = get_adapter(model)
    preprocessing = load_preprocessing(path, adapter.preprocessing)
    _check_processor(path, adapter, preprocessing)
    tokenizer = _load_tokenizer(path, trust_remote_code)
    template = adapter.chat_template or load_chat_template(path) or _own_template(tokenizer)
    chat = Chat(tokenizer, template or VICUNA)
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


def _check_processor(source: str, adapter: VideoAdapter, preprocessing: Preprocessing) -> None:
    """Refuse files of a processor that belongs to another vision tower."""
    vision, patch = adapter.model.config.vision_config, load_patch_size(source)
    if patch not in (None, vision.patch_size):
        raise UserError(
            f"{source} has a processor for patches of {patch} pixels and a vision tower for"
            f" {vision.patch_size}; save the model's own processor there"
        )
    adapter.check_processor(source, preprocessing)
