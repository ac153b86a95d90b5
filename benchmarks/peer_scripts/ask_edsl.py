"""Ask a workload with EDSL, as its documentation does for a self-hosted server: the service ``openai_compatible``.

Knows EDSL. Everything that would hold it back or leave the machine is off: remote inference, remote cache, its cache of
replies, its limits a minute, prices, questions before it starts. Deliberately leaves its own stream of finished
interviews to disk on: there is no option for it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"EDSL_FETCH_TOKEN_PRICES": "False", "EDSL_OPEN_EXCEPTION_REPORT_URL": "False"}  # read at import

from edsl import Agent, AgentList, Cache, Model, QuestionMultipleChoice, Survey

#: Requests and tokens a minute: more than there will be.
NO_LIMIT = 1_000_000_000


def main() -> None:
    """Ask everything and keep the answers."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["OPENAI_COMPATIBLE_BASE_URL"] = asked["server"]
    survey = Survey(
        [
            QuestionMultipleChoice(
                question_name=question["id"].lower(),
                question_text=question["text"],
                question_options=question["options"],
                use_code=True,
                include_comment=False,
            )
            for question in asked["questions"]
        ]
    )
    agents = AgentList([Agent(traits={"persona": persona}) for persona in asked["personas"]])
    model = Model(asked["model"], service_name="openai_compatible", max_tokens=512)
    model.rpm = model.tpm = NO_LIMIT
    results = (
        survey.by(agents)
        .by(model)
        .run(
            cache=Cache(),
            disable_remote_cache=True,
            disable_remote_inference=True,
            offload_execution=False,
            use_api_proxy=False,
            check_api_keys=False,
            fresh=True,
            progress_bar=False,
            print_exceptions=False,
            verbose=False,
            max_concurrency=asked["concurrency"],
        )
    )
    columns = [f"answer.{question['id'].lower()}" for question in asked["questions"]]
    answers = results.select(*columns)
    answers.to_csv("answers.csv")
    answered = sum(value is not None for column in answers.data for values in column.values() for value in values)
    expected = len(columns) * len(asked["personas"])
    if answered != expected:
        sys.exit(f"EDSL: {answered} answers, expected {expected}")


if __name__ == "__main__":
    main()
