"""Decode JPEG, JPEG-LS and JPEG 2000 slices by GDCM, in a process of its own: a damaged stream may end it.

Reads {"files": [...], "size": [columns, rows]} on stdin and writes the float32 voxels of one slice after the other to
stdout. At the first slice that is refused it ends with status 3 and the messages of GDCM on stderr. It is run as a
script, so that it loads nothing but SimpleITK.
"""

import json
import os
import sys
import tempfile

import SimpleITK as sitk


def main() -> None:
    """Answer one request."""
    wanted = json.load(sys.stdin)
    answers, errors = os.fdopen(os.dup(1), "wb"), os.dup(2)
    with tempfile.TemporaryFile() as messages:  # libjpeg reports there that it invents voxels, and goes on
        os.dup2(messages.fileno(), 2)
        os.dup2(2, 1)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        for file in wanted["files"]:
            try:
                image = sitk.ReadImage(file, sitk.sitkFloat32, imageIO="GDCMImageIO")
            except RuntimeError:
                sys.exit(3)
            if os.fstat(messages.fileno()).st_size:
                messages.seek(0)
                os.write(errors, messages.read(2000))
                sys.exit(3)
            if image.GetSize() != (*wanted["size"], 1) or image.GetNumberOfComponentsPerPixel() != 1:
                sys.exit(3)
            answers.write(sitk.GetArrayViewFromImage(image).data)
            answers.flush()


if __name__ == "__main__":
    main()
