"""The tokenizer of the calendar model: one token per word, number, letter or sign."""

from typing import TYPE_CHECKING

from mechfourier.toys.calendar.task import NUMBERS, operations
from mechfourier.toys.calendar.text import filler_sentences, training_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN = "<unk>"
END = "<|endoftext|>"  # padding and end of text, as in Qwen3; there is no beginning-of-text token
# A number, a word (with its apostrophe: o'clock), or one sign; blanks only separate.
PATTERN = r"\d+|[A-Za-z]+(?:'[a-z]+)?|[^\sA-Za-z\d]"


def vocabulary() -> dict[str, int]:
    """Token -> id: the two special tokens, the numbers, then the words of the corpus in alphabetical
    order."""
    import re

    texts = [s.prompt + s.answer for operation in operations() for s in operation.sentences]
    texts += [*training_text(), *filler_sentences()[1]]
    words = {word for text in texts for word in re.findall(PATTERN, text)}
    numbers = [str(number) for number in range(NUMBERS)]
    ordered = [UNKNOWN, END, *numbers, *sorted(words - set(numbers))]
    return {word: index for index, word in enumerate(ordered)}


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """A Hugging Face tokenizer over ``vocabulary``; unknown words become ``<unk>``, nothing is added to a
    prompt."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Sequence, Split, WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Split(Regex(PATTERN), "isolated")])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=END, model_max_length=64
    )
