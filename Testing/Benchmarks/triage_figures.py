"""Give a bundle the figures of its calibration cases, by which new cases are ranked, with its error probability.

For a bundle that was calibrated before 0.5.0, or got its stage two later.

    python Testing/Benchmarks/triage_figures.py Resources/Models/hippocampus DATA/split.csv:calibration

Nothing else in the bundle changes, and its calibration keeps its hash. Publish the bundle anew afterwards.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.models.bundle import read_bundle, write_bundle_json
from SegWithULab.training.calibrate import case_numbers, predict_case, triage_figures
from SegWithULab.training.dataset import find_cases


def main() -> None:
    """Predict the calibration cases with the bundle as it is, and add their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cases", help="those that the bundle was calibrated on: TABLE.csv:ROLE")
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    calibration = bundle.calibration
    assert calibration is not None, "the bundle is not calibrated"
    model = Model(bundle, "cpu", engine="auto")
    numbers, wrong = [], []
    for case in find_cases(options.cases):
        prediction, truth = predict_case(case, model)
        numbers.append(case_numbers(prediction, truth, calibration["tempering_scale"]))
        assert prediction.error_probability is not None
        wrong.append(float(prediction.error_probability.sum(dtype=np.float64)))
    assert len(numbers) == calibration["cases"], "these are not the calibration cases"
    figures = triage_figures(numbers, wrong, CaseLevelCalibration.from_json(calibration), bundle.labels)
    flags = {**calibration["flags"], "figures": figures}
    written = write_bundle_json(replace(bundle, calibration={**calibration, "flags": flags}), options.bundle)
    assert written.calibration_sha256 == bundle.calibration_sha256, "the hash must stay"


if __name__ == "__main__":
    main()
