"""The paper's figure and table, reproduced."""
