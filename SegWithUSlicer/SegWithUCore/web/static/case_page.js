// A case on the page: regions and verdicts at the left, three views and the overlay at the right, messages above.

import { loadMap, loadMasks, loadVolume, localVoxel, maskOf } from "./case_data.js";
import { CaseHeader, Messages } from "./case_header.js";
import { CursorLine } from "./cursor_line.js";
import { download, element } from "./dom.js";
import { Brush, Contour, drawRuns, maskOfLabel, onWholeGrid } from "./drawing.js";
import { DrawingPanel } from "./drawing_panel.js";
import { OverlayPanel } from "./overlay_panel.js";
import { rasOf, voxelOf } from "./geometry.js";
import { extentOfLabel, valueAt } from "./planes.js";
import { followPointer } from "./pointer.js";
import { RegionsPanel, VerdictCard } from "./regions_panel.js";
import { Review } from "./review.js";
import { ReviewSide } from "./review_side.js";
import { finishingVerdict, isBlind, isOpen, nextUndecided } from "./review_state.js";
import { changedVolumeText, neighboursText, shortName, shortened } from "./texts.js";
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
        this.overlay = new OverlayPanel(data, this.viewer, settings, {
            load: (name) => loadMap(source, data, name),
            onMap: () => this.moved(),
            ask: (names) => this.ask(names),
            goTo: (name) => this.goToStructure(name),
        });
        // The structure that is at hand, with or without a region of its.
        this.structure = null;
        this.regions = new RegionsPanel(worklist.verdicts, (canvas, region) => this.drawPicture(canvas, region), {
            choose: (id) => this.goTo(id),
            chooseStructure: (name) => this.goToStructure(name),
            finish: (name) => this.finish(name),
            reopen: (name) => this.reopen(name),
        });
        this.side = new ReviewSide(this.review, this.description, worklist, settings, source.isFile, this.regions.filter, {
            start: (name) => this.nameGiven(name),
            setOrder: (order) => this.setOrder(order),
            save: () => this.saveVerdicts(),
            load: (file) => this.continueFrom(file),
            takeMask: (file) => this.review.takeMask(file),
        });
        this.contour = null;
        // What a contour was asked for that is on its way.
        this.preparing = null;
        this.viewer.brush = source.isFile ? null : new Brush(this);
        this.drawing =
            this.viewer.brush &&
            new DrawingPanel(this.viewer.brush, {
                scroll: (isWhole) => this.scroll(isWhole),
                step: (steps) => this.moveContour(steps),
                take: () => this.takeContour(),
                keep: () => this.endContour(),
            });
        const { rest, mask } = this.side;
        this.card = new VerdictCard(worklist.verdicts, rest, this.drawing?.root ?? null, mask, {
            judge: (verdict) => this.judge(verdict),
            undo: () => this.undo(),
            comment: (text) => this.comment(text),
            commentDone: () => this.regions.list.focus(),
            judgeStructure: (verdict) => this.judgeStructure(verdict),
            addPlace: () => this.addPlace(),
        });
        this.messages = new Messages(
            { retry: () => this.review.openAgain(), saveUnsent: () => this.saveUnsent() },
            this.description.status,
        );
        this.header = new CaseHeader(this.description, worklist.verdicts, this.viewer, settings, source.isFile ? null : actions, () =>
            actions.settingsChanged(),
        );
        this.header.onTool = () => this.update();
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
        const { image_trouble: trouble } = this.description;
        const parts = [];
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
        this.update();
        this.viewer.showAll();
        this.begin(this.review.queue[0]?.id ?? null);
        this.viewer.draw();
        if (this.settings.reviewer && !this.description.regions_trouble) {
            await this.startReview();
        }
        (this.side.form.hidden ? this.regions.list : this.side.name).focus({ preventScroll: true });
    }

    // Goes to a region, or, where none is open, to the first structure that waits to be finished.
    begin(id) {
        const waiting = this.review.state.asked.find((name) => this.canFinish(name));
        if (id === null && waiting && !this.description.regions_trouble) {
            this.goToStructure(waiting);
        } else {
            this.goTo(id);
        }
    }

    // -- regions --

    async loadMasks() {
        const { masks, regions } = this.description;
        this.masks = await loadMasks(this.source, this.data.id, masks, regions);
    }

    // Lists the regions: structure by structure in that order, else without headings.
    fillRegions() {
        const { description, review } = this;
        const { ordered, state } = review;
        const list = [review.order, state.asked, ordered.map(({ id }) => id)].join(";");
        if (list !== this.listed) {
            this.listed = list;
            const groups = review.order === "structure" ? review.groups(ordered) : [[undefined, ordered]];
            this.regions.fill(groups, state.asked, description.regions_trouble);
        }
        this.side.order.value = review.order;
        // Taken back: a place that was added, or the last finish before the blind sample.
        if (review.current && !this.canGoTo(state.regions.find(({ id }) => id === review.current.id))) {
            review.current = null;
        }
        const pendingIds = new Set(review.pending.flatMap(({ events }) => events).map(({ region }) => region));
        this.regions.update(state, pendingIds, review.canWrite);
    }

    setOrder(order) {
        this.review.order = order;
        this.settings.order = order;
        this.actions.settingsChanged();
        this.update();
        this.regions.select(this.review.current?.id, this.structure);
    }

    // Where a region is, and its voxels; a place that the reviewer has added is one voxel.
    placeOf(region) {
        const { frame, grid } = this.data;
        if (region.box) {
            return { voxel: localVoxel(region.peak_ijk, frame), mask: maskOf(region, this.masks, frame) };
        }
        const voxel = voxelOf(grid, region.peak_ras_mm);
        return { voxel, mask: { index: voxel, size: [1, 1, 1], data: Uint8Array.of(1) } };
    }

    // The blind sample is not shown before it is due.
    canGoTo(region) {
        return region !== undefined && (!isBlind(region) || this.review.queue.includes(region));
    }

    goTo(id) {
        const { review } = this;
        const region = review.state.regions.find((one) => one.id === id);
        if (!this.canGoTo(region)) {
            return;
        }
        this.keepComment();
        this.endContour();
        const { voxel, mask } = this.placeOf(region);
        review.look(region);
        this.visit(review.listedUnder(region) ?? region.structure);
        this.viewer.setMark(mask);
        this.viewer.showBox(voxel, mask);
        this.update();
        this.regions.select(id, this.structure);
    }

    // Goes to a structure's next open region; without one to the structure as a whole, to look through it.
    goToStructure(name) {
        const { review } = this;
        const id = nextUndecided(review.state, review.regionsOf(name), review.current?.id);
        if (id !== null) {
            this.goTo(id);
            return;
        }
        this.keepComment();
        this.endContour();
        review.look(null);
        this.viewer.setMark(null);
        this.structure = null;
        this.visit(name);
        this.update();
        this.regions.select(null, name);
    }

    // Takes a structure at hand: the views frame it where that is another one.
    visit(name) {
        const value = this.data.structures.find((one) => one.name === name)?.value;
        const extent = name !== this.structure && this.labels && extentOfLabel(this.labels, value);
        if (extent) {
            this.viewer.showBox(extent.voxel, extent, true);
        }
        this.review.visited = this.structure = name;
    }

    // Goes to the next open region: the blind sample once it is due, then what the filter finds, then all of the question.
    next() {
        const { current, queue, state } = this.review;
        const shown = new Set(this.regions.shownIds);
        const found = queue.filter(({ id }) => shown.has(id));
        const ids = [queue.filter(isBlind), found, queue].map((some) => nextUndecided(state, some, current?.id));
        this.goTo(ids.find((id) => id !== null));
    }

    // After a verdict: the structure's next open region from there on, or the structure as a whole, which is finished then.
    goOn() {
        const { order, state, current } = this.review;
        const structure = this.review.listedUnder(current);
        const isLast = !this.review.regionsOf(structure).some((region) => isOpen(state, region));
        if (this.review.isDone) {
            return;
        }
        // A filter may lead to another structure; without one, D must not finish a structure that nobody has looked at.
        const isWithin = isLast || !this.regions.filter.value;
        if (order === "structure" && isWithin && !isBlind(current) && this.canFinish(structure)) {
            this.goToStructure(structure);
        } else {
            this.next();
        }
    }

    // Changes what is measured, and leaves what is not. The last tick stays: a question is about something.
    ask(names) {
        if (names.length) {
            this.review.ask(names);
        }
        this.update();
        if (!this.review.state.asked.includes(this.structure)) {
            this.next();
        }
    }

    canFinish(structure) {
        const { asked, finished } = this.review.state;
        return asked.includes(structure) && !finished.has(structure);
    }

    previous() {
        const ids = this.regions.shownIds;
        const at = ids.indexOf(this.review.current?.id);
        if (at > 0) {
            this.goTo(ids[at - 1]);
        }
    }

    drawPicture(canvas, region) {
        const { voxel, mask } = this.placeOf(region);
        drawThumbnail(canvas, this.data, this.labels, this.viewer.rawWindow(), voxel, mask);
    }

    // -- verdicts --

    get canJudge() {
        return this.review.canWrite && this.review.current !== null;
    }

    judge(verdict) {
        if (!this.canJudge) {
            return;
        }
        // Only what was edited can be called corrected.
        if (this.review.state.kinds.get(verdict).needs_edit && !this.review.hasEdits) {
            this.card.say(`Not stored: only what was edited can be called ${verdict}.`);
            return;
        }
        this.keepComment();
        const { rank } = this.review.current;
        this.review.judge(verdict);
        if (this.card.goOn.checked) {
            this.goOn();
        }
        this.card.say(`Region ${rank}: ${verdict}.${this.nowText(rank)}`);
    }

    // Says where the reviewer is after an act on the region of a number.
    nowText(rank = null) {
        const { current } = this.review;
        if (this.review.isDone) {
            return " The review is finished.";
        }
        if (current === null) {
            return ` Look through ${this.structure}, then finish it (D).`;
        }
        return current.rank === rank ? "" : ` Now region ${current.rank}.`;
    }

    // Takes a structure, which was looked through, as right, and goes on with the next one; at last with the blind sample.
    finish(name = this.structure) {
        const { review } = this;
        if (!review.canWrite || !name || review.state.finished.has(name)) {
            return;
        }
        this.keepComment();
        this.regions.unfolded.delete(name);
        this.endContour();
        const verdict = finishingVerdict(review.state, name);
        review.judgeStructure(name, verdict);
        const ring = review.groups(review.queue).map(([structure]) => structure);
        const after = [...ring.slice(ring.indexOf(name) + 1), ...ring].find((one) => this.canFinish(one));
        if (after) {
            this.goToStructure(after);
        } else {
            this.next();
        }
        const isBlindNow = review.current !== null && isBlind(review.current) && !review.isDone;
        this.card.say(`${name}: ${verdict}.${isBlindNow ? " Now the blind sample." : this.nowText()}`);
    }

    // Takes back that a structure is finished, and goes there: what is drawn next is drawn on it.
    reopen(name) {
        this.keepComment();
        this.review.judgeStructure(name, null);
        this.structure = null;
        this.goToStructure(name);
        this.card.say(`${name} is open again.`);
    }

    // Adds a place at the crosshair: of the structure there, if it is measured, else of the one at hand.
    addPlace() {
        const { review, viewer } = this;
        if (!review.canWrite) {
            return;
        }
        const { asked } = review.state;
        const label = this.labels ? valueAt(this.labels, viewer.voxel, 0) : 0;
        const there = this.data.structures.find(({ value }) => value === label)?.name;
        const structure = [there, this.structure].find((name) => asked.includes(name)) ?? asked[0];
        this.goTo(review.addPlace(structure, rasOf(this.data.grid, viewer.voxel)));
        this.card.say(`Added region ${review.current.rank}, a place of ${structure}: give a verdict or a comment.`);
    }

    // -- drawing --

    get canDraw() {
        return this.drawing !== null && this.review.canWrite && Boolean(this.structure) && this.labels !== null;
    }

    // Why the structure at hand cannot be drawn on; "" where it can.
    get drawingTrouble() {
        if (this.contour || this.preparing) {
            return "Take the contour first, or keep the old one.";
        }
        const isFinished = this.review.state.finished.has(this.structure);
        return isFinished ? `${this.structure} is finished: reopen it first.` : "";
    }

    // Lets the wheel move the contour of the region at hand, or of the structure; while that is prepared it does nothing.
    async scroll(isWhole) {
        const { review, structure } = this;
        const region = isWhole || !review.current?.box ? null : review.current.id;
        if (!this.canDraw || this.contour || this.preparing) {
            return;
        }
        this.card.say(this.drawingTrouble);
        if (this.drawingTrouble) {
            return;
        }
        const asked = { structure, region };
        this.preparing = asked;
        this.viewer.onWheel = (steps) => this.moveContour(steps);
        this.update();
        try {
            const found = await review.positions(structure, region);
            if (this.preparing !== asked) {
                return;
            }
            if (!this.canDraw) {
                this.endContour();
                return;
            }
            this.contour = Object.assign(new Contour(found, this.labels, this.data.grid.size), asked);
        } catch (error) {
            if (this.preparing === asked) {
                this.endContour();
                this.card.say(error.message);
            }
            return;
        }
        this.preparing = null;
        const { value } = this.data.structures.find(({ name }) => name === structure);
        this.viewer.setOld(maskOfLabel(this.labels, value));
        this.moveContour(0);
    }

    moveContour(steps) {
        if (this.contour) {
            this.viewer.setLabels(this.contour.step(steps));
            this.update();
        }
    }

    takeContour() {
        const { contour } = this;
        if (this.preparing) {
            return;
        }
        if (contour?.runs.length) {
            this.drawn(contour.labels, contour.runs, "scroll", contour.region);
            const { structures, voxelMm3 } = this.data;
            const own = structures.find(({ name }) => name === contour.structure).value;
            const others = neighboursText(contour.runs, own, structures, voxelMm3);
            this.card.say(others && `Taken. Others changed: ${others}.`);
        }
        this.endContour();
    }

    // Leaves the contour as it was, but for what was taken.
    endContour() {
        if (this.contour || this.preparing) {
            this.contour = this.preparing = null;
            this.viewer.onWheel = null;
            this.viewer.setOld(null);
            this.viewer.setLabels(this.labels);
            this.update();
        }
    }

    // What stands beside the contour, in mm³ throughout: a turn of the wheel shows in it. null without a contour.
    contourText() {
        if (this.preparing) {
            return `${shortName(this.preparing.structure)}: preparing the contour …`;
        }
        if (!this.contour) {
            return null;
        }
        const { structure, voxels } = this.contour;
        const { volume_mm3: drawn } = { ...this.data.structures.find(({ name }) => name === structure), ...this.review.figures[structure] };
        const change = voxels * this.data.voxelMm3;
        return `${shortName(structure)}: ${changedVolumeText(drawn, change)}`;
    }

    // What the brush draws now: the structure at hand, or what lies under it where it is erased.
    draws() {
        const trouble = this.canDraw ? this.drawingTrouble : "Enter your name to draw.";
        if (trouble) {
            this.card.say(trouble);
            return null;
        }
        const values = new Map(this.data.structures.map(({ name, value }) => [name, value]));
        const own = values.get(this.structure);
        const fixed = new Set([...this.review.state.finished].map((name) => values.get(name)));
        return { own, value: this.viewer.brush.erases ? 0 : own, fixed };
    }

    // Keeps what was drawn by a gesture, and shows it.
    drawn(labels, runs, gesture, region = this.review.current?.box ? this.review.current.id : null) {
        this.labels = labels;
        this.viewer.setLabels(labels);
        if (runs.length) {
            this.review.draw(gesture, region, runs);
        }
    }

    // Goes to the region of a number that is typed, digit by digit.
    typeNumber(digit) {
        clearTimeout(this.numberEnds);
        this.number = (this.number ?? "") + digit;
        this.numberEnds = setTimeout(() => {
            this.number = "";
        }, NUMBER_MS);
        const region = this.review.state.regions.find(({ rank }) => rank === Number(this.number));
        this.goTo(region?.id);
        const isThere = region && region.id === this.review.current?.id;
        this.card.say(isThere ? `Region ${region.rank}.` : `There is no region ${this.number}.`);
    }

    undo() {
        if (!this.review.canWrite) {
            return;
        }
        this.endContour();
        const before = this.review.state.nextUndo;
        const edit = before?.what === "edited" ? this.review.state.edits.at(-1) : null;
        const region = this.review.undo();
        if (edit && before !== null && !this.review.state.edits.includes(edit)) {
            const labels = onWholeGrid(this.labels, this.data.grid.size);
            this.labels = drawRuns(labels, edit.runs, true);
            this.viewer.setLabels(this.labels);
        }
        if (edit) {
            this.update();
        } else if (region) {
            this.goTo(region);
        } else if (before?.what === "added") {
            this.goToStructure(this.structure);
        }
        const what = region && !edit ? `Undone: region ${this.review.current.rank}.` : "Undone.";
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
        if (this.review.canWrite && this.structure) {
            this.endContour();
            this.review.judgeStructure(this.structure, verdict);
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
        const { queue, state } = this.review;
        const stopped = queue.find(({ id }) => id === state.lastRegion);
        const goesOn = stopped && isOpen(state, stopped);
        const next = goesOn ? stopped.id : nextUndecided(state, queue, state.lastRegion);
        if (this.review.isOpen) {
            this.begin(next ?? (this.review.isDone ? stopped?.id : null));
        }
    }

    async reviewChanged({ labels = false }) {
        if (labels) {
            const { labels: own } = this.review;
            this.labels = own ? await loadVolume(this.source, this.data.id, own, this.data.frame) : this.data.labels;
            this.viewer.setLabels(this.labels);
        }
        this.update();
    }

    update() {
        const { review } = this;
        this.fillRegions();
        const { state, current } = review;
        const whole = this.structure && `No open region of ${this.structure} is left: look through it in three planes.`;
        this.overlay.showQuestion(state.asked, review.canWrite, this.structure);
        this.overlay.showFigures(review.figures);
        this.card.show(current, this.structure, {
            why: shortened(current?.why ?? whole ?? "", this.data.structures.map(({ name }) => name)),
            verdict: current ? state.verdicts[current.id] : undefined,
            comment: current ? (state.comments[current.id] ?? "") : "",
            structure: this.structure && review.structure(this.structure),
            canWrite: review.canWrite,
            canUndo: state.nextUndo !== null && !review.pending.length,
            hasEdits: review.hasEdits,
        });
        this.drawing?.show({
            contour: this.contourText(),
            isPreparing: this.preparing !== null,
            canDraw: this.canDraw,
            canScroll: Object.keys(this.data.maps).length > 0,
            hasRegion: Boolean(current?.box),
            isBrush: this.header.tool === "brush",
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
