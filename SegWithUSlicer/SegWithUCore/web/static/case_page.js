// A case on the page: regions and verdicts at the left, three views and the overlay at the right, messages above.

import { loadMap, loadMasks, loadVolume, localVoxel, maskOf } from "./case_data.js";
import { CaseHeader, Messages } from "./case_header.js";
import { CursorLine } from "./cursor_line.js";
import { download, element } from "./dom.js";
import { OverlayPanel } from "./overlay_panel.js";
import { followPointer } from "./pointer.js";
import { RegionsPanel, VerdictCard } from "./regions_panel.js";
import { Review } from "./review.js";
import { ReviewSide } from "./review_side.js";
import { nextUndecided } from "./review_state.js";
import { volumeText } from "./texts.js";
import { drawThumbnail } from "./thumbnails.js";
import { Viewer } from "./viewer.js";

// Digits that follow each other faster make one number.
const NUMBER_MS = 1_000;

export class CasePage {
    // `data` is of `loadCase`; `actions` has back(), nextCase(), settingsChanged().
    constructor(source, data, worklist, settings, actions) {
        this.source = source;
        this.data = data;
        this.description = data.description;
        this.settings = settings;
        this.actions = actions;
        this.labels = data.labels;
        this.masks = new Uint8Array(0);
        this.review = new Review(source, this.description, worklist.verdicts, settings.order, (what) => this.reviewChanged(what));
        this.cursor = new CursorLine(data);
        this.viewer = new Viewer(data, () => this.moved());
        this.viewer.setSmooth(settings.smooth ?? true);
        this.overlay = new OverlayPanel(
            data,
            this.viewer,
            (name) => loadMap(source, data, name),
            () => this.moved(),
        );
        this.regions = new RegionsPanel(
            worklist.verdicts,
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
        this.side = new ReviewSide(this.review, this.description, worklist, settings, source.isFile, {
            start: (name) => this.nameGiven(name),
            setOrder: (order) => this.setOrder(order),
            save: () => this.saveVerdicts(),
            load: (file) => this.continueFrom(file),
        });
        this.messages = new Messages(
            { retry: () => this.review.openAgain(), saveUnsent: () => this.saveUnsent() },
            this.description.status,
        );
        this.header = new CaseHeader(this.description, worklist.verdicts, this.viewer, settings, source.isFile ? null : actions, () =>
            actions.settingsChanged(),
        );
        this.make();
        for (const view of this.viewer.views) {
            followPointer(this.viewer, view, () => this.header.tool);
        }
        this.whenLeaving = (event) => {
            if (this.hasUnsaved) {
                event.preventDefault();
            }
        };
        window.addEventListener("beforeunload", this.whenLeaving);
    }

    make() {
        const side = element(
            "aside",
            { class: "side", "aria-label": "Regions and verdicts" },
            this.side.head,
            this.regions.root,
            this.card.root,
            this.side.rest,
        );
        this.viewer.root.append(
            element("div", { class: "panel-cell" }, this.overlay.root, this.cursor.root, this.makeSummary()),
        );
        this.root = element(
            "main",
            { class: "case" },
            this.header.root,
            this.messages.root,
            element("div", { class: "columns" }, side, this.viewer.root),
        );
    }

    makeSummary() {
        const { regions, total_expected_wrong_mm3: total, image_trouble: trouble } = this.description;
        const parts = [];
        if (total !== null && total !== undefined) {
            const held = regions.reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
            parts.push(`Expected error in this case: ${volumeText(total)}, of which ${volumeText(held)} is in regions.`);
        }
        if (this.data.grid.oblique) {
            parts.push("Oblique image: shown along its own axes; letters name the nearest directions.");
        }
        if (this.data.boxes.length) {
            parts.push("Yellow boxes: the parts that were segmented.");
        }
        return element("p", { class: "case-summary" }, [...parts, trouble].filter(Boolean).join(" "));
    }

    // Loads what the regions need and begins; the page is in the document by then.
    async start() {
        await this.loadMasks();
        this.fillRegions();
        this.viewer.showAll();
        const [first] = this.review.ordered;
        if (first) {
            this.goTo(first.id);
        }
        this.viewer.draw();
        if (this.settings.reviewer && !this.description.regions_trouble) {
            await this.startReview();
        }
        (this.side.form.hidden ? this.regions.list : this.side.name).focus({ preventScroll: true });
    }

    // -- regions --

    async loadMasks() {
        const { masks, regions } = this.description;
        this.masks = await loadMasks(this.source, this.data.id, masks, regions);
    }

    fillRegions() {
        const { ordered, current } = this.review;
        this.regions.fill(ordered, this.description.regions_trouble);
        this.side.order.value = this.review.order;
        const found = ordered.find(({ id }) => id === current?.id) ?? null;
        this.review.current = found;
        if (found) {
            this.regions.select(found.id);
        }
        this.update();
    }

    setOrder(order) {
        this.review.order = order;
        this.settings.order = order;
        this.actions.settingsChanged();
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
        const { state, orderedIds, current } = this.review;
        const id = nextUndecided(state, orderedIds, current?.id);
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
        const { frame } = this.data;
        const mask = maskOf(region, this.masks, frame);
        drawThumbnail(
            canvas,
            this.data,
            this.labels,
            this.viewer.rawWindow(),
            localVoxel(region.peak_ijk, frame),
            mask,
        );
    }

    // -- verdicts --

    get canJudge() {
        return this.review.canWrite && this.review.current !== null;
    }

    judge(verdict) {
        if (!this.canJudge) {
            return;
        }
        // There is nothing to correct with in the page: only what was edited in Slicer can be called corrected.
        if (this.review.state.kinds.get(verdict).needs_edit && !this.review.hasEdits) {
            this.card.say(`Not stored: only what was edited in 3D Slicer can be called ${verdict}.`);
            return;
        }
        this.keepComment();
        const { rank } = this.review.current;
        this.review.judge(verdict);
        if (this.card.goOn.checked) {
            this.next();
        }
        const now = this.review.current.rank;
        this.card.say(`Region ${rank}: ${verdict}.${now === rank ? "" : ` Now region ${now}.`}`);
    }

    // Goes to the region of a number that is typed, digit by digit.
    typeNumber(digit) {
        clearTimeout(this.numberEnds);
        this.number = (this.number ?? "") + digit;
        this.numberEnds = setTimeout(() => {
            this.number = "";
        }, NUMBER_MS);
        const region = this.review.regions.find(({ rank }) => rank === Number(this.number));
        if (region) {
            this.goTo(region.id);
        }
        this.card.say(region ? `Region ${region.rank}.` : `There is no region ${this.number}.`);
    }

    undo() {
        if (!this.review.canWrite) {
            return;
        }
        const before = this.review.state.nextUndo;
        const region = this.review.undo();
        if (region) {
            this.goTo(region);
        }
        const what = region ? `Undone: region ${this.review.current.rank}.` : "Undone.";
        this.card.say(before === null ? "There is nothing to undo." : what);
    }

    comment(text) {
        if (this.canJudge) {
            this.review.comment(this.review.current, text);
        }
    }

    keepComment() {
        if (!this.card.comment.disabled) {
            this.comment(this.card.comment.value.trim());
        }
    }

    writeComment() {
        this.card.comment.focus();
        this.card.comment.select();
    }

    judgeStructure(verdict) {
        if (this.canJudge) {
            this.review.judgeStructure(this.review.current.structure, verdict);
        }
    }

    // -- the review as a whole --

    async nameGiven(name) {
        this.settings.reviewer = name;
        this.actions.settingsChanged();
        await this.startReview();
        if (this.review.isOpen) {
            this.regions.list.focus({ preventScroll: true });
        }
    }

    async startReview() {
        await this.review.open(this.settings.reviewer);
        const { state, orderedIds } = this.review;
        const stopped = state.lastRegion;
        const isOpen = stopped !== null && state.verdicts[stopped] === undefined;
        const id = isOpen ? stopped : (nextUndecided(state, orderedIds, stopped) ?? stopped);
        if (this.review.isOpen && id !== null) {
            this.goTo(id);
        }
    }

    async reviewChanged({ regions = false, labels = false }) {
        if (labels && this.review.labels) {
            this.labels = await loadVolume(this.source, this.data.id, this.review.labels, this.data.frame);
            this.viewer.setLabels(this.labels);
        }
        if (regions) {
            this.fillRegions();
        }
        this.update();
    }

    update() {
        const { review } = this;
        const { state, current } = review;
        const pendingIds = new Set(review.pending.flatMap(({ events }) => events).map(({ region }) => region));
        this.regions.update(state.verdicts, pendingIds);
        this.card.show(current, {
            verdict: current ? state.verdicts[current.id] : undefined,
            comment: current ? (state.comments[current.id] ?? "") : "",
            structure: current ? review.structure(current.structure) : null,
            canWrite: review.canWrite,
            canUndo: state.nextUndo !== null && !review.pending.length,
            hasEdits: review.hasEdits,
        });
        this.side.update();
        this.messages.show(review);
        this.header.stored.textContent = this.storedText();
    }

    storedText() {
        const { review, source } = this;
        if (!review.isOpen) {
            return "";
        }
        if (source.isFile) {
            return source.unsaved ? "Not saved as a file yet" : "";
        }
        return review.pending.length ? "Storing …" : `${review.reviewer}: all stored`;
    }

    moved() {
        this.cursor.show(this.viewer.voxel, this.labels, this.overlay?.map ?? null);
    }

    // -- files of verdicts --

    get hasUnsaved() {
        return this.review.hasUnsaved || Boolean(this.source.unsaved);
    }

    async saveVerdicts() {
        this.keepComment();
        await this.review.sendAll();
        this.saveFile(this.source.fileText());
        await this.review.reload();
    }

    saveUnsent() {
        this.saveFile(this.review.unsentFile);
        this.review.unsentFile = null;
        this.update();
    }

    saveFile(text) {
        const plain = (name) => name.replace(/[^\p{L}\p{N}_.-]+/gu, "_").slice(0, 60);
        download(`review-${plain(this.description.name)}-${plain(this.review.reviewer)}.segwithu.json`, text);
    }

    async continueFrom(file) {
        try {
            this.settings.reviewer = this.source.load(await file.text());
        } catch (error) {
            this.messages.warn(error.message);
            return;
        }
        this.side.name.value = this.settings.reviewer;
        await this.startReview();
    }

    close() {
        this.keepComment();
        clearTimeout(this.numberEnds);
        window.removeEventListener("beforeunload", this.whenLeaving);
        this.viewer.close();
        return this.review.close();
    }
}
