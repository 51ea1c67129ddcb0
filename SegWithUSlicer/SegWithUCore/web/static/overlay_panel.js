// The overlay: which map is drawn over the image and how, its legend, and the table of structures with what is measured.

import { COLOUR_MAPS, colourTable, cssColour } from "./colours.js";
import { element } from "./dom.js";
import { aboveText, firstStep, thresholdText } from "./readout.js";
import { diceText, expectedText, percentText, shortName, volumeText } from "./texts.js";

const MAP_TITLES = {
    ranking: "Uncertainty, unscaled (ranking map)",
    calibration: "Softened probabilities (calibration map)",
};
const LEGEND_TICKS = 5;

// Whose work the figures of a row are; "" for the model's.
function ownText({ read_by: reader, edited }) {
    return reader ? `read by ${reader}` : edited ? "with your edits" : "";
}

export class OverlayPanel {
    // `actions` has load(name), which resolves to a map with its voxels, onMap(), called when another map is shown,
    // ask(names), which changes what is measured, and goTo(structure). `settings` go from case to case: `map`, the name of
    // the map that was chosen, "" for none; `hidden`, structures without an outline; `onlyMeasured`.
    constructor(data, viewer, settings, actions) {
        this.actions = actions;
        this.settings = settings;
        settings.hidden ??= new Set();
        this.data = data;
        // Of a mask alone: nothing is there of a model.
        this.isAlone = !Object.keys(data.maps).length;
        this.viewer = viewer;
        this.steps = {};
        this.map = null;
        this.makeControls();
        this.makeTable();
        this.root = element(
            "section",
            { class: this.isAlone ? "overlay no-maps" : "overlay", "aria-label": "Overlay and structures" },
            this.controls,
            this.legendBox,
            this.tableBox,
        );
        new ResizeObserver(() => this.drawLegend()).observe(this.legend);
        const first = data.description.first_map ?? Object.keys(data.maps)[0] ?? "";
        this.choose(settings.map === "" || data.maps[settings.map] ? settings.map : first);
    }

    makeControls() {
        const { maps } = this.data;
        const options = Object.keys(maps).map((name) =>
            element("option", { value: name }, MAP_TITLES[name] ?? maps[name].title),
        );
        this.mapBox = element(
            "select",
            { id: "map", on: { change: () => this.choose((this.settings.map = this.mapBox.value)) } },
            ...options,
            element("option", { value: "" }, "None"),
        );
        const colours = COLOUR_MAPS.map((name) => element("option", { value: name }, name));
        this.colourBox = element(
            "select",
            { id: "colours", on: { change: () => this.setColours(this.colourBox.value) } },
            ...colours,
        );
        this.opacity = element("input", {
            id: "opacity",
            type: "range",
            min: 0,
            max: 100,
            step: 1,
            value: Math.round(100 * this.viewer.opacity),
            on: {
                input: () => {
                    this.viewer.setOpacity(Number(this.opacity.value) / 100);
                    this.drawLegend();
                },
            },
        });
        this.controls = element(
            "div",
            { class: "overlay-controls" },
            element("label", { class: "field grow" }, "Map", this.mapBox),
            element("label", { class: "field" }, "Colours", this.colourBox),
            element("label", { class: "field" }, "Opacity", this.opacity),
        );
        this.legend = element("canvas", { class: "legend", role: "img", "aria-label": "Legend" });
        this.threshold = element("input", {
            id: "threshold",
            type: "range",
            class: "threshold",
            "aria-label": "Threshold",
            on: { input: () => this.setStep(Number(this.threshold.value)) },
        });
        this.thresholdOut = element("output", { class: "threshold-value", for: "threshold" });
        this.legendBox = element("div", { class: "legend-box" }, this.legend, this.threshold, this.thresholdOut);
    }

