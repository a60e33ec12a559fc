"""Every claim can be supported and refuted: by the committed tables, or by a change of them.

A change makes the data say what the claim denies, or what it says where they deny it. Two stand
where the committed tables decide nothing.
"""

import pytest
from verdicts import changed, committed, verdict_of

from study.runs.experiment import load

ALONE = "networks: log10_weight = 0.0"  # as if the weights did nothing
PAID = "networks: log10_weight = 1.2 * log10_weight"
SLOWER = "networks: log10_decay = 0.01 * log10_decay"
THRICE = "overlaps: covariance = 3 * covariance"
UNMOVED = "gains: log10_gain = 0.0"
KEPT = "decays: depth = 1000 * depth"  # the same loss in networks so much deeper
LOST = "decays: log10_decay = 1000 * log10_decay"
ALIKE = "blocks: log10_difference = -3.0"
APART = "blocks: log10_difference = -0.1"
SAME_STEPS = "learning: steps_to_goal = 100.0"
MOMENTUM = "sharpness: of_edge = 1.9 * of_edge"  # as if the edge were 2 (1 + 0.9) / rate
WORSE_AT_0 = "bands: accuracy = 90 - 20 * (kink == 0)"
ALL_LEARN = "trained: accuracy = 0.9"
SIGMOID_LEARNS = "trained: accuracy = 0.9 * (activation == 'sigmoid')"
OTHER_LAW = {"gaussian": "orthogonal", "orthogonal": "gaussian"}

