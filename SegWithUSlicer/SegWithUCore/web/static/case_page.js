// A case on the page: regions at the left, three views and the overlay at the right, messages above.

import { loadMasks, loadVolume, localVoxel, maskOf, wholeVoxel } from "./case_data.js";
import { ask, download, element, showText } from "./dom.js";
import { pointText, rasOf } from "./geometry.js";
import { OverlayPanel } from "./overlay_panel.js";
import { valueAt } from "./planes.js";
import { TOOLS, followPointer } from "./pointer.js";
import { thresholdAt } from "./readout.js";
import { RegionsPanel, VerdictCard } from "./regions_panel.js";
import { Review } from "./review.js";
import { budgetText, nextUndecided, progressText } from "./review_state.js";
import { ORDER_TEXTS, ruleText, volumeText } from "./texts.js";
import { drawThumbnail } from "./thumbnails.js";
import { Viewer } from "./viewer.js";

const VALUE_DELAY_MS = 120;
const FIRST_BUDGET = 10;

export class CasePage {
    // `data` is of `loadCase`; `actions` has back(), nextCase(), reviewerChanged().
    constructor(source, data, worklist, settings, actions) {
        this.source = source;
        this.data = data;
        this.description = data.description;
        this.worklist = worklist;
        this.settings = settings;
        this.actions = actions;
        this.labels = data.labels;
        this.masks = new Uint8Array(0);
        this.tool = "crosshair";
        this.review = new Review(source, this.description, (what) => this.reviewChanged(what));
        this.viewer = new Viewer(data, () => this.moved());
        this.viewer.setSmooth(settings.smooth ?? true);
        this.overlay = new OverlayPanel(data, this.viewer);
        this.regions = new RegionsPanel(
            (canvas, region) => this.drawPicture(canvas, region),
            (id) => this.goTo(id),
        );
        this.card = new VerdictCard(worklist.verdicts, {
            judge: (verdict) => this.judge(verdict),
            undo: () => this.undo(),
            comment: (text) => this.comment(text),
            commentDone: () => this.regions.list.focus(),
            judgeStructure: (verdict) => this.judgeStructure(verdict),
        });
        this.make();
        for (const view of this.viewer.views) {
            followPointer(this.viewer, view, () => this.tool);
        }
        this.whenLeaving = (event) => {
            if (this.hasUnsaved) {
                event.preventDefault();
            }
        };
        window.addEventListener("beforeunload", this.whenLeaving);
    }

    // Loads what the regions need and begins; the page is in the document by then.
    async start() {
        await this.loadMasks();
        this.fillRegions();
        this.viewer.showAll();
        const first = this.review.ordered[0];
        if (first) {
            this.goTo(first.id);
        }
        this.viewer.draw();
        if (this.settings.reviewer && !this.description.regions_trouble) {
            await this.startReview();
        }
    }

    // -- elements --

    make() {
        const { description } = this;
        this.chips = [...new Set(description.flags.map(({ rule }) => ruleText(rule)))].map((text) =>
            element("span", { class: "chip" }, text),
        );
        this.warning = element("p", { class: "banner bad", role: "alert", hidden: true });
        this.note = element("p", { class: "banner", role: "status", hidden: true });
        this.retry = element("button", { hidden: true, on: { click: () => this.review.openAgain() } }, "Try again");
        this.saveUnsent = element(
            "button",
            { hidden: true, on: { click: () => this.saveFile(this.review.unsentFile) } },
            "Save unsent verdicts",
        );
        this.stored = element("span", { class: "stored", role: "status" });
        this.readout = element("p", { class: "readout", "aria-live": "off" });
        const back = this.source.isFile
            ? null
            : element("button", { class: "back", on: { click: () => this.actions.back() } }, "← Cases");
        const next = this.source.isFile
            ? null
            : element(
                  "button",
                  {
                      title: "Ctrl+Alt+N",
                      "aria-keyshortcuts": "Control+Alt+N",
                      on: { click: () => this.actions.nextCase() },
                  },
                  "Next open case",
              );
        this.root = element(
            "main",
            { class: "case" },
            element(
                "header",
                { class: "topbar" },
                back,
                element("h1", { title: description.name }, description.name),
                ...this.chips,
                this.makeFacts(),
                element("span", { class: "grow" }),
                this.makeTools(),
                element("span", { class: "grow" }),
                this.stored,
                next,
            ),
            element("div", { class: "messages" }, this.warning, this.note, this.retry, this.saveUnsent),
            element(
                "div",
                { class: "columns" },
                element(
                    "aside",
                    { class: "side", "aria-label": "Regions and verdicts" },
                    this.makeReviewHead(),
                    this.regions.root,
                    this.card.root,
                    this.makeBudget(),
                ),
                this.viewer.root,
            ),
        );
        this.viewer.root.append(
            element("div", { class: "panel-cell" }, this.overlay.root, this.readout, this.makeSummary()),
        );
        this.viewer.root.dataset.oblique = String(this.data.grid.oblique);
    }

