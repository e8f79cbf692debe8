from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cosp.config import Config, dump_config, has_stream, load_config, variant_names
from cosp.errors import ConfigError
from cosp.methods import CoS2P, CoS2PPaper, FedAvg
from cosp.methods.rules import Drift, Hinge, Merge, Polynomial
from cosp.stream.settings import load_adapt
from cosp.task.training import TrainSettings

EXPERIMENTS = sorted((Path(__file__).resolve().parents[1] / "experiments").rglob("*.yaml"))

BASE = """
name: tiny
model: {patch: 2}
method: {name: co-s2p}
training: {epochs: 5}
server: {quorum: 0.5, versions: 7}
variants:
  slow: {server.quorum: 1.0, training.epochs: 9}
  plain: {method: {name: fedavg}}
"""


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(BASE)
    return file


def load(path: Path, *overrides: str) -> Config:
    return load_config(path, overrides)


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_gives_what_it_says_and_defaults(path):
    config = load(path)
    assert (config.name, config.training.epochs, config.server.versions, config.model.dim) == ("tiny", 5, 7, 64)
    assert isinstance(config.method, CoS2P)
    assert config.variant is None


def test_later_wins_file_variant_override(path):
    assert load(path, "variant=slow").training == TrainSettings(epochs=9)
    config = load(path, "variant=plain", "training.epochs=2", "variant=slow", "server.versions=3", "server.versions=4")
    assert (config.training.epochs, config.server.quorum, config.server.versions, config.variant) == (2, 1.0, 4, "slow")


def test_a_variant_can_replace_a_section(path):
    assert load(path, "variant=plain").method == FedAvg()


def test_the_file_may_name_its_variant(path):
    path.write_text(BASE + "variant: slow\n")
    assert load(path).server.quorum == 1.0
    assert load(path, "variant=plain").server.quorum == 0.5


def test_overrides_make_sections_and_take_yaml_values(path):
    config = load(
        path, "method.weighting={rule: hinge, grace: 4}", "method.transfer.teacher=none", "model.exits=[2, 4]"
    )
    assert config.method.weighting == Hinge(grace=4)
    assert config.method.transfer.teacher == "none"
    assert config.model.exits == (2, 4)


def test_a_part_of_a_method_that_is_given_by_some_keys_keeps_the_others_of_the_methods_own_default(path):
    assert load(path, "method.merge.normalise=all").method.merge == Merge(normalise="all", rate=0.7)
    assert load(path, "method.merge.rate=1.0").method.merge == Merge(rate=1.0)
    literal = ("method.name=co-s2p-paper", "method.merge.momentum=0.5", "method.scoring.gate_epochs=9")
    paper = load(path, *literal, "method.transfer.temperature=1.0").method
    assert paper.merge == Merge(normalise="all", momentum=0.5)
    assert paper.scoring == replace(CoS2PPaper().scoring, gate_epochs=9)
    assert paper.transfer == replace(CoS2PPaper().transfer, temperature=1.0)


def test_a_weighting_keeps_keys_of_the_same_rule_only(path):
    assert load(path, "method.weighting.exponent=2.0").method.weighting == Polynomial(exponent=2.0, participation=1.0)
    assert load(path, "method.weighting.rule=drift").method.weighting == Drift()  # which knows no exponent
    assert "unknown key 'exponent'" in error_of(path, "method.weighting={rule: constant, exponent: 1}")


def test_a_quorum_is_a_share_or_a_count(path):
    assert isinstance(load(path, "server.quorum=1.0").server.quorum, float)
    assert isinstance(load(path, "server.quorum=8").server.quorum, int)


