"""Which argument of which class is wrong, in two lines instead of all attempts of the parser."""

import pytest

from psn_lightning.commands.class_arguments import explain

GSE = """
trainer:
  callbacks:
    - class_path: psn_lightning.GSE
      init_args: {distribution: DISTRIBUTION, candidates: 2}
"""


@pytest.fixture
def told(tmp_path):
    """Function that explains a message for a configuration file and further arguments."""

    def tell(message, *arguments, content="seed_everything: 1", **values):
        for name, value in values.items():
            content = content.replace(name, value)
        (tmp_path / "own.yaml").write_text(content)
        return explain(message, ["--config", str(tmp_path / "own.yaml"), *arguments])

    return tell


def test_a_choice_in_a_file_is_told_with_its_place(told):
    message = told("distribution grab", content=GSE, DISTRIBUTION="grab")
    for part in ("trainer.callbacks", "GSE", "'grabo'", "did you mean grabo?"):
        assert part in message
    assert len(message) < 250


def test_what_is_right_or_not_in_the_message_is_not_the_culprit(told):
    assert told("distribution grabo candidates 2", content=GSE, DISTRIBUTION="grabo") is None
    assert told("something else", content=GSE, DISTRIBUTION="grab") is None


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model.topology=Lognormal", "--model.topology.ccv=abc"], ["model.topology", "Lognormal", "abc"]),
        (["--model.topology", "Lognormal", "--model.topology.init_args.ccv", "abc"], ["Lognormal", "abc"]),
        (["--model.topology.class_path=Lognormal", "--model.topology.cv=abc"], ["did you mean ccv?"]),
        (["--trainer.callbacks+=GSE", "--trainer.callbacks.init_args.candidates=abc"], ["trainer.callbacks", "GSE"]),
        (["--model.optimizer=SGD", "--model.optimizer.momentm=abc"], ["SGD", "did you mean momentum?"]),
        (["--model.topology=Uniform", "--model.topology.ccv=abc"], ["Uniform", "none"]),
    ],
)
def test_a_class_of_the_command_line(told, arguments, parts):
    message = told("class_path Lognormal ccv cv momentm candidates abc", *arguments)
    assert message is not None
    for part in parts:
        assert part in message


def test_the_last_class_of_a_setting_has_its_arguments(told):
    arguments = ["--model.topology=Lognormal", "--model.topology=Bell", "--model.topology.width=abc"]
    assert "Bell" in told("width abc", *arguments)
    assert told("ccv abc", "--model.topology=NoSuchClass", "--model.topology.ccv=abc") is None


def test_the_innermost_class_is_the_culprit(told):
    content = (
        "model: {topology: {class_path: Grouped, init_args: {layout: {class_path: Lognormal, init_args: {ccv: x}}}}}"
    )
    message = told("layout ccv x {'class_path': 'Lognormal', 'init_args': {'ccv': 'x'}}", content=content)
    assert "model.topology.layout: Lognormal" in message


def test_values_of_a_command_line_are_texts_that_the_parser_reads(told):
    arguments = ["--model.topology=Lognormal", "--model.topology.ccv=1e-1"]
    assert told("ccv 1e-1", *arguments) is None
