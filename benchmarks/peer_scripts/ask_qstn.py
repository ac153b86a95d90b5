"""Ask a workload with QSTN, as its documentation does for a server: AsyncOpenAI, single items, answers as a table.

Knows QSTN. Deliberately leaves out the progress bar and puts the options into the question's text, which is the least
that QSTN can be asked to do. QSTN asks one question of all participants, waits for all, and goes on to the next.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import qstn
from openai import AsyncOpenAI


def main() -> None:
    """Ask everything and keep the answers."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    items = [
        {
            "questionnaire_item_id": question["id"],
            "question_content": "\n".join(
                [question["text"], *(f"{code}: {label}" for code, label in enumerate(question["options"], 1))]
            ),
        }
        for question in asked["questions"]
    ]
    questionnaire = pd.DataFrame(items)
    interviews = [
        qstn.prompt_builder.LLMPrompt(
            questionnaire_source=questionnaire,
            questionnaire_name=f"participant {number}",
            system_prompt=persona,
            prompt=f"Answer with the option's number.\n{qstn.utilities.placeholder.PROMPT_QUESTIONS}",
        )
        for number, persona in enumerate(asked["personas"])
    ]
    results = qstn.survey_manager.conduct_survey_single_item(
        AsyncOpenAI(base_url=asked["server"], api_key="none"),
        interviews,
        client_model_name=asked["model"],
        api_concurrency=asked["concurrency"],
        print_progress=False,
        max_tokens=512,
    )
    tables = qstn.parser.raw_responses(results)
    answers = pd.concat(tables.values(), keys=[prompt.questionnaire_name for prompt in tables])
    answers.to_csv("answers.csv")
    answered = int((answers["llm_response"] == "1").sum())
    if answered != len(items) * len(interviews):
        sys.exit(f"QSTN: {answered} answers, expected {len(items) * len(interviews)}")


if __name__ == "__main__":
    main()
