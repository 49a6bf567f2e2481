"""A checkpoint's chat template: what is put around a question and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from transfer.errors import UserError

#: Vicuna's, for checkpoints that come without one.
VICUNA = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Chat:
    """Turns questions into text and tokens.

    Attributes:
        tokenizer: of the checkpoint.
        template: of the checkpoint, in Jinja.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str

    def render(self, user: str, system: str = "", prefill: str = "") -> str:
        """A conversation up to where the assistant goes on.

        A system text that the template has no place for stands at the beginning of the user's turn.

        Args:
            user: the user's turn.
            system: what the conversation begins with.
            prefill: how the assistant's turn begins.

        Raises:
            UserError: the template cannot be used.
        """
        if system:
            try:
                text = self._apply([("system", system), ("user", user)], prefill)
            except (TemplateError, ValueError):
                text = ""
            if system in text:
                return text
            user = f"{system}\n{user}"
        try:
            return self._apply([("user", user)], prefill)
        except (TemplateError, ValueError, TypeError) as error:
            raise UserError(
                f"the checkpoint's chat template fails ({error}); correct its chat_template.jinja"
            ) from error

    def render_video(self, behind: str, system: str = "", prefill: str = "") -> str:
        """A conversation whose user shows a video, where the template says how that is written.

        Args:
            behind: what the user says of it.
            system: what the conversation begins with.
            prefill: how the assistant's turn begins.

        Returns:
            It; empty: the template knows no videos, or has no place for a system's text.
        """
        parts = [{"type": "video"}, {"type": "text", "text": behind}]
        turns = [("system", self._content(system))] if system else []
        try:
            text = self._laid([*turns, ("user", parts)], prefill)
        except (TemplateError, ValueError, TypeError):
            return ""
        return text if system in text and behind in text else ""

    def _apply(self, turns: Sequence[tuple[str, str]], prefill: str) -> str:
        return self._laid([(role, self._content(text)) for role, text in turns], prefill)

    def _laid(self, turns: Sequence[tuple[str, Any]], prefill: str) -> str:
        if prefill:
            turns = [*turns, ("assistant", self._content(prefill))]
        messages: list[dict[str, Any]] = [
            {"role": role, "content": content} for role, content in turns
        ]
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                chat_template=self.template,
                tokenize=False,
                add_generation_prompt=not prefill,
                continue_final_message=bool(prefill),
            )
        )

    def _content(self, text: str) -> str | list[dict[str, str]]:
        """Text as the template reads it: as a list of parts, or as it is."""
        listed = any(name in self.template for name in ("'text'", '"text"', ".text"))
        return [{"type": "text", "text": text}] if listed else text

    def encode(self, text: str) -> list[int]:
        """Tokens of a conversation, with what the tokenizer puts at its beginning.

        Raises:
            UserError: the text holds half a surrogate pair, as JSON and command lines may.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"the question holds {text[error.start]!a}, which is no character; remove it"
            ) from error
        begun = bool(self.tokenizer.bos_token) and text.startswith(str(self.tokenizer.bos_token))
        # Not verbose: some tokenizers warn beyond a length that is not the model's.
        return self.tokenizer(text, add_special_tokens=not begun, verbose=False).input_ids

    def encode_answer(self, answer: str, prefill: str = "") -> list[int]:
        """Tokens of what the assistant says right after `prefill`.

        They depend on what stands before: many tokenizers know a word with a space before it and
        one without.
        """
        before = self.encode(self.render("?", prefill=prefill))
        whole = self.encode(self.render("?", prefill=prefill + answer))
        if whole[: len(before)] == before and len(whole) > len(before):
            return whole[len(before) :]
        return self.tokenizer(answer, add_special_tokens=False).input_ids
