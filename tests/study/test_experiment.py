"""Experiments: what is accepted, what is refused and how, and what makes two of them the same run."""

import pytest
from pydantic import ValidationError
from refusals import refused

from sparsity_lib.study import Experiment
from sparsity_lib.study.profiles import PROFILES, STUDY_NETWORKS, experiments
from sparsity_lib.study.recipes import NETWORKS


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"network": "sr4Net"}, ["sr4Net", "sr3Net", "package.module:factory"]),
        ({"size": "l"}, ["'l'", "s, m, xxl"]),
        ({"network": "LeNet"}, ["'s'", "LeNet", "quarter, full"]),
        (
            {"network": "srLeNet", "size": "full", "sparsity": {"conv3": 1.0}},
            ["conv3", "srLeNet", "conv1, conv2, fc1, fc2, fc3"],
        ),
        ({"dataset": "mnist"}, ["mnist", "digits", "folder:PATH"]),
        ({"lamda_": 0.1}, ["lamda_", "'lambda_'"]),
        ({"epochs": 0}, ["epochs", "0"]),
        ({"epochs": -3}, ["epochs", "-3"]),
        ({"epochs": "many"}, ["epochs", "many"]),
        ({"lr": float("nan")}, ["lr", "nan"]),
        ({"optimizer": "rmsprop"}, ["optimizer", "rmsprop", "sgd", "adam"]),
        ({"sparsity": {"conv9": 0.1}}, ["conv9", "conv1, conv2"]),
        ({"sparsity": {"conv1": -0.1}}, ["conv1", "-0.1"]),
        ({"label_noise": 1.5}, ["label_noise", "1.5"]),
        ({"device": "gpu"}, ["gpu", "cuda"]),
        ({"q": 1.0}, ["q = 1.0", "vanillaNet", "sparseoutNet, sparseoutVGG11"]),
        ({"network": "VGG11", "size": "full", "dropout": 0.5}, ["dropout = 0.5", "dropVGG11"]),
        ({"network": "dropVGG11", "size": "full", "dropout_placement": "convolution"}, ["dropNet"]),
        ({"network": "sr2Net", "norm_placement": "convolution"}, ["norm_placement", "normNet"]),
        ({"network": "ResNet18", "size": "full", "batch_norm": "keras"}, ["batch_norm", "normVGG11"]),
        ({"delay": 3}, ["delay = 3", "l1", "l2"]),
        ({"delay": 10, "l1": 1.0, "epochs": 10}, ["delay = 10", "10 epochs"]),
        ({"network": "prNet", "reduction": "mean"}, ["reduction = mean"]),
        ({"network": "sfNet", "include_bias": False}, ["scale-free", "include_bias"]),
        ({"network": "sfNet", "activation": "after"}, ["scale-free", "activation"]),
        ({"rho": 0.5}, ["rho = 0.5", "l1", "l2"]),
    ],
)
def test_bad_input_is_refused_in_one_line_with_the_known_values(fields, named):
    with refused(*named):
        Experiment(**fields)


def test_experiments_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Experiment().epochs = 3


def test_recipes_have_the_strengths_of_the_paper():
    strengths = Experiment(network="sr1Net").strengths()
    assert strengths["sparsity"] == dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "fc1"), 0.001)
    strengths = Experiment(network="sr3Net").strengths()
    assert strengths["sparsity"] == dict.fromkeys(("conv3", "conv4", "fc1"), 0.001)
    assert strengths["decorrelation"] == {"conv1": 1.0}
    assert Experiment(network="varNet").strengths()["variance"].keys() == strengths["sparsity"].keys()
    perplexity = Experiment(network="prNet", lambda_=0.4).strengths()["perplexity"]  # a mean over layers
    assert perplexity == dict.fromkeys(("conv1", "conv2", "conv3", "conv4"), 0.1)
    for plain in ("vanillaNet", "dropNet", "normNet"):
        assert not any(Experiment(network=plain).strengths().values())


def test_conv_scale_changes_convolutions_alone():
    sparsity = Experiment(network="sr2Net", lambda_conv_scale=16).strengths()["sparsity"]
    assert sparsity == {"conv3": 0.016, "conv4": 0.016, "fc1": 0.001}


def test_the_digest_is_of_what_is_computed():
    recipe = Experiment(network="sr2Net", lr=0.01)
    explicit = Experiment(sparsity={"conv3": 1e-3, "conv4": 1e-3, "fc1": 1e-3}, decorrelation={"conv1": 0.0})
    assert recipe.digest == explicit.digest
    assert recipe.digest == Experiment(network="sr2Net", device="cpu", deterministic=True).digest
    assert Experiment(network="vanillaNet", lambda_=0.5).digest == Experiment().digest
    different = [{}, {"seed": 1}, {"epochs": 99}, {"network": "varNet"}, {"network": "normNet"}, {"lr": 0.1}]
    assert len({Experiment(**fields).digest for fields in different}) == len(different)


def test_ids_name_the_run_and_are_file_names():
    assert Experiment(network="sr2Net", size="m", seed=3).id.startswith("sr2Net-m-digits-s3-")
    folder = Experiment(dataset="folder:/secret/place/birds & bees")
    assert folder.id.startswith("vanillaNet-s-folder-birds-bees-s0-")
    assert "secret" not in folder.model_copy().describe()["dataset"]
    assert folder.digest == Experiment(dataset="folder:/other/birds & bees").digest


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_queues_of_distinct_runs_seed_by_seed(name):
    for published in (False, True):
        queue = experiments(name, published=published)
        assert len({experiment.digest for experiment in queue}) == len(queue)
        for grid in PROFILES[name].grids:
            seeds = [experiment.seed for experiment in experiments(name, grids=[grid], published=published)]
            assert seeds == sorted(seeds)


def test_the_laptop_has_every_network_with_and_without_noise():
    cells = {(e.network, e.label_noise) for e in experiments("laptop", grids=["networks"])}
    assert cells == {(network, noise) for network in STUDY_NETWORKS for noise in (0.0, 0.3)}
    hours = {name for name in NETWORKS if "VGG11" in name or "ResNet18" in name}
    assert {e.network for e in experiments("laptop", published=True)} == set(NETWORKS) - hours


def test_profiles_train_few_cells_by_default():
    few, all_of = experiments("laptop"), experiments("laptop", grids=PROFILES["laptop"].grids)
    assert {e.id for e in few} < {e.id for e in all_of}
    assert {e.seed for e in few} == {0}
    networks = {"vanillaNet", "sr2Net", "varNet"}
    assert {(e.network, e.label_noise) for e in few} == {(n, noise) for n in networks for noise in (0, 0.3)}
    assert len(experiments("laptop", seeds=[0, 1, 2])) == 3 * len(few)
    published = experiments("laptop", published=True)
    assert {e.digest for e in published} == {
        e.model_copy(update={"seed": seed}).digest
        for grid in PROFILES["laptop"].grids
        for e in experiments("laptop", grids=[grid])
        for seed in PROFILES["laptop"].grids[grid].published_seeds
    }


def test_unknown_profiles_are_refused_with_the_known():
    with refused("tablet", "laptop, desktop, registered, paper"):
        experiments("tablet")


def test_a_copy_has_an_id_of_its_own():
    one = Experiment()
    assert one.id == Experiment(seed=0).id
    assert one.model_copy(update={"seed": 1}).id == Experiment(seed=1).id
