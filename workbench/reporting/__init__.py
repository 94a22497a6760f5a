"""Reports of a study: tables, figures and one self-contained page."""

from workbench.reporting.figures import distributions, heat_map, png, svg
from workbench.reporting.maps import dendrogram, labelled_scatter, point_map, severity_lines
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
    "dendrogram",
    "distributions",
    "examples",
    "gallery",
    "heat_map",
    "html_table",
    "image_count",
    "labelled_scatter",
    "number",
    "png",
    "point_map",
    "readable",
    "render",
    "rich_table",
    "severity_lines",
    "svg",
    "terminal_table",
]
