"""The licences of the family's weights, in a sentence each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence of weights. `must_be_accepted`: nothing is fetched before somebody accepted it."""

    title: str
    summary: str
    must_be_accepted: bool


ZHINAO_V1 = Licence(
    "360智脑开源模型许可证",
    "These weights are free for non-commercial use; commercial use needs an application to 360 by "
    "e-mail, and a converted, quantised or fine-tuned model stays under the same licence.",
    must_be_accepted=True,
)
APACHE = Licence(
    "Apache-2.0", "These weights are free, for commercial use too.", must_be_accepted=False
)
LLAMA_3 = Licence(
    "Meta Llama 3 Community License",
    "These weights derive from Llama 3: its licence and its acceptable-use policy apply, whatever "
    "the model's card says.",
    must_be_accepted=True,
)


def licence_of(terms: str) -> Licence:
    """The licence that a known model's `terms` name: 360zhinao-v1, apache-2.0 or llama3."""
    return {"360zhinao-v1": ZHINAO_V1, "apache-2.0": APACHE, "llama3": LLAMA_3}[terms]
