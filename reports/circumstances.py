"""The circumstances of a finding: languages asked in, weights that answered, and replies that were held to options."""

from __future__ import annotations

import re
from collections.abc import Mapping

from defsurvey.reports.analysis import Analysis, CultureAnalysis
from defsurvey.reports.number_format import NAMED, counted, listed
from defsurvey.storage.runs.run import Reply

#: English names of the languages that surveys of several countries are asked in, by ISO 639 code.
_LANGUAGES = {
    "am": "Amharic", "ar": "Arabic", "bn": "Bengali", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "ha": "Hausa", "he": "Hebrew",
    "hi": "Hindi", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "ka": "Georgian", "kk": "Kazakh", "ko": "Korean", "ky": "Kyrgyz", "mn": "Mongolian", "ms": "Malay", "my": "Burmese",
    "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian",
    "ru": "Russian", "sk": "Slovak", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu",
    "tg": "Tajik", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "yue": "Cantonese", "zh": "Chinese",
}  # fmt: skip
#: What :func:`weights_loaded` says of an engine's description.
SAID_OF_WEIGHTS = ("quantisation", "published_in", "weights_format", "weights_type")


def language_name(code: str) -> str:
    """A language's English name, or its code."""
    return _LANGUAGES.get(code, code)


def circumstances(analysis: Analysis) -> str:
    """The sentences that stand beside the finding."""
    return " ".join((_languages(analysis), *_weights(analysis), *_bare(analysis)))


def languages_asked(culture: CultureAnalysis) -> tuple[str, str]:
    """The languages a culture was asked in, in words, and its own where that is none of them."""
    asked = list(dict.fromkeys(cell.cell.language for cell in culture.cells))
    own = culture.culture.spoken or culture.culture.language
    return listed([language_name(code) for code in asked]), "" if own in asked else language_name(own)


def _languages(analysis: Analysis) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for culture in analysis.cultures:
        groups.setdefault(languages_asked(culture), []).append(culture.named)
    if len(groups) > NAMED:
        foreign = sum(len(names) for (_, own), names in groups.items() if own)
        spoken = sorted({language for language, _ in groups})
        told = f"{counted(len(analysis.cultures), 'culture')} were asked in {listed(spoken)}"
        return told + (f", {foreign} of them not in their own language." if foreign else ".")
    clauses = []
    for (language, own), names in groups.items():
        one, who = len(names) == 1, listed(names) if len(names) <= NAMED else counted(len(names), "culture")
        otherwise = f", not in {'its' if one else 'their'} own language, {own}" if own else ""
        clauses.append(f"{who} {'was' if one else 'were'} asked in {language}{otherwise}")
    said = "; ".join(clauses)
    return f"{said[:1].upper()}{said[1:]}."


def _weights(analysis: Analysis) -> tuple[str, ...]:
    """Which models answered from quantised weights; nothing where none did."""
    groups: dict[str, list[str]] = {}
    for model, description in analysis.results.engines.items():
        if said := quantised(description):
            groups.setdefault(said, []).append(model)
    models = sum(map(len, groups.values()))
    if models > NAMED:
        return (f"{counted(models, 'model')} answered from quantised weights: provenance says which.",)
    return tuple(f"{listed(names)} answered from {said}." for said, names in groups.items())


def _bare(analysis: Analysis) -> tuple[str, ...]:
    """That replies could name options alone; nothing where they could say more."""
    if analysis.results.run.protocol.reply is not Reply.CHOICE:
        return ()
    told = "Replies could name options and nothing else (reply: choice), unlike the paper's"
    return (f"{told}: no answer is explained, and that every answer is valid is no merit of the models.",)


def quantised(description: Mapping[str, str]) -> str:
    """The weights that an engine described, where they are or were quantised; else empty.

    >>> quantised({"weights_format": "GGUF", "weights_type": "Q4_1", "dtype": "float32", "quantisation": "none"})
    '4-bit weights (GGUF, Q4_1), dequantised to float32'
    >>> quantised({"quantisation": "nf4", "dtype": "bfloat16"}), quantised({"quantisation": "none"})
    ('weights made 4-bit (NF4) while loading, computed in bfloat16', '')
    """
    dtype = description.get("dtype", "an unknown number format")
    kind = description.get("weights_type", "") if description.get("weights_format") == "GGUF" else ""
    if kind and not kind.endswith(("F16", "F32")):
        bits = re.search(r"\d", kind)
        return f"{f'{bits[0]}-bit' if bits else 'quantised'} weights (GGUF, {kind}), dequantised to {dtype}"
    held = description.get("quantisation", "none")
    if held == "nf4":
        return f"weights made 4-bit (NF4) while loading, computed in {dtype}"
    published = description.get("published_in", "" if held == "none" else held)
    return f"weights published in {published}, computed in {dtype}" if published else ""


def weights_loaded(description: Mapping[str, str]) -> str:
    """The same for provenance, which also says that weights were not quantised; empty where no weights were loaded."""
    if "dtype" not in description:
        return ""
    file = description.get("weights_format", "")
    plain = f"not quantised{f' ({file})' if file else ''}, held in {description['dtype']}"
    return quantised(description) or plain
