"""What images are conditioned on: labels, captions or nothing, encoded once per batch for all networks.

Also what each condition brings along: class tables, guidance, phases of training.
"""

from sgxl_t.conditioning.build import build_condition
from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.class_table import class_table
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.text_condition import TextCondition

__all__ = ["ClassCondition", "Condition", "NoCondition", "TextCondition", "build_condition", "class_table"]
