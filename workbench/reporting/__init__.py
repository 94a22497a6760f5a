"""Reports of a study: tables, figures and one self-contained page."""

from workbench.reporting.figures import Card, Picture, data_uri, distributions, examples, heat_map, png, svg
from workbench.reporting.page import Section, render
from workbench.reporting.quantities import QUANTITIES, Quantity, number, readable
from workbench.reporting.tables import column_estimate, html_table, rich_table, terminal_table

__all__ = [
    "QUANTITIES",
    "Card",
    "Picture",
    "Quantity",
    "Section",
    "column_estimate",
    "data_uri",
    "distributions",
    "examples",
    "heat_map",
    "html_table",
    "number",
    "png",
    "readable",
    "render",
    "rich_table",
    "svg",
    "terminal_table",
]