    makeTable() {
        this.aboveHeader = element("th", { scope: "col" });
        this.aboveCells = [];
        this.ticks = new Map();
        this.patches = new Map();
        this.figureCells = new Map();
        this.figures = {};
        this.rows = new Map();
        for (const structure of this.data.structures) {
            const { name } = structure;
            const above = element("td", { class: "number above" });
            this.aboveCells.push(above);
            const tick = element("input", {
                type: "checkbox",
                "aria-label": `Measure ${name}`,
                on: { change: () => this.actions.ask([...this.ticks.keys()].filter((one) => this.ticks.get(one).checked)) },
            });
            this.ticks.set(name, tick);
            const cells = ["number range", "number words of-model", "number of-model"].map((kind) => element("td", { class: kind }));
            this.figureCells.set(structure, cells);
            const title = element("th", { scope: "row" }, this.makeName(structure, tick));
            this.rows.set(structure, element("tr", {}, title, ...cells, above));
        }
        // Totals and asymmetries; files made before have none.
        for (const whole of this.data.description.wholes ?? []) {
            const cell = element("td", { class: "number range" });
            this.figureCells.set(whole, [cell]);
            const title = element("th", { scope: "row" }, whole.name);
            this.rows.set(whole, element("tr", {}, title, cell, element("td", { colSpan: 3 })));
        }
        this.showFigures({});
        const titles = ["Measure", "Volume", "Predicted Dice", "Likely wrong"];
        const head = element(
            "tr",
            {},
            ...titles.map((title, at) => element("th", { scope: "col", class: at > 1 ? "of-model" : "" }, title)),
            this.aboveHeader,
        );
        this.body = element("tbody");
        const table = element("table", { class: "structures" }, element("thead", {}, head), this.body);
        this.sortRows(this.data.description.asked);
        this.proposed = element(
            "button",
            { class: "small", on: { click: () => this.actions.ask(this.data.description.asked) } },
            "Measure as proposed",
        );
        const only = element("input", {
            type: "checkbox",
            checked: this.settings.onlyMeasured ?? false,
            on: {
                change: () => {
                    this.settings.onlyMeasured = only.checked;
                    this.showOutlines();
                },
            },
        });
        const title = "Hides the outlines of structures that are not measured, but for the one at hand";
        this.tableBox = element(
            "div",
            { class: "table-box", tabIndex: 0, role: "region", "aria-label": "Structures" },
            element(
                "div",
                { class: "row" },
                this.proposed,
                element("label", { class: "check", title }, only, "Only measured outlines"),
            ),
            table,
        );
    }

    // Puts what is measured first, then its totals: nobody scrolls for the answer to the question.
    sortRows(asked) {
        const values = this.data.structures.filter(({ name }) => asked.includes(name)).map(({ value }) => value);
        const isAsked = ({ value, of = [value] }) => of.every((one) => values.includes(one));
        const rows = [...this.rows].sort(([a], [b]) => isAsked(b) - isAsked(a));
        this.body.replaceChildren(...rows.map(([, row]) => row));
        this.root?.parentElement.scrollTo(0, 0);
        this.sorted = String(asked);
    }

    // Fills a cell with the segmented volume, the expected one with its interval, and how often that held, or the texts of
    // an asymmetry.
    fillVolume(cell, entry) {
        const own = ownText(entry);
        const [volume, expected] = entry.texts ?? [
            volumeText(entry.volume_mm3) + percentText(entry),
            own || `expected ${expectedText(entry)}`,
        ];
        const lines = (this.isAlone ? own : expected).replace(/ (?=mm³|mL)/g, "\u00a0"); // a unit stays with its number
        cell.replaceChildren(
            volume,
            ...lines.split(" (").map((part, line) => element("small", {}, line ? `(${part}` : part)),
            ...(entry.held_text ? [element("small", { class: "held" }, entry.held_text)] : []),
        );
    }

    // Shows the outlines that are wanted.
    showOutlines() {
        const { hidden, onlyMeasured } = this.settings;
        const isLeftOut = (name) => onlyMeasured && !this.ticks.get(name).checked && name !== this.atHand;
        for (const { name } of this.data.structures) {
            const box = this.patches.get(name);
            box.disabled = Boolean(isLeftOut(name));
            box.checked = !box.disabled && !hidden.has(name);
        }
        this.viewer.hideLabels(
            this.data.structures.filter(({ name }) => !this.patches.get(name).checked).map(({ value }) => value),
        );
    }

    // Ticks the structures that are asked. `atHand` names the structure at hand, which may be another one.
    showQuestion(asked, canWrite, atHand) {
        this.atHand = atHand;
        for (const [name, tick] of this.ticks) {
            tick.checked = asked.includes(name);
            tick.disabled = !canWrite;
        }
        this.showOutlines();
        // Not under the pointer of somebody who ticks one after another.
        if (this.sorted !== String(asked) && !this.body.contains(document.activeElement)) {
            this.sortRows(asked);
        }
        this.root.classList.toggle("can-ask", canWrite);
        this.proposed.disabled = !canWrite || String(asked) === String(this.data.description.asked);
    }

    // Shows the figures after the reviewer's work, by name of the row; those of the model where it changed nothing.
    showFigures(figures) {
        this.figures = figures;
        for (const [before, [volume, dice, wrong]] of this.figureCells) {
            const entry = { ...before, ...figures[before.name] };
            this.fillVolume(volume, entry);
            if (dice) {
                dice.textContent = ownText(entry) ? "" : diceText(entry);
                wrong.textContent = volumeText(entry.expected_wrong_mm3);
            }
        }
        this.fillAbove();
    }

