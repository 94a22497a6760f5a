"""Reports of a study: tables, figures and one self-contained page."""

from workbench.reporting.curves import Line, curves, severity_lines
from workbench.reporting.figures import distributions, heat_map, png, position_maps, svg
from workbench.reporting.maps import dendrogram, labelled_scatter, point_map
from workbench.reporting.page import Section, answer_box, paragraph, render, side_by_side
from workbench.reporting.pictures import Card, Picture, Strip, data_uri, examples, gallery
from workbench.reporting.quantities import (
    QUANTITIES,
    Quantity,
    image_count,
    listed,
    number,
    percent,
    ranged,
    readable,
    spoken,
    with_one_ssim,
)
from workbench.reporting.tables import column_estimate, html_table, rich_table, terminal_table

__all__ = [
    "QUANTITIES",
    "Card",
    "Line",
    "Picture",
    "Quantity",
    "Section",
    "Strip",
    "answer_box",
    "column_estimate",
    "curves",
    "data_uri",
    "dendrogram",
    "distributions",
    "examples",
    "gallery",
    "heat_map",
    "html_table",
    "image_count",
    "labelled_scatter",
    "listed",
    "number",
    "paragraph",
    "percent",
    "png",
    "point_map",
    "position_maps",
    "ranged",
    "readable",
    "render",
    "rich_table",
    "severity_lines",
    "side_by_side",
    "spoken",
    "svg",
    "terminal_table",
    "with_one_ssim",
]
