// Below the verdicts: what scrolls the contour, and how the brush draws.

import { element, showText } from "./dom.js";

const SIZES_MM = [1, 2, 3, 4, 6, 8, 12];

export class DrawingPanel {
    // `actions` has scroll(isWhole), step(steps), take(), keep().
    constructor(brush, actions) {
        const button = (text, title, act) => element("button", { class: "small", title, on: { click: act } }, text);
        this.region = button("Scroll region", "E", () => actions.scroll(false));
        this.whole = button("Scroll structure", "Shift+E", () => actions.scroll(true));
        this.text = element("span", { class: "contour-text", role: "status" });
        this.start = element("span", { class: "row" }, this.region, this.whole);
        this.moving = [
            button("−", "[ or the wheel", () => actions.step(-1)),
            button("+", "] or the wheel", () => actions.step(1)),
            button("Take it", "Enter", () => actions.take()),
        ];
        this.contour = element(
            "div",
            { class: "row", hidden: true },
            this.text,
            ...this.moving,
            button("Keep the old", "Escape", () => actions.keep()),
        );
        const size = element(
            "select",
            { "aria-label": "Radius of the brush", on: { change: () => (brush.millimetres = Number(size.value)) } },
            ...SIZES_MM.map((mm) => element("option", { value: mm, selected: mm === brush.millimetres }, `${mm} mm`)),
        );
        const check = (text, name, title) => {
            const box = element("input", { type: "checkbox", checked: brush[name], on: { change: () => (brush[name] = box.checked) } });
            return element("label", { class: "check", title }, box, text);
        };
        this.brush = element(
            "div",
            { class: "row brush", hidden: true },
            size,
            check("Ball", "isBall", "Draws in neighbouring slices too"),
            check("Only where uncertain", "isHeld", "Voxels with an error probability below 0.05 stay"),
            check("Erase", "erases", "Takes voxels of the structure away"),
        );
        this.root = element("span", { class: "drawing" }, this.start, this.contour, this.brush);
    }

    // `contour` is the text about the contour that is scrolled, or prepared; null where none is.
    show({ contour, isPreparing, canDraw, canScroll, hasRegion, isBrush }) {
        for (const button of this.moving) {
            button.hidden = isPreparing;
        }
        this.region.disabled = !canDraw || !hasRegion;
        this.whole.disabled = !canDraw;
        this.start.hidden = contour !== null || !canScroll;
        this.contour.hidden = contour === null;
        this.brush.hidden = !isBrush;
        showText(this.text, contour ?? "");
    }
}
