"""The paper's figure and table, made again."""
