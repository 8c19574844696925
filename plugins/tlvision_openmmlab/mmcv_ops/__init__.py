"""The compiled operators of mmcv without a compiler: `import tlvision_openmmlab.mmcv_ops` before mmcv, mmdet or mmseg.

mmcv has no wheel for current torch and does not compile against it. Its pure-Python distribution `mmcv-lite` has all
of `mmcv.ops` but the extension module `mmcv._ext` that those call. Importing this package puts a module of that name in
place whose functions are torchvision's kernels where torchvision has them, and plain torch elsewhere: on CPU and GPU,
in single and half precision, with gradients. A real compiled mmcv, where there is one, is left alone and used.

An operator that is not covered raises NotImplementedError when it is called; see
`tlvision_openmmlab.mmcv_ops.uncovered`.
"""

from tlvision_openmmlab.mmcv_ops.extension import OPERATORS, install

__all__ = ["OPERATORS", "install"]

install()
