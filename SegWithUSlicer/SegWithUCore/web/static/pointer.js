// Mouse, pen, fingers and keys on a slice view.

const PIXELS_A_SLICE = 40;
const PIXELS_A_LINE = 40;
// Drag by so many pixels to double the width of the image window.
const PIXELS_TO_DOUBLE = 150;
const WINDOW_STEP = 1.15;
const ZOOM_STEP = 1.25;
const PAN_PIXELS = 40;

export const TOOLS = [
    { name: "crosshair", title: "Crosshair", tip: "Drag to move the crosshair" },
    { name: "brush", title: "Brush", tip: "Draw the structure at hand (B)" },
    {
        name: "window",
        title: "Brightness",
        tip: "Drag up or down for brightness, left or right for contrast (also with the right mouse button)",
    },
    {
        name: "pan",
        title: "Move",
        tip: "Drag to move the picture (also with the middle mouse button); two fingers move and zoom",
    },
];

// Lets a view follow mouse and fingers. `toolOf` returns the name of the tool at hand.
export function followPointer(viewer, view, toolOf) {
    const { canvas } = view;
    const held = new Map();
    let mode = null;
    let scrolled = 0;

    function place(event) {
        const box = canvas.getBoundingClientRect();
        return [(event.clientX - box.left) * viewer.ratio, (event.clientY - box.top) * viewer.ratio];
    }

    canvas.addEventListener("pointerdown", (event) => {
        canvas.focus({ preventScroll: true });
        event.preventDefault();
        canvas.setPointerCapture(event.pointerId);
        held.set(event.pointerId, place(event));
        mode = held.size > 1 ? "pinch" : modeOf(event, toolOf());
        if (mode === "crosshair") {
            viewer.pick(view, ...place(event));
        } else if (mode === "brush") {
            viewer.brush.begin(view, ...place(event));
        } else if (mode === "pinch") {
            viewer.brush?.cancel();
        }
    });

    canvas.addEventListener("pointermove", (event) => {
        const before = held.get(event.pointerId);
        if (!before) {
            return;
        }
        const now = place(event);
        if (mode === "pinch" && held.size === 2) {
            const [, other] = [...held].find(([id]) => id !== event.pointerId);
            pinch(viewer, view, before, now, other);
        } else if (mode === "crosshair") {
            viewer.pick(view, ...now);
        } else if (mode === "brush") {
            viewer.brush.move(...now);
        } else if (mode === "pan") {
            viewer.panBy(view, now[0] - before[0], now[1] - before[1]);
        } else if (mode === "window") {
            const perPixel = 1 / (PIXELS_TO_DOUBLE * viewer.ratio);
            viewer.adjustWindow(2 ** ((now[0] - before[0]) * perPixel), ((before[1] - now[1]) * perPixel) / 2);
        }
        held.set(event.pointerId, now);
    });

    for (const kind of ["pointerup", "pointercancel"]) {
        canvas.addEventListener(kind, (event) => {
            held.delete(event.pointerId);
            if (mode === "brush") {
                viewer.brush[kind === "pointerup" ? "end" : "cancel"]();
            }
            // The finger that stays after a pinch does nothing more.
            mode = held.size ? "rest" : null;
        });
    }

    canvas.addEventListener(
        "wheel",
        (event) => {
            event.preventDefault();
            const pixels = event.deltaY * (event.deltaMode === 0 ? 1 : PIXELS_A_LINE);
            if (event.ctrlKey || event.metaKey) {
                viewer.zoomBy(2 ** (-pixels / 250), view, ...place(event));
                return;
            }
            scrolled += pixels;
            if (Math.abs(scrolled) >= PIXELS_A_SLICE) {
                (viewer.onWheel ?? ((step) => viewer.stepBy(view, 0, 0, step)))(-Math.sign(scrolled));
                scrolled = 0;
            }
        },
        { passive: false },
    );

    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => viewer.enlarge(view));
    canvas.addEventListener("keydown", (event) => {
        if (!event.altKey && moveByKey(viewer, view, event)) {
            event.preventDefault();
            event.stopPropagation();
        }
    });
}

function modeOf(event, tool) {
    if (event.button === 2) {
        return "window";
    }
    return event.button === 1 || event.shiftKey ? "pan" : tool;
}

function pinch(viewer, view, before, now, other) {
    const distance = (point) => Math.max(10, Math.hypot(point[0] - other[0], point[1] - other[1]));
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    viewer.panBy(view, (now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    viewer.zoomBy(distance(now) / distance(before), view, ...middle);
}

// Keys of a view that has the keyboard. Returns whether the key was one of them.
function moveByKey(viewer, view, event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) {
        viewer.adjustWindow(WINDOW_STEP ** arrow[0], -arrow[1] / 20);
    } else if (arrow && (event.ctrlKey || event.metaKey)) {
        viewer.panBy(view, -arrow[0] * PAN_PIXELS, -arrow[1] * PAN_PIXELS);
    } else if (arrow) {
        viewer.stepBy(view, ...arrow);
    } else if (event.ctrlKey || event.metaKey) {
        return false;
    } else if (event.key === "PageUp" || event.key === "f") {
        viewer.stepBy(view, 0, 0, 1);
    } else if (event.key === "PageDown" || event.key === "b") {
        viewer.stepBy(view, 0, 0, -1);
    } else if (event.key === "+" || event.key === "=") {
        viewer.zoomBy(ZOOM_STEP);
    } else if (event.key === "-") {
        viewer.zoomBy(1 / ZOOM_STEP);
    } else if (event.key === "Enter" && !viewer.onWheel) {
        viewer.enlarge(view);
    } else {
        return false;
    }
    return true;
}
