"""What is minimised: adversarial losses, guidance, path length and gradient penalties, put together per phase
of an update."""

from sgxl_t.objectives.adversarial import hinge_d_loss, hinge_g_loss, relativistic_loss
from sgxl_t.objectives.guidance import classifier_guidance, clip_guidance, spherical_distance
from sgxl_t.objectives.micro_batch import MicroBatch
from sgxl_t.objectives.objective import Networks, Objective, ObjectiveConfig
from sgxl_t.objectives.path_length import PathLength
from sgxl_t.objectives.weights import objective_preset

__all__ = [
    "MicroBatch",
    "Networks",
    "Objective",
    "ObjectiveConfig",
    "PathLength",
    "classifier_guidance",
    "clip_guidance",
    "hinge_d_loss",
    "hinge_g_loss",
    "objective_preset",
    "relativistic_loss",
    "spherical_distance",
]
