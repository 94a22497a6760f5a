"""Reports of studies: tables, figures and a self-contained HTML page."""

from workbench.reporting.curves import Line, curves, severity_lines
from workbench.reporting.figures import distributions, heat_map, png, position_maps, svg
from workbench.reporting.formats import image_count, listed, number, p_value, percent, ranged, signed, spoken
from workbench.reporting.labels import LABELS, QUANTITIES, Quantity, capital, described_images, readable, with_one_ssim
from workbench.reporting.maps import dendrogram, labelled_scatter, point_map
from workbench.reporting.opening import MainFigure, picture_strip
from workbench.reporting.page import Section, answer_box, paragraph, render, side_by_side
from workbench.reporting.pictures import Card, Picture, Strip, data_uri, examples, gallery
from workbench.reporting.tables import column_estimate, html_table, rich_table, terminal_table
from workbench.reporting.words import Words

__all__ = [
    "LABELS",
    "QUANTITIES",
    "Card",
    "Line",
    "MainFigure",
    "Picture",
    "Quantity",
    "Section",
    "Strip",
    "Words",
    "answer_box",
    "capital",
    "column_estimate",
    "curves",
    "data_uri",
    "dendrogram",
    "described_images",
    "distributions",
    "examples",
    "gallery",
    "heat_map",
    "html_table",
    "image_count",
    "labelled_scatter",
    "listed",
    "number",
    "p_value",
    "paragraph",
    "percent",
    "picture_strip",
    "png",
    "point_map",
    "position_maps",
    "ranged",
    "readable",
    "render",
    "rich_table",
    "severity_lines",
    "side_by_side",
    "signed",
    "spoken",
    "svg",
    "terminal_table",
    "with_one_ssim",
]