@pytest.mark.parametrize(
    ("override", "key", "rule"),
    [
        ("epochs=3", "", "unknown key 'epochs'"),
        ("server.versoins=3", "server", "unknown key 'versoins'; known: .*did you mean 'versions'"),
        ("training.epoch=3", "training.epoch", "is an unknown key"),
        ("method.coreshare=0.5", "method", "unknown key 'coreshare'; .*did you mean 'core_share'"),
        ("seed=abc", "seed", "must be a valid integer.*'abc'"),
        ("training=3", "training", "must be .*got 3"),
        ("server.versions=0", "server.versions", "must be greater than or equal to 1, got 0"),
        ("server.quorum=1.5", "server.quorum", r"a share must lie in \(0, 1\], got 1.5"),
        ("server.quorum=x", "server.quorum", "must be a valid number.*'x'"),
        ("server.deadline_s=.nan", "server.deadline_s", "must be a finite number"),
        ("training.optimizer=adam", "training", "optimizer must be one of .*'adam'"),
        ("training.epochs=0", "training", "epochs must be >= 1, got 0"),
        ("method.core_share=2", "method.core_share", "must be less than or equal to 1, got 2"),
        ("method.weighting={rule: hinge, slope: -1}", "method.weighting.slope", "must be greater than or equal to 0"),
        ("method.scoring.how=luck", "method.scoring", "how must be one of .*'luck'"),
        ("method.transfer.temperature=0", "method.transfer", "temperature must be > 0"),
        ("method.transfer.weight=-1", "method.transfer", "weight must be >= 0, got -1"),
        ("method.transfer.weight=.nan", "method.transfer.weight", "must be a finite number, got nan"),
        ("method.transfer.warmup_versions=-1", "method.transfer", "warmup_versions must be >= 0, got -1"),
        ("training.learning_rate=.inf", "training.learning_rate", "must be a finite number, got inf"),
        ("training.weight_decay=-1", "training", "weight_decay must be >= 0, got -1"),
        ("training.momentum=1.5", "training", r"momentum must lie in \[0, 1\), got 1.5"),
        ("jitter=1000", "jitter", "must be less than or equal to 3, got 1000"),
        ("model.hidden=10000000000000", "model.hidden", "must be less than or equal to 1048576"),
        ("method={}", "method", "'name' is missing"),
        ("method=fedavg", "method", "must be a mapping of keys to values, got 'fedavg'"),
        ("method.name=fedavgg", "method", "unknown name 'fedavgg'; known: co-s2p, .*did you mean 'fedavg'"),
        ("fleet=3", "fleet", "must be a valid string, got 3"),
        ("assignment.rule=luck", "assignment.rule", "must be 'rate', 'memory', 'memory_share' or 'time', got 'luck'"),
        ("assignment.rule=time", "assignment", "rule time needs target_round_s"),
        ("assignment={rule: time, target_round_s: 0}", "assignment.target_round_s", "must be greater than 0, got 0"),
    ],
)
def test_a_wrong_value_is_named_with_file_key_and_rule(path, override, key, rule):
    where = f"{path}: {key}: " if key else f"{path}: "
    with pytest.raises(ConfigError, match=f"^{where}{rule}"):
        load(path, override)
    error_of(path, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("server.versions", "--set server.versions: must be key=value"),
        ("=3", "--set =3: must be key=value"),
        ("fleet=[1", "--set fleet: '[1' is not a YAML value"),
        ("model={dim: 3, dim: 4}", "--set model: '{dim: 3, dim: 4}' is not a YAML value"),
        ("name.first=x", "--set: name.first: name is a value, not a section"),
    ],
)
def test_an_override_that_says_nothing_is_refused(path, override, message):
    assert error_of(path, override).startswith(message)


@pytest.mark.parametrize("variant", ["slwo", "[slow]", "3"])
def test_an_unknown_variant_is_refused(path, variant):
    assert error_of(path, f"variant={variant}").startswith(f"{path}: variant: unknown variant ")
    assert "known: slow, plain" in error_of(path, f"variant={variant}")


@pytest.mark.parametrize(
    ("variants", "key"), [("[a]", "variants"), ("{a: }", "variants.a"), ("{a: {1: 2}}", "variants.a")]
)
def test_variants_are_mappings_of_dotted_keys(path, variants, key):
    path.write_text(f"name: x\nmodel: {{patch: 2}}\nmethod: {{name: fedavg}}\nvariants: {variants}\nvariant: a\n")
    assert error_of(path).startswith(f"{path}: {key}: must be a mapping")


