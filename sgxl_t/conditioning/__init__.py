"""Class and text: encode a condition; say which projections, guidance and phases it brings."""

from sgxl_t.conditioning.build import build_condition
from sgxl_t.conditioning.class_condition import ClassCondition
from sgxl_t.conditioning.class_table import class_table
from sgxl_t.conditioning.condition import Condition, NoCondition
from sgxl_t.conditioning.text_condition import TextCondition

__all__ = ["ClassCondition", "Condition", "NoCondition", "TextCondition", "build_condition", "class_table"]
