"""ctkSliderWidget and ctkRangeWidget: values are kept inside the range and rounded to the shown decimals."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtWidgets

from ..qt_module import QT
from .stand_in import stand_in, stored

_STEPS = 1000


class _BoundedValue:
    """Numbers of a slider: range, decimals, steps."""

    def __init__(self) -> None:
        self.minimum, self.maximum, self.decimals, self.step, self.page = 0.0, 99.0, 2, 1.0, 10.0

    def inside(self, value: float) -> float:
        return min(max(round(float(value), self.decimals), self.minimum), self.maximum)

    def to_step(self, value: float) -> int:
        span = self.maximum - self.minimum
        return round(_STEPS * (value - self.minimum) / span) if span > 0 else 0

    def from_step(self, step: int) -> float:
        return self.inside(self.minimum + step / _STEPS * (self.maximum - self.minimum))


def _numbers(box: QtWidgets.QDoubleSpinBox, bounds: _BoundedValue) -> None:
    blocked = box.blockSignals(True)
    box.setDecimals(bounds.decimals)
    box.setRange(bounds.minimum, bounds.maximum)
    box.setSingleStep(bounds.step)
    box.blockSignals(blocked)


@stand_in
class ctkSliderWidget(QT.QWidget):
    """A slider and a spin box for one float."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    decimalsChanged = QtCore.Signal(int)
    _signals: ClassVar[dict[str, str]] = {
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._bounds = _BoundedValue()
        self._value = 0.0
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._box = QtWidgets.QDoubleSpinBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider)
        row.addWidget(self._box)
        _numbers(self._box, self._bounds)
        self._slider.valueChanged.connect(self._slid)
        self._slider.sliderReleased.connect(self._released)
        self._box.valueChanged.connect(self._set)

    def _slid(self, step: int) -> None:
        value = self._bounds.from_step(step)
        if self._slider.isSliderDown() and not self._stored("tracking", True):
            self.valueIsChanging.emit(value)
        else:
            self._set(value)

    def _released(self) -> None:
        self._set(self._bounds.from_step(self._slider.value()))

    def _stored(self, name: str, default: Any) -> Any:
        return self.__dict__.get(f"_stored_{name}", default)

    def _set(self, value: float) -> None:
        new = self._bounds.inside(value)
        changed = new != self._value
        self._value = new
        for part, shown in ((self._box, new), (self._slider, self._bounds.to_step(new))):
            blocked = part.blockSignals(True)
            part.setValue(shown)
            part.blockSignals(blocked)
        if changed:
            self.valueIsChanging.emit(new)
            self.valueChanged.emit(new)

    def setValue(self, value: float) -> None:
        """Set the value, clamped to the range and rounded to the decimals."""
        self._set(value)

    def reset(self) -> None:
        """Back to the minimum or 0."""
        self._set(0.0)

    def setDecimals(self, decimals: int) -> None:
        """Number of decimals shown and kept."""
        self._bounds.decimals = int(decimals)
        self._refresh()
        self.decimalsChanged.emit(int(decimals))

    def _refresh(self) -> None:
        _numbers(self._box, self._bounds)
        self._set(self._value)

    def _change(self, field: str, value: float) -> None:
        # The spin box rounds the ends to its decimals, and the slider takes them from there; more decimals later do not
        # bring back what was rounded off.
        is_end = field in ("minimum", "maximum")
        new = round(float(value), self._bounds.decimals) if is_end else float(value)
        setattr(self._bounds, field, new)
        if field == "minimum":
            self._bounds.maximum = max(self._bounds.maximum, new)
        if field == "maximum":
            self._bounds.minimum = min(self._bounds.minimum, new)
        self._refresh()

    value = QtCore.Property(float, lambda self: self._value, lambda self, v: self._set(v))
    minimum = QtCore.Property(float, lambda self: self._bounds.minimum, lambda self, v: self._change("minimum", v))
    maximum = QtCore.Property(float, lambda self: self._bounds.maximum, lambda self, v: self._change("maximum", v))
    singleStep = QtCore.Property(float, lambda self: self._bounds.step, lambda self, v: self._change("step", v))
    pageStep = QtCore.Property(float, lambda self: self._bounds.page, lambda self, v: self._change("page", v))
    decimals = QtCore.Property(int, lambda self: self._bounds.decimals, lambda self, v: self.setDecimals(v))
    prefix = QtCore.Property(str, lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))
    suffix = QtCore.Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    spinBoxVisible = QtCore.Property(
        bool, lambda self: not self._box.isHidden(), lambda self, v: self._box.setVisible(v)
    )
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    popupSlider = stored(bool, "popupSlider", False)