    // What measures the structure, a switch for the outline in its colour, and its name, which leads there.
    makeName(structure, tick) {
        const { name } = structure;
        const box = element("input", {
            type: "checkbox",
            class: "patch",
            checked: true,
            title: "Show the outline",
            "aria-label": `Outline of ${name}`,
            on: {
                change: () => {
                    this.settings.hidden[box.checked ? "delete" : "add"](name);
                    this.showOutlines();
                },
            },
        });
        this.patches.set(name, box);
        box.style.background = box.style.borderColor = cssColour(structure.color);
        const flags = structure.flags?.join(" ");
        const mark = flags
            ? element("span", { class: "flag-mark", title: flags, role: "img", "aria-label": `Flagged: ${flags}` }, "⚑")
            : null;
        return element(
            "div",
            { class: "structure-name" },
            tick,
            box,
            element(
                "div",
                {},
                element(
                    "button",
                    { class: "link name", title: `Go to ${name}`, on: { click: () => this.actions.goTo(name) } },
                    shortName(name),
                ),
                element(
                    "button",
                    { class: "link only", "aria-label": `Measure only ${name}`, on: { click: () => this.actions.ask([name]) } },
                    "measure only this",
                ),
            ),
            mark,
        );
    }

    // Shows a map by name; "" for none.
    async choose(name) {
        this.mapBox.value = name;
        const map = this.data.maps[name] ?? null;
        if (map && !map.data) {
            this.root.setAttribute("aria-busy", "true");
            try {
                await this.actions.load(name);
            } catch (error) {
                this.thresholdOut.textContent = error.message;
                return;
            } finally {
                this.root.removeAttribute("aria-busy");
            }
            if (this.mapBox.value !== name) {
                return;
            }
        }
        this.show(map);
    }

    show(map) {
        this.map = map;
        this.viewer.setMap(map ? map.name : null);
        this.legendBox.hidden = map === null;
        if (map) {
            this.steps[map.name] ??= firstStep(map, this.data.structures);
            this.threshold.min = 0;
            this.threshold.max = map.steps;
            this.threshold.step = 1;
            this.setStep(this.steps[map.name]);
        } else {
            this.fillAbove();
        }
        this.actions.onMap();
    }

    setStep(step) {
        this.steps[this.map.name] = step;
        this.threshold.value = step;
        this.viewer.setStep(step);
        const text = thresholdText(this.map, step);
        this.thresholdOut.textContent = `from ${text}`;
        this.threshold.setAttribute("aria-valuetext", text);
        this.fillAbove();
        this.drawLegend();
    }

    setColours(name) {
        this.viewer.setColours(name);
        this.drawLegend();
    }

    fillAbove() {
        const { map } = this;
        this.aboveHeader.textContent = map ? `At least ${thresholdText(map, this.steps[map.name])}` : "";
        this.data.structures.forEach((structure, index) => {
            const isOwn = ownText(this.figures[structure.name] ?? {});
            const text = map && !isOwn ? aboveText(map, structure, this.steps[map.name], this.data.voxelMm3) : "";
            const [share, volume] = text.split(", ");
            this.aboveCells[index].replaceChildren(share, ...(volume ? [element("small", {}, volume)] : []));
        });
    }

    // The window in colours with its ticks; what lies below the threshold is dark, as in the views.
    drawLegend() {
        const { map, legend } = this;
        const ratio = window.devicePixelRatio || 1;
        const [width, height] = [Math.round(legend.clientWidth * ratio), Math.round(legend.clientHeight * ratio)];
        if (!map || !width || !height) {
            return;
        }
        legend.width = width;
        legend.height = height;
        const context = legend.getContext("2d");
        const table = colourTable(this.viewer.colours);
        const [top, bar] = [Math.round(17 * ratio), Math.round(12 * ratio)];
        const [left, span] = [Math.round(8 * ratio), width - Math.round(16 * ratio)];
        const shown = (this.steps[map.name] / map.steps) * span;
        for (let x = 0; x < span; x++) {
            const entry = 3 * Math.round((255 * x) / Math.max(1, span - 1));
            context.globalAlpha = x < shown ? 0.25 : 1;
            context.fillStyle = cssColour(table.slice(entry, entry + 3));
            context.fillRect(left + x, top, 1, bar);
        }
        context.globalAlpha = 1;
        context.fillStyle = "#c9d1d9";
        context.font = `${Math.round(12 * ratio)}px system-ui, sans-serif`;
        context.textBaseline = "top";
        const unit = map.unit && map.unit !== "1" ? ` ${map.unit}` : "";
        for (let tick = 0; tick <= LEGEND_TICKS; tick++) {
            const at = (map.steps * tick) / LEGEND_TICKS;
            context.textAlign = tick === 0 ? "left" : tick === LEGEND_TICKS ? "right" : "center";
            const x = left + (span * tick) / LEGEND_TICKS;
            context.fillText(String(Number(thresholdText(map, at))) + (tick === LEGEND_TICKS ? unit : ""), x, 1);
        }
        legend.setAttribute(
            "aria-label",
            `Legend of ${map.title}: ${thresholdText(map, 0)} to ${thresholdText(map, map.steps)}${unit}, coloured ${this.thresholdOut.textContent}`,
        );
    }
}