CHANGES = {
    "anatomy": {
        "ReLU's derivative lets half of the square through": "networks: square_passed = 0.55",
        "ReLU's derivative counts active units": "networks: log10_over_count = 0.05",
        "the weights pay back what sigmoid's derivative takes": PAID,
        "the weights pay back what tanh's derivative takes": PAID,
        "the weights pay back what ReLU's derivative takes": PAID,
        "sigmoid's derivative alone decides": ALONE,
        "tanh's derivative alone decides": ALONE,
        "ReLU's derivative alone decides": ALONE,
        "larger weights make sigmoid's derivative take more": (
            "networks: log10_derivative = -log10_derivative"
        ),
        "at equal excess ReLU's gradients explode less, by their level": (
            "gradient_norms: log10_grad_norm = 0.0 where activation == 'relu'"
        ),
        "at equal excess ReLU's gradients explode less, by their profile": (
            "gradient_norms: log10_grad_norm = -layer * scale where activation == 'relu'"
        ),
        "both factors are mean field's": "networks: log10_weight = log10_weight + 0.1",
        "images do not change the balance": (
            "networks: log10_weight = log10_weight + 0.1 where inputs == 'digits'"
        ),
    },
    "depth_decay": {
        "sigmoid vanishes as mean field says": "networks: log10_decay = 1.1 * log10_decay",
        "weights alone make ReLU vanish": SLOWER,
        "weights alone make ReLU explode": SLOWER,
        "weights alone make sigmoid explode": SLOWER,
        "He initialisation preserves the gradient at any depth": SLOWER,
        "images do not change the rate": (
            "networks: log10_decay = 1.1 * log10_decay where inputs == 'digits'"
        ),
    },
    "isometry": {
        "orthogonal weights keep every direction of a tanh network at tiny q*": (
            "spectra: log10_s_64 = log10_s_64 - 1"
        ),
        "orthogonal weights keep every direction of a ReLU network": (
            "spectra: log10_s_2 = log10_s_1"
        ),
        "singular values part as Lyapunov exponents say": (
            "spectra: log10_s_1 = log10_s_1 + 0.1 * depth"
        ),
    },
    "precision": {
        "formats lose the gradient where chi says": "depth: depth_lost = expected_depth",
        "the printed norm is lost at half the depth": "depth: depth_norm_lost = depth_lost",
        "float64 is deep enough for sigmoid": "depth: depth_lost = 5000",
        "float64 is deep enough for He-initialised ReLU": "depth: depth_lost = 500",
        "bfloat16 reaches as deep as float32": (
            "depth: depth_lost = 0.3 * depth_lost where format == 'bfloat16'"
        ),
    },
    "scale_phase": {
        "sigmoid explodes beyond its critical scale": "growth: log10_growth = -log10_growth",
        "a sigmoid's gradient always vanishes": "growth: log10_growth = -log10_growth",
        "sigmoid's critical scale": "growth: sigma_w = 1.1 * sigma_w",
        "ReLU's critical scale": "growth: sigma_w = 1.1 * sigma_w",
        "at equal excess ReLU's gradients explode less, by ‖dC/dr‖": (
            "growth: log10_growth = -1.0 where activation == 'relu'"
        ),
        "growth follows chi": "growth: log10_growth = log10_growth + 0.02",
    },
    "shattering": {
        "gradients of plain ReLU networks shatter as 2^-L": (
            "overlaps: covariance = 2.0 ** -depth * variance"
        ),
        "they follow the mean-field product": THRICE,
        "finite width takes over further down": THRICE,
        "units active independently give 2^-L": THRICE,
        "BatchNorm makes them so": [
            "overlaps: covariance = 2.0 ** -depth * variance",
            "overlaps: covariance = 10 * covariance",
        ],
        "skip connections slow the shattering": (
            "overlaps: covariance = 0.2 * covariance where kind == 'residual'"
        ),
        "the weight scale decides on shattering": (
            "overlaps: covariance = 0.01 * covariance where kind == 'sigmoid 4'"
        ),
    },
    "atlas": {
        "the phase tells the sign": "ends: log10_gain = -log10_gain",
        "float32 shows zeros that are none": "ends: log10_first_norm = -10.0",
        "wide and shallow networks are where theory says": "layers: median = theory",
        "orthogonal weights make seeds more alike": (
            "networks",
            lambda rows: rows.assign(weights=rows.weights.replace(OTHER_LAW)),
        ),
        # As if networks of other scales were compared.
        "uniform and Gaussian weights of one variance are hardly told apart": (
            "networks: sigma_w = -sigma_w where weights == 'uniform'"
        ),
    },
    "attention": {
        "attention alone makes tokens alike doubly exponentially": (
            "blocks: log10_difference = -0.1 * (layer + 1)"
        ),
        "skip connections keep tokens apart, pre-LN": ALIKE,
        "skip connections keep tokens apart, post-LN": APART,
        "perceptrons keep them apart": APART,
        "branches scaled by 1/√L keep them apart": ALIKE,
        "shaped attention does without skip connections": ALIKE,
        "post-LN's gradient vanishes by 1/√2 a block": (
            "blocks: log10_upstream_norm = -0.15 * (depth - layer)"
        ),
        "pre-LN's last gradient falls as 1/√L": "blocks: log10_value = -log10_value",
        "the gradient of queries halves with each block of post-LN": [
            "blocks: log10_query = log10_value - 0.3 * layer",
            "blocks: log10_query = log10_value - 0.2 * layer",
        ],
        "the norms are theory's": "blocks: log10_value = log10_value + 1",
    },
    "derivation": {"phi' matters": "swaps: log10_off = 0.3"},
    "finite_width": {
        "He initialisation preserves the typical gradient": UNMOVED,
        "He initialisation preserves the mean squared gradient": (
            "gains: log10_gain = log10_gain - 3"
        ),
        "an average over networks shows that mean": UNMOVED,
        "depth over width alone decides": [
            "gains: log10_gain = 1.06 * log10_gain",
            "gains: log10_gain = 2 * log10_gain",
        ],
        "a bottleneck costs what its 1/n says": "gains: log10_gain = 1.3 * log10_gain",
        "the mean width decides": "gains: log10_gain = 0.4 * log10_gain",
        "networks are born dead as often as 1 - (1 - 2^-n)^L": "gains: layers_alive = depth",
    },
    "remedies": {
        "ReLU solves vanishing gradients": KEPT,
        "Xavier keeps tanh's gradient": LOST,
        "He keeps ReLU's gradient for 1,000 layers": LOST,
        "SELU is self-normalising, its gradient too": KEPT,
        "orthogonal weights keep the gradient, sigmoid's too": KEPT,
        "BatchNorm prevents exploding gradients": KEPT,
        "LayerNorm keeps ReLU's gradient": LOST,
        "residual connections alone keep the gradient": KEPT,
        "branches scaled by 1/√L keep it at any depth": LOST,
        "BatchNorm in residual branches keeps it": LOST,
        "clipping cures vanishing": KEPT,
        "sigmoid vanishes at any weight scale": LOST,
        "the depths are theory's": (
            "remedies",
            lambda rows: rows.assign(expected_depth=20, depth_kept=20, censored=False),
        ),
        "images do not change the depth": "decays: depth = 2 * depth where inputs == 'digits'",
    },
    "isometry_learning": {
        "linear networks learn sooner from orthogonal weights": SAME_STEPS,
        "tanh networks learn sooner from orthogonal weights": [
            "learning: steps_to_goal = 1000.0 where weights == 'gaussian'",
            SAME_STEPS,
        ],
        "ReLU networks gain nothing from orthogonal weights": SAME_STEPS,
        "linear networks with gaussian weights learn as fast at any depth": SAME_STEPS,
        "linear networks with orthogonal weights learn as fast at any depth": (
            "learning: steps_to_goal = 30.0 * depth"
        ),
    },
    "edge_of_stability": {
        "ReLU is trained at the edge of stability": MOMENTUM,
        "tanh is trained at the edge of stability": MOMENTUM,
        "sigmoid is trained at the edge of stability": MOMENTUM,
        "curvature rises before the edge": [
            "sharpness: of_edge = 0.5 + 0.1 * step",
            "sharpness: of_edge = 0.5",
        ],
    },
    "kink": {
        "ReLU'(0) makes no difference at initialisation, float16 sums": (
            "initialisation: gradient_difference = 0.0"
        ),
        "ReLU'(0) makes no difference in training, float16 sums": [
            "training: accuracy = 90.0",
            "training: accuracy = 90 - 20 * (kink == 0)",
        ],
        "float32 meets ReLU's kink by chance": "chance: zeros = 1000",
        "a training run of this size would meet the kink": "chance: zeros = 1000",
        "the slope in a band around ReLU's kink makes no difference, sgd": WORSE_AT_0,
        "the slope in a band around ReLU's kink makes no difference, adam": WORSE_AT_0,
    },
    "relu_against_sigmoid": {
        "ReLU's derivative takes less than sigmoid's": "levels: log10_derivative = 0.0",
        "ReLU's gradients are alike in all layers": [
            "levels: log10_profile = 0.0",
            "levels: log10_profile = 0.1",
        ],
        "sigmoid's gradients fall from layer to layer": "levels: log10_profile = 0.0",
        "one number undoes what weights did to ReLU": "levels: log10_spread = 50.0",
        "no number undoes what sigmoid did": "levels: log10_spread = 0.5",
        "weights alone make ReLU's gradients vanish": "levels: log10_level = 0.0",
        "at equal weights sigmoid fails to learn where ReLU learns": SIGMOID_LEARNS,
        "one number lets a deep ReLU network learn": (
            "trained: accuracy = 0.9 * (output == 'as drawn')"
        ),
        "one number does not let a deep sigmoid network learn": (
            "trained: accuracy = 0.9 * (output == 'rescaled')"
        ),
        "at critical scales a deep ReLU network learns more than a sigmoid one": SIGMOID_LEARNS,
        "a deep ReLU network learns as well as a tanh one": [
            ALL_LEARN,
            "trained: accuracy = 0.9 * (activation == 'tanh')",
        ],
    },
}


@pytest.mark.parametrize(
    ("name", "claim"), [(name, claim) for name in CHANGES for claim in CHANGES[name]]
)
def test_a_claim_goes_both_ways(name, claim):
    tables = committed(name)
    (judged,) = (one for one in load(name).claims if one.name == claim)
    changes = CHANGES[name][claim]
    others = [changed(tables, c) for c in (changes if isinstance(changes, list) else [changes])]
    assert {"supported", "refuted"} <= {verdict_of(judged, each) for each in (tables, *others)}


@pytest.mark.parametrize("name", CHANGES)
def test_no_claim_is_left_out(name):
    assert [claim.name for claim in load(name).claims] == [*CHANGES[name]]
