"""The text file in an exported folder, for whoever opens it."""

README = "README.txt"
_TEXT = """\
SegWithU: {count} segmented {cases} to look at
{line}

For research, not for clinical use.

What is here
- worklist.csv: the cases in the order in which a look pays most, with the reasons why they are flagged.
  Opens in any spreadsheet. worklist.json is the same for programs.
- One folder a case. Open report.html in it with any browser; no network is needed.
  image.nii.gz            the image
  segmentation.seg.nrrd   the model's segmentation, for 3D Slicer (segmentation.nii.gz for other programs)
  error_probability.nii.gz   how likely each voxel is to be wrong, 0 to 1; -1 was not assessed
  regions.csv, regions.nii.gz   the regions worth a look, as a table and as a label volume
  review.NAME.jsonl       what each reviewer said so far
  segmentation_reviewed.NAME.seg.nrrd   the reviewer's own version, where there is one

How to review
1. In 3D Slicer with the SegWithU extension, open a case folder and review it under your own name.
   Neither torch nor a graphics card is needed. Without the extension, any viewer shows the files.
2. Your verdicts are written into the case folder as you give them.
3. Send the folder back. Whoever sent it to you runs
   segwithu merge-reviews THIS_FOLDER --into THEIR_CASES
   Nothing of yours or theirs is lost.
"""
_ANONYMOUS = """
About names
Names, dates, identifiers and paths were left out of file names, headers, logs and reports. The voxels are as they
were: writing burnt into an image or a face in a head scan is still there. Review under a name that you may share.
"""


def readme(count: int, anonymous: bool) -> str:
    """Write the text for an export of `count` cases."""
    cases = "case" if count == 1 else "cases"
    title = f"SegWithU: {count} segmented {cases} to look at"
    return _TEXT.format(count=count, cases=cases, line="=" * len(title)) + (_ANONYMOUS if anonymous else "")