@stand_in
class ctkRangeWidget(QT.QWidget):
    """Two spin boxes for a pair minimumValue <= maximumValue."""

    minimumValueChanged = QtCore.Signal(float)
    maximumValueChanged = QtCore.Signal(float)
    minimumValueIsChanging = QtCore.Signal(float)
    maximumValueIsChanging = QtCore.Signal(float)
    valuesChanged = QtCore.Signal(float, float)
    rangeChanged = QtCore.Signal(float, float)
    _signals: ClassVar[dict[str, str]] = {
        "minimumValueChanged(double)": "minimumValueChanged",
        "maximumValueChanged(double)": "maximumValueChanged",
        "minimumValueIsChanging(double)": "minimumValueIsChanging",
        "maximumValueIsChanging(double)": "maximumValueIsChanging",
        "valuesChanged(double,double)": "valuesChanged",
        "rangeChanged(double,double)": "rangeChanged",
    }

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._bounds = _BoundedValue()
        self._pair = (0.0, 99.0)
        self._boxes = (QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox())
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for box in self._boxes:
            row.addWidget(box)
        self._refresh()
        self._boxes[0].valueChanged.connect(self.setMinimumValue)
        self._boxes[1].valueChanged.connect(self.setMaximumValue)

    def setValues(self, low: float, high: float) -> None:
        """Set both values, ordered and inside the range."""
        low, high = sorted((self._bounds.inside(low), self._bounds.inside(high)))
        old, self._pair = self._pair, (low, high)
        for box, shown in zip(self._boxes, self._pair, strict=True):
            blocked = box.blockSignals(True)
            box.setValue(shown)
            box.blockSignals(blocked)
        if old[0] != low:
            self.minimumValueIsChanging.emit(low)
            self.minimumValueChanged.emit(low)
        if old[1] != high:
            self.maximumValueIsChanging.emit(high)
            self.maximumValueChanged.emit(high)
        if old != self._pair:
            self.valuesChanged.emit(low, high)

    def setMinimumValue(self, value: float) -> None:
        """Lower value; it pushes the upper one up."""
        self.setValues(value, max(value, self._pair[1]))

    def setMaximumValue(self, value: float) -> None:
        """Upper value; it pushes the lower one down."""
        self.setValues(min(value, self._pair[0]), value)

    def setRange(self, low: float, high: float) -> None:
        """Limits of both values."""
        self._bounds.minimum, self._bounds.maximum = float(low), float(max(low, high))
        self._refresh()
        self.rangeChanged.emit(self._bounds.minimum, self._bounds.maximum)

    def setDecimals(self, decimals: int) -> None:
        """Number of decimals shown and kept."""
        self._bounds.decimals = int(decimals)
        self._refresh()

    def _refresh(self) -> None:
        for box in self._boxes:
            _numbers(box, self._bounds)
        self.setValues(*self._pair)

    def _set_step(self, step: float) -> None:
        self._bounds.step = float(step)
        self._refresh()

    minimumValue = QtCore.Property(float, lambda self: self._pair[0], lambda self, v: self.setMinimumValue(v))
    maximumValue = QtCore.Property(float, lambda self: self._pair[1], lambda self, v: self.setMaximumValue(v))
    minimum = QtCore.Property(
        float, lambda self: self._bounds.minimum, lambda self, v: self.setRange(v, self._bounds.maximum)
    )
    maximum = QtCore.Property(
        float, lambda self: self._bounds.maximum, lambda self, v: self.setRange(min(self._bounds.minimum, v), v)
    )
    singleStep = QtCore.Property(float, lambda self: self._bounds.step, lambda self, v: self._set_step(v))
    decimals = QtCore.Property(int, lambda self: self._bounds.decimals, lambda self, v: self.setDecimals(v))
    suffix = QtCore.Property(
        str, lambda self: self._boxes[0].suffix(), lambda self, v: [b.setSuffix(v) for b in self._boxes] and None
    )
    tracking = stored(bool, "tracking", True)


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    """A ctkSliderWidget that knows the scene's units; units themselves are not applied here."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        """The scene whose unit nodes apply."""
        self._scene = scene

    def mrmlScene(self) -> Any:
        """The scene."""
        return self._scene

    quantity = stored(str, "quantity", "")