    makeFacts() {
        const flags = this.description.flags.map(({ sentence }) => element("li", {}, sentence));
        const facts = this.description.facts.flatMap(([name, value]) => [
            element("dt", {}, name),
            element("dd", {}, value),
        ]);
        return element(
            "details",
            { class: "facts" },
            element("summary", {}, "About"),
            element(
                "div",
                { class: "facts-body" },
                flags.length ? element("ul", {}, ...flags) : null,
                element("dl", {}, ...facts),
                element("p", { class: "hint" }, KEYS_TEXT),
            ),
        );
    }

    makeTools() {
        this.toolButtons = TOOLS.map(({ name, title, tip }) =>
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
        return element(
            "div",
            { class: "tools", role: "toolbar", "aria-label": "Views" },
            ...this.toolButtons,
            element("button", { title: "Show the whole image (R)", on: { click: () => this.viewer.fit() } }, "Fit"),
            element(
                "button",
                { title: "Brightness and contrast as at first", on: { click: () => this.viewer.resetWindow() } },
                "Reset",
            ),
            check("Smooth", this.settings.smooth ?? true, (on) => {
                this.settings.smooth = on;
                this.viewer.setSmooth(on);
            }),
            check("Fill", false, (on) => this.viewer.setFill(on)),
        );
    }

    makeReviewHead() {
        const orders = this.worklist.orders.map((order) =>
            element("option", { value: order }, ORDER_TEXTS[order] ?? order),
        );
        this.progress = element("p", { class: "progress", role: "status" });
        this.progressBar = element("progress", { max: 1, value: 0, "aria-label": "Regions decided" });
        this.order = element(
            "select",
            { "aria-label": "Order of regions", on: { change: () => this.setOrder(this.order.value) } },
            ...orders,
        );
        this.name = element("input", {
            type: "text",
            value: this.settings.reviewer,
            autocomplete: "name",
            maxLength: 100,
        });
        this.startForm = element(
            "form",
            {
                class: "start",
                on: {
                    submit: (event) => {
                        event.preventDefault();
                        this.nameGiven();
                    },
                },
            },
            element("label", { class: "field grow" }, "Your name", this.name),
            element("button", { class: "primary" }, "Start review"),
        );
        this.fileRow = this.source.isFile ? this.makeFileRow() : null;
        this.finish = element(
            "button",
            { class: "primary", hidden: true, on: { click: () => this.review.reveal() } },
            "Finish: show the blind places",
        );
        return element(
            "div",
            { class: "review-head" },
            this.startForm,
            this.progress,
            this.progressBar,
            this.finish,
            this.fileRow,
            this.order,
        );
    }

    makeFileRow() {
        const picker = element("input", {
            type: "file",
            accept: ".json",
            hidden: true,
            "aria-label": "File of verdicts",
            on: { change: () => this.continueFrom(picker) },
        });
        this.save = element(
            "button",
            { class: "primary", disabled: true, on: { click: () => this.saveFile(this.source.fileText()) } },
            "Save verdicts",
        );
        return element(
            "div",
            { class: "row" },
            this.save,
            element("button", { on: { click: () => picker.click() } }, "Continue from a file"),
            picker,
        );
    }

    makeBudget() {
        const regions = this.description.regions.length;
        this.budget = element("input", {
            type: "number",
            min: 0,
            max: regions,
            value: Math.min(FIRST_BUDGET, regions),
            "aria-label": "Regions that you mean to look at",
            on: { input: () => this.sayBudget() },
        });
        this.budgetLine = element("p", { class: "budget-line" });
        this.rest = element("button", { on: { click: () => this.acceptRest() } }, "Accept the rest");
        this.budgetBox = element(
            "section",
            { class: "budget", "aria-label": "Budget" },
            element("div", { class: "row" }, element("label", { class: "check" }, "Budget", this.budget), this.rest),
            this.budgetLine,
        );
        return this.budgetBox;
    }

    makeSummary() {
        const { description } = this;
        const total = description.total_expected_wrong_mm3;
        const parts = [];
        if (total !== null && total !== undefined) {
            parts.push(
                `Expected error in this case: ${volumeText(total)}, in regions ${volumeText(description.regions.reduce((sum, region) => sum + region.expected_wrong_mm3, 0))}.`,
            );
        }
        if (this.data.grid.oblique) {
            parts.push("Oblique image: shown along its own axes; letters name the nearest directions.");
        }
        if (description.image_trouble) {
            parts.push(description.image_trouble);
        }
        return element("p", { class: "case-summary" }, parts.join(" "));
    }

    // -- regions --

    async loadMasks() {
        const masks = this.review.masks;
        this.masks = masks ? await loadMasks(this.source, this.data.id, masks, this.review.regions) : new Uint8Array(0);
    }

    fillRegions() {
        const ordered = this.review.ordered;
        this.regions.fill(ordered, this.description.regions_trouble);
        this.order.value = this.review.order;
        const { current } = this.review;
        if (current && !ordered.some(({ id }) => id === current.id)) {
            this.review.current = null;
        }
        if (this.review.current) {
            this.regions.select(this.review.current.id);
        }
        this.update();
    }

    setOrder(order) {
        this.review.order = order;
        this.fillRegions();
    }

    goTo(id) {
        const region = this.review.regions.find((one) => one.id === id);
        if (!region) {
            return;
        }
        this.keepComment();
        const mask = maskOf(region, this.masks, this.data.frame);
        this.review.look(region);
        this.viewer.setMark(mask);
        this.viewer.showBox(localVoxel(region.peak_ijk, this.data.frame), mask);
        this.regions.select(id);
        this.update();
    }

    next() {
        const id = nextUndecided(this.review.state, this.review.orderedIds, this.review.current?.id);
        if (id !== null) {
            this.goTo(id);
        }
    }

    previous() {
        const ids = this.review.orderedIds;
        const at = ids.indexOf(this.review.current?.id);
        if (at > 0) {
            this.goTo(ids[at - 1]);
        }
    }

    drawPicture(canvas, region) {
        drawThumbnail(
            canvas,
            this.data,
            this.labels,
            this.viewer.rawWindow(),
            localVoxel(region.peak_ijk, this.data.frame),
            maskOf(region, this.masks, this.data.frame),
        );
    }

    // -- verdicts --

    judge(verdict) {
        if (!this.review.canWrite || !this.review.current) {
            return;
        }
        if (verdict === "corrected" && !this.review.hasEdits) {
            return;
        }
        this.keepComment();
        this.review.judge(verdict);
        if (this.card.goOn.checked) {
            this.next();
        }
    }

    undo() {
        const region = this.review.canWrite ? this.review.undo() : null;
        if (region !== null) {
            this.goTo(region);
        }
    }

    comment(text) {
        if (this.review.current && this.review.canWrite) {
            this.review.comment(this.review.current, text);
        }
    }

    keepComment() {
        if (!this.card.comment.disabled) {
            this.comment(this.card.comment.value.trim());
        }
    }

    judgeStructure(verdict) {
        if (this.review.current && this.review.canWrite) {
            this.review.judgeStructure(this.review.current.structure, verdict);
        }
    }

    async acceptRest() {
        const open = this.review.regions.filter(({ id }) => this.review.state.verdicts[id] === undefined);
        const wrong = this.realRegions
            .filter(({ id }) => this.review.state.verdicts[id] === undefined)
            .reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
        const total = this.description.total_expected_wrong_mm3;
        const share = total > 0 ? Math.min(100, Math.ceil((100 * wrong) / total)) : 0;
        const question = `Take the ${open.length} regions without a verdict as they are, without a look? They hold ${volumeText(wrong)} of expected error, ${share} % of this case's. They are logged as "not looked at" and counted apart; undo takes all of it back.`;
        if (open.length && (await ask(question, "Accept the rest"))) {
            this.review.acceptRest();
        }
    }

    // The case's own regions: blind places take time but are none of its expected errors.
    get realRegions() {
        return this.description.regions;
    }

    // -- the review as a whole --

    nameGiven() {
        this.settings.reviewer = this.name.value.trim();
        this.actions.reviewerChanged();
        if (this.settings.reviewer) {
            this.startReview();
        }
    }

    async startReview() {
        await this.review.open(this.settings.reviewer, this.source.isFile ? 0 : this.settings.blindPlaces);
        const resumed = this.review.state.lastRegion ?? this.review.resumedAt;
        const open = nextUndecided(this.review.state, this.review.orderedIds, resumed);
        if (this.review.isOpen && (open ?? resumed) !== null) {
            this.goTo(open ?? resumed);
        }
    }

    async reviewChanged({ regions = false, labels = false }) {
        if (labels && this.review.labels) {
            this.labels = await loadVolume(this.source, this.data.id, this.review.labels, this.data.frame);
            this.viewer.setLabels(this.labels);
        }
        if (regions) {
            await this.loadMasks();
            this.fillRegions();
        }
        this.update();
    }

    update() {
        const { review } = this;
        const { state, current } = review;
        const pendingIds = new Set(review.pending.flatMap(({ events }) => events).map(({ region }) => region));
        this.regions.update(state.verdicts, pendingIds, review.others, review.revealed);
        this.card.show(current, {
            verdict: current ? state.verdicts[current.id] : undefined,
            comment: current ? (state.comments[current.id] ?? "") : "",
            structure: current ? review.structure(current.structure) : null,
            canWrite: review.canWrite,
            canUndo: state.nextUndo !== null && !review.pending.length,
            hasEdits: review.hasEdits,
        });
        this.showProgress();
        this.sayBudget();
        this.showMessages();
    }

    showProgress() {
        const { review } = this;
        const { progress } = review.state;
        const text = review.serverProgress && !review.pending.length ? review.serverProgress : progressText(progress);
        this.progress.textContent = review.regions.length ? [text, this.closingText()].filter(Boolean).join(". ") : "";
        this.progressBar.value = progress.regions ? (progress.decided + progress.unseen) / progress.regions : 0;
        this.progressBar.hidden = !review.regions.length;
        this.order.hidden = !review.regions.length;
        this.startForm.hidden = review.isOpen || review.who !== null || Boolean(this.description.regions_trouble);
        this.finish.hidden = !(review.canWrite && review.isDone && review.blindPlaces && !review.revealed);
        this.budgetBox.hidden = !review.regions.length;
        this.rest.disabled = !review.canWrite || review.isDone;
    }

    closingText() {
        const { review } = this;
        if (!review.isDone) {
            return "";
        }
        const given = Object.values(review.state.verdicts);
        const count = (verdict) => given.filter((one) => one === verdict).length;
        const unseen = count("not looked at");
        const all = `All ${review.regions.length} regions are decided`;
        const but = unseen ? ` but for ${unseen} that were not looked at` : "";
        return `${all}${but}: ${count("rejected")} rejected, ${count("needs second reader")} for a second reader`;
    }

    showMessages() {
        const { review } = this;
        const readOnly = review.who ? `Read-only: ${review.trouble}${sinceText(review.who)}` : "";
        showText(this.warning, review.who ? "" : review.trouble);
        showText(this.note, [readOnly, review.message, review.blindReport, ...review.notes].filter(Boolean).join(" "));
        this.retry.hidden = review.isOpen || !(review.who || review.trouble);
        this.saveUnsent.hidden = !review.unsentFile;
        this.stored.textContent = this.storedText();
        if (this.save) {
            this.save.disabled = !review.isOpen || review.lines.length < 2;
        }
    }

    storedText() {
        const { review, source } = this;
        if (!review.isOpen) {
            return "";
        }
        if (source.isFile) {
            return source.unsaved ? "Not saved yet" : "";
        }
        return review.pending.length ? "Storing …" : `${review.reviewer}: all stored`;
    }

    sayBudget() {
        const total = this.description.total_expected_wrong_mm3;
        if (total === null || total === undefined) {
            showText(this.budgetLine, "");
            return;
        }
        const number = Number(this.budget.value) || 0;
        const text = budgetText(this.realRegions, total, this.review.order, number, volumeText);
        const { decided } = this.review.state.progress;
        const reached =
            this.review.canWrite && decided >= number && !this.review.isDone
                ? " You have looked at as many: the rest can be accepted."
                : "";
        showText(this.budgetLine, text + reached);
    }

    // -- files of verdicts --

    get hasUnsaved() {
        return this.review.hasUnsaved || Boolean(this.source.unsaved);
    }

    saveFile(text) {
        const plain = (name) => name.replace(/[^\p{L}\p{N}_.-]+/gu, "_").slice(0, 60);
        download(`review-${plain(this.description.name)}-${plain(this.review.reviewer)}.segwithu.json`, text);
        this.review.unsentFile = null;
        this.update();
    }

    async continueFrom(picker) {
        const [file] = picker.files;
        if (!file) {
            return;
        }
        try {
            this.settings.reviewer = this.source.load(await file.text());
            this.name.value = this.settings.reviewer;
            await this.startReview();
        } catch (error) {
            showText(this.warning, error.message);
        }
        picker.value = "";
    }

    // -- tools, keys, readout --

    useTool(name) {
        this.tool = name;
        this.toolButtons.forEach((button, index) =>
            button.setAttribute("aria-pressed", String(TOOLS[index].name === name)),
        );
    }

    moved() {
        this.showReadout(null);
        clearTimeout(this.valueTimer);
        if (!this.source.isFile) {
            this.valueTimer = setTimeout(() => this.askValue(), VALUE_DELAY_MS);
        }
    }

    // The exact values: the page itself holds maps in steps of their window.
    async askValue() {
        const voxel = [...this.viewer.voxel];
        try {
            const exact = await this.source.value(this.data.id, wholeVoxel(voxel, this.data.frame));
            if (exact && voxel.every((index, axis) => index === this.viewer.voxel[axis])) {
                this.showReadout(exact);
            }
        } catch {
            // What stands there, from the page's own bytes, stays.
        }
    }

    showReadout(exact) {
        const { data, viewer, overlay } = this;
        const parts = [pointText(rasOf(data.grid, viewer.voxel))];
        const label = this.labels ? valueAt(this.labels, viewer.voxel, 0) : 0;
        parts.push(data.structures.find(({ value }) => value === label)?.name ?? "background");
        if (data.image) {
            const raw = valueAt(data.image, viewer.voxel, null);
            const value = exact?.image ?? (raw === null ? null : raw * data.image.scale + data.image.offset);
            parts.push(value === null ? "" : `image ${Number(value.toPrecision(5))}`);
        }
        const { map } = overlay;
        if (map) {
            const byte = valueAt(map, viewer.voxel, 0);
            const value = exact ? exact.maps[map.name] : null;
            const near = byte === 0 ? "not assessed" : `≈ ${thresholdAt(map, Math.max(0, byte - 2)).toFixed(2)}`;
            parts.push(
                `${map.title.toLowerCase()} ${value === null || value === undefined ? near : value.toPrecision(3)}`,
            );
        }
        this.readout.textContent = parts.filter(Boolean).join(" · ");
    }

    close() {
        this.keepComment();
        clearTimeout(this.valueTimer);
        window.removeEventListener("beforeunload", this.whenLeaving);
        this.viewer.close();
        return this.review.close();
    }
}

function sinceText({ since }) {
    if (!since) {
        return "";
    }
    const when = new Date(since);
    return Number.isNaN(when.getTime()) ? "" : ` (since ${when.toLocaleString()})`;
}

export const KEYS_TEXT =
    "Keys: N next undecided, Shift+N previous; Ctrl+Alt+1 accepted, 2 corrected, 3 rejected, 4 second reader; Ctrl+Alt+Z undo, Ctrl+Alt+C comment, Ctrl+Alt+N next open case; hold P to see the bare image; R shows the whole image. In a view: arrows move the crosshair, Page Up and Page Down the slice, + and - zoom, Ctrl+arrows move the picture, Shift+arrows change brightness and contrast, Enter enlarges. They rest while you type.";
