// The bar above a case: its name and status, what is known about it, the tools of the views, and what is stored.

import { element, showText } from "./dom.js";
import { TOOLS } from "./pointer.js";

function keysText(verdicts) {
    const single = verdicts.filter(({ single_key: key }) => key);
    const letters = single.map(({ single_key: key, text }) => `${key} ${text}`).join(", ");
    const digits = single.map(({ key, text }) => `${key} ${text}`).join(", ");
    return `Keys: ${letters}, each goes on to the next open region; D finishes the structure, M adds a place at the crosshair; U undo, C comment; N next open, Shift+N previous, digits a region by its number; hold P to see the bare image, W shows the whole image. With single keys off: ${digits}, Ctrl+Alt+F finish, Ctrl+Alt+P add a place, Ctrl+Alt+Z undo, Ctrl+Alt+C comment. Ctrl+Alt+N next open case. In a view: arrows move the crosshair, Page Up and Page Down the slice, + and - zoom, Ctrl+arrows move the picture, Shift+arrows change contrast and brightness, Enter enlarges. They rest while you type.`;
}

// Hounsfield units of air, and windows as [from, to] of them.
const CT_AIR = -900;
const CT_WINDOWS = [
    ["Soft tissue (CT)", [-160, 240]],
    ["Brain (CT)", [0, 80]],
    ["Lung (CT)", [-1350, 150]],
    ["Bone (CT)", [-450, 1050]],
];

export class CaseHeader {
    // `actions` has back and nextCase, or is null where there is only one case.
    constructor(description, verdicts, viewer, settings, actions, settingsChanged) {
        this.tool = "crosshair";
        this.onTool = () => {};
        this.stored = element("span", { class: "stored", role: "status" });
        this.next =
            actions &&
            element(
                "button",
                {
                    title: "Ctrl+Alt+N",
                    "aria-keyshortcuts": "Control+Alt+N",
                    disabled: true,
                    on: { click: actions.nextCase },
                },
                "Next open case",
            );
        const { level, reason } = description.status;
        this.root = element(
            "header",
            { class: "topbar" },
            actions && element("button", { class: "back", on: { click: actions.back } }, "← Cases"),
            element("h1", { title: description.name }, description.name),
            element("span", { class: "chip", "data-level": level, title: reason }, level),
            makeFacts(description, verdicts),
            element("span", { class: "grow" }),
            this.makeTools(viewer, settings, settingsChanged),
            element("span", { class: "grow" }),
            this.stored,
            this.next,
        );
    }

    // From here on the next case may be asked for: before, a second press would pass over a case unseen.
    allowNext() {
        if (this.next) {
            this.next.disabled = false;
        }
    }

    makeTools(viewer, settings, settingsChanged) {
        this.toolNames = TOOLS.map(({ name }) => name).filter((name) => viewer.brush || name !== "brush");
        this.toolButtons = TOOLS.filter(({ name }) => this.toolNames.includes(name)).map(({ name, title, tip }) =>
            element(
                "button",
                { title: tip, "aria-pressed": String(name === this.tool), on: { click: () => this.useTool(name) } },
                title,
            ),
        );
        const check = (title, checked, changed) => {
            const box = element("input", { type: "checkbox", checked, on: { change: () => changed(box.checked) } });
            return element("label", { class: "check" }, box, title);
        };
        const smooth = check("Smooth", settings.smooth ?? true, (on) => {
            settings.smooth = on;
            viewer.setSmooth(on);
        });
        return element(
            "div",
            { class: "tools", role: "group", "aria-label": "Views" },
            ...this.toolButtons,
            element("button", { title: "Show the whole image (W)", on: { click: () => viewer.fit() } }, "Fit"),
            makeWindows(viewer, settings),
            smooth,
            check("Keys", settings.singleKeys ?? true, (on) => {
                settings.singleKeys = on;
                settingsChanged();
            }),
            check("Fill", false, (on) => viewer.setFill(on)),
        );
    }

    useTool(name) {
        this.tool = name;
        this.toolButtons.forEach((button, index) =>
            button.setAttribute("aria-pressed", String(this.toolNames[index] === name)),
        );
        this.onTool();
    }
}

// Window presets; those of CT where the values reach as low as air. `settings.window` is the one that was chosen, also in
// cases before.
function makeWindows(viewer, settings) {
    const { image } = viewer.data;
    if (!image) {
        return null;
    }
    const [low, high] = image.range;
    const presets = [
        ["As at first", image.window],
        ["Whole range", [low, high]],
        ["Dark tissue", [low, (image.window[0] + image.window[1]) / 2]],
        ["Bright tissue", [(image.window[0] + image.window[1]) / 2, high]],
        ...(low <= CT_AIR ? CT_WINDOWS : []),
    ];
    const box = element(
        "select",
        {
            title: "Brightness and contrast",
            "aria-label": "Window",
            on: {
                change: () => {
                    settings.window = presets[box.selectedIndex][0];
                    viewer.setWindow(...presets[box.selectedIndex][1]);
                    box.blur();
                },
            },
        },
        ...presets.map(([title]) => element("option", {}, title)),
        element("option", { hidden: true }, "By hand"),
    );
    const kept = presets.findIndex(([title]) => title === settings.window);
    if (kept > 0) {
        box.selectedIndex = kept;
        viewer.setWindow(...presets[kept][1]);
    }
    viewer.onAdjusted = () => {
        box.selectedIndex = presets.length;
    };
    return box;
}

function makeFacts(description, verdicts) {
    const facts = description.facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
    return element(
        "details",
        { class: "facts" },
        element("summary", {}, "About"),
        element(
            "div",
            { class: "facts-body", tabIndex: 0, role: "region", "aria-label": "About this case" },
            element("ul", {}, ...description.reasons.map((reason) => element("li", {}, reason))),
            element("dl", {}, ...facts),
            element("p", { class: "hint" }, keysText(verdicts)),
        ),
    );
}

// Lines between the bar and the case: what went wrong, what the reviewer should know, and what to do about it.
export class Messages {
    // A case that must not be used says so above all else.
    constructor(actions, { alert }) {
        this.warning = element("p", { class: "banner bad", role: "alert", hidden: true });
        this.note = element("p", { class: "banner", role: "status", hidden: true });
        this.retry = element("button", { hidden: true, on: { click: actions.retry } }, "Try again");
        this.saveUnsent = element(
            "button",
            { hidden: true, on: { click: actions.saveUnsent } },
            "Save unsent verdicts",
        );
        this.root = element(
            "div",
            { class: "messages" },
            alert ? element("p", { class: "banner bad alert" }, alert) : null,
            this.warning,
            this.note,
            this.retry,
            this.saveUnsent,
        );
    }

    warn(text) {
        showText(this.warning, text);
    }

    show(review) {
        const readOnly = review.who ? `Read-only: ${review.trouble}${sinceText(review.who)}` : "";
        this.warn(review.who ? "" : review.trouble);
        showText(this.note, [readOnly, review.message, ...review.notes].filter(Boolean).join(" "));
        this.retry.hidden = review.isOpen || !(review.who || review.trouble);
        this.saveUnsent.hidden = !review.unsentFile;
    }
}

function sinceText({ since }) {
    const when = new Date(since ?? "");
    return Number.isNaN(when.getTime()) ? "" : ` (since ${when.toLocaleString()})`;
}