@pytest.mark.parametrize(
    ("variants", "rule"),
    [
        ("3", "must be a mapping of names to dotted keys and values, got 3"),
        ("[a]", r"must be a mapping of names to dotted keys and values, got \['a'\]"),
        ("{../../x: {}}", "a name must be letters, digits, '_', '.' and '-', got '../../x'"),
        ("{'': {}}", "a name must be letters"),
        ("{1: {}}", "a name must be letters.* got 1"),
        ("{base: {}}", "'base' is the file's own line; give the variant another name"),
    ],
)
def test_a_variant_s_name_can_be_a_folder_s(path, variants, rule):
    path.write_text(f"variants: {variants}\n")
    with pytest.raises(ConfigError, match=f"variants: {rule}"):
        variant_names(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got NoneType"),
        ("- 1", "got list"),
        ("a: [", "not valid YAML"),
        ("a: 1\nb: {c: 1,\n c: 2}", "key 'c' is there twice in line 3, column 2"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(path, text, message):
    path.write_text(text)
    assert message in error_of(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert error_of(tmp_path / "none.yaml").startswith(f"{tmp_path / 'none.yaml'}: cannot be read")


@pytest.mark.parametrize(
    "overrides", [(), ("variant=slow",), ("variant=plain", "fleet={boards: []}", "model.exits=[1,4]")]
)
def test_a_resolved_configuration_reads_back_equal(path, tmp_path, overrides):
    config = load(path, *overrides)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(dump_config(config, {"cosp": "1"}))
    again = load(resolved)
    assert again.versions == {"cosp": "1"}
    assert again.model_copy(update={"versions": {}}) == config


def test_a_resolved_configuration_has_no_more_variants(path, tmp_path):
    resolved = tmp_path / "config.yaml"
    resolved.write_text(dump_config(load(path, "variant=slow"), {"cosp": "1"}))
    assert "variants" not in yaml.safe_load(resolved.read_text())
    assert "unknown variant 'plain'" in error_of(resolved, "variant=plain")


def test_every_method_can_be_named(path):
    kinds = {"co-s2p": CoS2P, "co-s2p-paper": CoS2PPaper, "fedavg": FedAvg}
    for name, kind in kinds.items():
        assert isinstance(load(path, f"method={{name: {name}}}").method, kind)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_shipped_experiments_and_all_their_variants_are_valid(file):
    for variant in (None, *variant_names(file)):
        load = load_adapt if has_stream(file) else load_config
        assert load(file, [] if variant is None else [f"variant={variant}"]).variant == variant


@pytest.mark.parametrize(
    ("override", "versions", "until_s"),
    [("server={}", 40, None), ("server={until_s: 5}", None, 5.0), ("server={until_s: 5, versions: 3}", 3, 5.0)],
)
def test_a_run_ends_at_versions_or_at_a_time_and_without_either_at_forty_versions(path, override, versions, until_s):
    server = load_config(path, [override]).server
    assert (server.versions, server.until_s) == (versions, until_s)


def test_a_run_without_an_end_is_refused(path):
    with pytest.raises(ConfigError, match="server: says no end of the run"):
        load_config(path, ["server.versions=null"])


@pytest.mark.parametrize(
    "text", ["name=2024-13-45", "seed=!!int abc", "seed=0x_", "name=" + 3000 * "[", "seed=-1"], ids=range(5)
)
def test_what_the_yaml_reader_stumbles_over_is_one_line(text: str, path: Path):
    with pytest.raises(ConfigError, match=text.partition("=")[0]) as caught:
        load_config(path, [text])
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_once(tmp_path):
    missing = tmp_path / "missing.yaml"
    assert error_of(missing) == f"{missing}: cannot be read (No such file or directory); check the path"


@pytest.mark.parametrize("method", ["adavit", "q-vit", "fjord", "fiarse", "platon", "fedpm"])
def test_checkpointing_is_refused_where_blocks_are_not_the_same_again(path, method):
    said = error_of(path, f"method={{name: {method}}}", "training.checkpointing=true")
    assert f"training.checkpointing does not go with method {method}, which masks, draws," in said


@pytest.mark.parametrize("given", ["maybe", "2", "[blocks]"])
def test_checkpointing_is_true_or_false(path, given):
    assert "training.checkpointing: " in error_of(path, f"training.checkpointing={given}")


HALVES = ("training.frozen=[{blocks: 2}]", "training.frozen_as=float16")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            HALVES[1:],
            "training.frozen_as float16 is how boards hold what is frozen, and nothing is: give training.frozen",
        ),
        ((*HALVES, "method={name: fjord}"), "training.frozen_as float16 does not go with method fjord, which cuts"),
        ((*HALVES, "method={name: fiarse}"), "training.frozen does not go with method fiarse"),
        ((*HALVES, "training.precision=mixed"), "frozen_as float16 goes with precision float32: mixed makes halves"),
        ((*HALVES, "method.scoring={how: squared_gradient}"), "does not go with method.scoring.how squared_gradient"),
        (
            (HALVES[0], "training.frozen_as=int8"),
            "frozen_as must be one of ('float32', 'float16', 'bfloat16'), got 'int8'",
        ),
    ],
)
def test_halves_are_refused_where_there_are_none(path, changes, said):
    assert said in error_of(path, *changes)


def test_halves_are_of_what_the_method_and_the_vocabulary_freeze_too(path):
    adapted = load(path, "method={name: hetlora}", "model.adapters={rank: 2}", HALVES[1])
    assert (adapted.trains.left.trunk, adapted.trains.left.held_as) == (True, "float16")
    worded = load(path, "model={pretrained: x, vocabulary: frozen}", "training.frozen_as=bfloat16")
    assert (worded.trains.left.words, worded.trains.left.held_as) == (True, "bfloat16")
