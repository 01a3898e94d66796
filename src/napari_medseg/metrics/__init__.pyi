from .agreement.calibration import Calibration, CalibrationRow, ReliabilityRow, calibrate
from .agreement.raters import Agreement, AgreementRow, PairRow, agreement_of, majority_vote
from .agreement.staple import Consensus, RaterRow, staple
from .descriptive.intensity import IntensityRow, intensity_statistics
from .descriptive.series import SeriesRow, volume_series
from .descriptive.shape import ShapeRow, shape_statistics
from .descriptive.sizes import SizeRow, middle_voxel, size_table
from .pairwise.comparison import Comparison, evaluate
from .pairwise.edits import EditedScores
from .pairwise.error_map import error_map
from .pairwise.instances import InstanceRow, Instances, Pair, match_instances
from .pairwise.places import Place, worst_place
from .pairwise.scores import Row, Scores, combine
from .pairwise.surface_mesh import SurfaceMesh, surface_distance_mesh
from .reports.exports import write_scores
from .reports.plots import draw_bars, draw_bland_altman, draw_boxes
from .reports.slices import Picture, worst_slices
from .study.batch import MeasuredCases, iter_measure
from .study.case_files import Sources, UnmatchedRow, match_files, opened
from .study.statistics import (
    DifferenceRow,
    SummaryRow,
    VolumeAgreementRow,
    compare,
    holm,
    summarise,
    summarise_instances,
    volume_agreement,
    wilcoxon,
)
from .study.study import CaseImages, FailedRow, Measured, Study, StudyConfig, measure, study_of, with_consensus
from .study.tables import Table

__all__ = [
    "Agreement",
    "AgreementRow",
    "Calibration",
    "CalibrationRow",
    "CaseImages",
    "Comparison",
    "Consensus",
    "DifferenceRow",
    "EditedScores",
    "FailedRow",
    "InstanceRow",
    "Instances",
    "IntensityRow",
    "Measured",
    "MeasuredCases",
    "Pair",
    "PairRow",
    "Picture",
    "Place",
    "RaterRow",
    "ReliabilityRow",
    "Row",
    "Scores",
    "SeriesRow",
    "ShapeRow",
    "SizeRow",
    "Sources",
    "Study",
    "StudyConfig",
    "SummaryRow",
    "SurfaceMesh",
    "Table",
    "UnmatchedRow",
    "VolumeAgreementRow",
    "agreement_of",
    "calibrate",
    "combine",
    "compare",
    "draw_bars",
    "draw_bland_altman",
    "draw_boxes",
    "error_map",
    "evaluate",
    "holm",
    "intensity_statistics",
    "iter_measure",
    "majority_vote",
    "match_files",
    "match_instances",
    "measure",
    "middle_voxel",
    "opened",
    "shape_statistics",
    "size_table",
    "staple",
    "study_of",
    "summarise",
    "summarise_instances",
    "surface_distance_mesh",
    "volume_agreement",
    "volume_series",
    "wilcoxon",
    "with_consensus",
    "worst_place",
    "worst_slices",
    "write_scores",
]
