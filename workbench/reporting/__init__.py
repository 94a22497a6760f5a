"""Reports of a study: tables, figures and one self-contained page."""

from workbench.reporting.figures import distributions, heat_map, png, svg
from workbench.reporting.page import Section, render
from workbench.reporting.pictures import Card, Picture, Strip, data_uri, examples, gallery
from workbench.reporting.quantities import QUANTITIES, Quantity, image_count, number, readable
from workbench.reporting.tables import column_estimate, html_table, rich_table, terminal_table

__all__ = [
    "QUANTITIES",
    "Card",
    "Picture",
    "Quantity",
    "Section",
    "Strip",
    "column_estimate",
    "data_uri",
    "distributions",
    "examples",
    "gallery",
    "heat_map",
    "html_table",
    "image_count",
    "number",
    "png",
    "readable",
    "render",
    "rich_table",
    "svg",
    "terminal_table",
]
