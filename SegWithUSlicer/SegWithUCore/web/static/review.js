// One reviewer's review of one case: opened, kept alive, written act by act, closed.
//
// An act is drawn at once and counts as stored when the source has answered. Without an answer it is kept and sent again.

import { lineOf } from "./log_lines.js";
import { inOrder, isAbout, isBlind, isDone, listed, nextPlace } from "./review_state.js";
import { openRest, reviewState, structureVerdict } from "./review_state.js";
import { reviewFileText } from "./source_file.js";
import { shortName, volumeText } from "./texts.js";

const ALIVE_MS = 10_000;
const RETRY_MS = 5_000;
const HIDDEN_MS = 60_000;
const SHORTEST_LOOK_S = 0.5;
// After the last input nobody is taken to look for longer.
const IDLE_MS = 60_000;
const INPUTS = ["pointerdown", "pointermove", "wheel", "keydown"];

const STALE_TEXT = "Another window went on with this review. Your last verdict was not stored: look and give it again.";
const NOT_STORED_TEXT = "Not saved yet: the server does not respond. Retrying.";
const ELSEWHERE_TEXT = "The review was continued elsewhere; this is its current state.";

export class Review {
    // `onChange` is called after anything that is drawn has changed, with `{ regions: true }` when the list has.
    constructor(source, description, verdicts, order, onChange) {
        this.source = source;
        this.description = description;
        this.verdicts = verdicts;
        this.onChange = onChange;
        this.reviewer = "";
        this.session = null;
        this.lines = [];
        this.last = null;
        this.pending = [];
        this.labels = null;
        // A structure that is not asked, whose regions are listed as well.
        this.visited = "";
        this.order = order;
        this.readOnly = true;
        this.isOpen = false;
        this.who = null;
        this.trouble = "";
        this.message = "";
        this.notes = [];
        this.serverProgress = null;
        this.corrected = "";
        this.figures = {};
        this.toSign = [];
        this.signedAt = "";
        this.hasEdits = false;
        this.current = null;
        this.timer = new ViewTimer();
        this.sending = false;
        this.timers = { alive: 0, retry: 0, hidden: 0, reopen: 0 };
        this.whenHidden = () => this.visibilityChanged();
        this.whenLeft = () => this.leave();
        this.whenInput = () => this.timer.input();
        this.replay();
    }

    // -- beginning and end --

    async open(reviewer) {
        this.wanted = reviewer;
        document.addEventListener("visibilitychange", this.whenHidden);
        window.addEventListener("pagehide", this.whenLeft);
        INPUTS.forEach((name) => document.addEventListener(name, this.whenInput, { capture: true, passive: true }));
        await this.openAgain();
    }

    // Opens the log, for the first time or after a pause. Returns whether it can be written.
    async openAgain() {
        clearTimeout(this.timers.reopen);
        const pending = this.pending.length ? this.pending[0].events : undefined;
        const wish = { reviewer: this.wanted, order: this.order, last: this.last, pending };
        let opened;
        try {
            opened = await this.source.open(this.description.id, wish);
        } catch (error) {
            this.openingFailed(error);
            return false;
        }
        if (this.isClosed) {
            this.source.close(this.description.id, opened.session).catch(ignoreLateAnswer);
            return false;
        }
        this.session = opened.session;
        this.reviewer = opened.reviewer;
        this.readOnly = false;
        this.isOpen = true;
        this.who = null;
        this.trouble = "";
        this.notes = opened.notes ?? [];
        this.hasEdits = Boolean(opened.has_edits);
        this.labels = opened.labels ?? null;
        if (opened.pending_stored) {
            this.pending.shift();
        }
        const isElsewhere = Boolean(opened.changed);
        if (isElsewhere) {
            this.keepUnsent();
            this.message ||= ELSEWHERE_TEXT;
        }
        this.take(opened);
        this.lines = opened.lines;
        this.replay();
        clearInterval(this.timers.alive);
        this.timers.alive = setInterval(() => this.tellAlive(), ALIVE_MS);
        this.timer.setVisible(!document.hidden);
        await this.onChange({ regions: true, labels: true });
        this.send();
        return true;
    }

    openingFailed(error) {
        this.isOpen = false;
        this.readOnly = true;
        this.session = null;
        clearInterval(this.timers.alive);
        const { content = {} } = error;
        if (error.status === 423) {
            this.who = { who: content.who, since: content.since };
            this.trouble = error.message;
            this.lines = content.lines ?? this.lines;
            this.take(content);
            this.replay();
            this.timers.reopen = setTimeout(() => this.openAgainIfVisible(), ALIVE_MS);
        } else {
            this.trouble = error.message;
            if (error.status === 0) {
                this.timers.reopen = setTimeout(() => this.openAgainIfVisible(), RETRY_MS);
            }
        }
        this.onChange({ regions: error.status === 423 });
    }

    openAgainIfVisible() {
        if (document.hidden || this.isClosed) {
            return;
        }
        this.openAgain();
    }

    // Leaves the case: sends what is pending, then closes the log.
    async close() {
        if (this.isClosed) {
            return;
        }
        this.lookAway();
        this.isClosed = true;
        this.stopTimers();
        document.removeEventListener("visibilitychange", this.whenHidden);
        window.removeEventListener("pagehide", this.whenLeft);
        INPUTS.forEach((name) => document.removeEventListener(name, this.whenInput, { capture: true }));
        if (this.isOpen) {
            await this.sendAll();
            await this.source.close(this.description.id, this.session).catch(ignoreLateAnswer);
        }
        this.isOpen = false;
    }

    // The page is being left: there is no time to wait for an answer.
    leave() {
        if (this.isOpen) {
            this.source.close(this.description.id, this.session).catch(ignoreLateAnswer);
            this.isOpen = false;
            clearInterval(this.timers.alive);
        }
    }

    stopTimers() {
        clearInterval(this.timers.alive);
        for (const name of ["retry", "hidden", "reopen"]) {
            clearTimeout(this.timers[name]);
        }
    }

    visibilityChanged() {
        this.timer.setVisible(!document.hidden);
        clearTimeout(this.timers.hidden);
        if (document.hidden) {
            this.timers.hidden = setTimeout(() => this.pause(), HIDDEN_MS);
        } else if (!this.isOpen && !this.isClosed) {
            this.openAgain();
        }
    }

    // Releases the log while the page is hidden, so that Slicer can continue the review.
    async pause() {
        if (this.isOpen && !this.isClosed) {
            await this.sendAll();
            this.leave();
        }
    }

    async tellAlive() {
        if (!this.isOpen || this.sending || document.hidden) {
            return;
        }
        try {
            const { last, trouble = "" } = await this.source.alive(this.description.id, this.session);
            if (trouble !== this.trouble) {
                this.trouble = trouble;
                this.onChange({});
            }
            if (last !== this.last && !this.sending && !this.pending.length) {
                this.message = ELSEWHERE_TEXT;
                await this.openAgain();
            }
        } catch (error) {
            this.failed(error);
        }
    }

    // Takes the lines as they stand in the log.
    async reload() {
        const found = await this.source.lines(this.description.id, this.session);
        this.lines = found.lines;
        this.take(found);
        this.replay();
        this.onChange({});
    }

    // -- what the reviewer does --

    // Looks at a region, or at none: the time on the one before is logged.
    look(region) {
        this.lookAway();
        this.current = region;
        this.timer.start();
    }

    lookAway() {
        const seconds = this.timer.take();
        if (this.current && this.isOpen && seconds >= SHORTEST_LOOK_S) {
            this.act([{ event: "looked", region: this.current.id, seconds: rounded(seconds) }]);
        }
    }

    // Takes a mask from another program as the reviewer's version, and shows it.
    async takeMask(file) {
        this.message = `Taking ${file.name} as your version...`;
        this.onChange({});
        try {
            await this.sendAll();
            const content = await base64Of(file);
            const taken = await this.source.takeMask(this.description.id, this.session, file.name, content);
            const changes = Object.entries(taken.volumes_mm3).map(
                ([name, [before, after]]) => `${shortName(name)} ${volumeText(before)} to ${volumeText(after)}`,
            );
            await this.openAgain();
            this.message = `${file.name} is your version now: ${changes.join(", ")}.`;
        } catch (error) {
            this.message = error.message;
        }
        this.onChange({});
    }

    judge(verdict) {
        const { id } = this.current;
        this.act([{ event: "verdict", region: id, verdict, comment: null, seconds: rounded(this.timer.take()) }]);
    }

    comment(region, text) {
        if (text !== (this.state.comments[region.id] ?? "")) {
            this.act([{ event: "comment", region: region.id, comment: text }]);
        }
    }

    judgeStructure(structure, verdict) {
        this.act([{ event: "structure", structure, verdict, comment: "" }]);
    }

    ask(structures) {
        this.act([{ event: "asked", structures }]);
    }

    // Adds a place that the reviewer has found. Returns the number of its region.
    addPlace(structure, ras) {
        const region = nextPlace(this.state);
        this.act([{ event: "added", region, structure, ras_mm: ras }]);
        return region;
    }

    // Where the contour of a structure, or of one of its regions, can be scrolled to.
    async positions(structure, region) {
        await this.sendAll();
        return this.source.positions(this.description.id, this.session, structure, region);
    }

    // Keeps what was drawn by a gesture.
    draw(gesture, region, runs) {
        this.act([{ event: "drawn", gesture, region, runs }]);
    }

    acceptRest() {
        this.act([{ event: "rest", regions: openRest(this.state).map(({ id }) => id) }]);
    }

    // Signs the volumes of `toSign`; the server measures them.
    sign() {
        this.act([{ event: "signed" }]);
    }

    // Undoes the last act. Returns its region; null for none.
    undo() {
        const { nextUndo } = this.state;
        if (!nextUndo || this.pending.length) {
            return null;
        }
        this.act([{ event: "undo", ...nextUndo }]);
        return nextUndo.region;
    }

    get canWrite() {
        return this.isOpen && !this.readOnly;
    }

    get isDone() {
        return isDone(this.state);
    }

    // The regions of the question.
    get queue() {
        return this.sorted(listed(this.state));
    }

    // Those, and the regions of a structure that is visited although it is not asked.
    get ordered() {
        return this.sorted([...new Set([...listed(this.state), ...this.regionsOf(this.visited)])]);
    }

    // All regions that are listed under a structure, or would be.
    regionsOf(structure) {
        return this.sorted(this.state.regions.filter((region) => this.listedUnder(region) === structure));
    }

    // The structure under which a region is listed: an asked one that takes part, if its own is not; null: blind sample.
    listedUnder(region) {
        const names = [region.structure, ...this.state.asked].filter((name) => this.state.asked.includes(name));
        return isBlind(region) ? null : (names.find((name) => isAbout(region, [name])) ?? region.structure);
    }

    sorted(regions) {
        const isByStructure = this.order === "structure";
        return isByStructure ? this.groups(regions).flatMap(([, own]) => own) : inOrder(regions, this.order);
    }

    // Regions by the structure under which they are listed, those of all asked structures; the blind sample comes last.
    groups(regions) {
        const groups = new Map(this.state.asked.map((name) => [name, []]));
        for (const region of inOrder(regions, "expected wrong volume")) {
            const structure = this.listedUnder(region);
            groups.set(structure, [...(groups.get(structure) ?? []), region]);
        }
        const values = new Map(this.description.structures.map(({ name, value }) => [name, value]));
        const place = ([name, own]) => (name === null ? Infinity : (values.get(name) ?? own[0].structure_value));
        return [...groups].sort((a, b) => place(a) - place(b));
    }

    structure(name) {
        return structureVerdict(this.state, name);
    }

    // -- sending --

    act(events) {
        if (!this.canWrite) {
            return;
        }
        this.message = "";
        this.pending.push({ events });
        this.replay();
        this.onChange({});
        this.send();
    }

    async send() {
        if (this.sending || !this.isOpen) {
            return;
        }
        this.sending = true;
        clearTimeout(this.timers.retry);
        try {
            while (this.pending.length && this.isOpen) {
                await this.sendFirst();
            }
        } catch (error) {
            this.failed(error, this.pending[0]);
        } finally {
            this.sending = false;
        }
    }

    async sendFirst() {
        const [act] = this.pending;
        const message = { session: this.session, last: this.last, events: act.events };
        const answer = await this.source.say(this.description.id, message);
        this.pending.shift();
        this.lines = [...this.lines, ...answer.lines];
        this.trouble = answer.stored === false ? answer.trouble : "";
        const wasSigned = this.signedAt;
        this.take(answer);
        if (wasSigned && !this.signedAt) {
            this.message = "Your signature ended.";
        }
        this.replay();
        this.onChange({});
    }

    // Waits until all is stored or the source does not answer.
    async sendAll() {
        for (let wait = 0; this.sending && wait < 100; wait++) {
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        await this.send();
    }

    // `act` is what was being sent; null for a sign of life.
    failed(error, act = null) {
        const { status, kind } = error;
        if (status === 0) {
            this.trouble = this.pending.length ? NOT_STORED_TEXT : error.message;
            clearTimeout(this.timers.retry);
            this.timers.retry = setTimeout(() => (this.pending.length ? this.send() : this.tellAlive()), RETRY_MS);
        } else if (kind === "stale") {
            this.pending = [];
            this.lines = error.content.lines ?? this.lines;
            this.take(error.content);
            this.message = STALE_TEXT;
            this.showStored(act);
        } else if (kind === "closed") {
            this.isOpen = false;
            clearInterval(this.timers.alive);
            this.openAgain();
            return;
        } else if (status === 401 || status === 403) {
            // The server was restarted: unsaved acts can only be saved as a file.
            this.isOpen = false;
            this.stopTimers();
            this.keepUnsent();
            this.trouble = error.message;
        } else {
            this.pending = this.pending.filter((other) => other !== act);
            this.trouble = error.message;
            this.showStored(act);
        }
        this.replay();
        this.onChange({});
        if (act && this.isOpen && status !== 0) {
            setTimeout(() => this.send(), 0);
        }
    }

    // Shows the segmentation as it is stored, where what was drawn, or taken back, was not.
    showStored(act) {
        if (act?.events.some(({ event }) => event === "drawn" || event === "undo")) {
            this.message ||= this.trouble;
            this.openAgain();
        }
    }

    // Somebody else went on before our acts were stored: they become a file, for `segwithu merge-reviews`.
    keepUnsent() {
        if (!this.pending.length) {
            return;
        }
        const lines = [...this.lines];
        // Voxels are of no use to who merges verdicts, and what is not stored cannot be signed.
        const isKept = ({ event: what }) => what !== "drawn" && what !== "signed";
        for (const event of this.pending.flatMap(({ events }) => events).filter(isKept)) {
            lines.push(lineOf(event, this.reviewer, this.description.regions));
        }
        this.unsentFile = reviewFileText(this.description.identity, this.reviewer, lines);
        this.message = "Your last verdicts were not stored: save them as a file and give it to segwithu merge-reviews.";
        this.pending = [];
    }

    take(answer) {
        this.last = answer.last ?? this.last;
        this.serverProgress = answer.progress ?? null;
        this.corrected = answer.corrected ?? "";
        this.figures = answer.figures ?? {};
        this.toSign = answer.to_sign ?? [];
        this.signedAt = answer.signed ?? "";
    }

    replay() {
        const acts = this.pending.flatMap(({ events }) => events);
        const { regions, asked, structures } = this.description;
        const names = new Map(structures.map(({ name, value }) => [value, name]));
        this.state = reviewState([...this.lines, ...acts.map((act) => asEdited(act, names))], regions, asked, this.verdicts);
        this.hasEdits ||= this.state.edits.length > 0;
    }

    get hasUnsaved() {
        return this.pending.length > 0 || Boolean(this.unsentFile);
    }
}

// Counts the seconds for which somebody looked at the current region.
class ViewTimer {
    constructor() {
        this.isVisible = true;
        this.start();
    }

    start() {
        this.seconds = 0;
        this.countedUntil = this.lastInput = performance.now();
    }

    count() {
        const now = performance.now();
        if (this.isVisible) {
            this.seconds += Math.max(0, Math.min(now, this.lastInput + IDLE_MS) - this.countedUntil) / 1000;
        }
        this.countedUntil = now;
    }

    // Returns the seconds since the last call, without those that were hidden or idle.
    take() {
        this.count();
        const { seconds } = this;
        this.seconds = 0;
        return seconds;
    }

    input() {
        this.count();
        this.lastInput = this.countedUntil;
    }

    setVisible(visible) {
        this.input();
        this.isVisible = visible;
    }
}

function rounded(seconds) {
    return Math.round(10 * seconds) / 10;
}

// The page has left: whether the log was closed by us or by the server's clock makes no difference.
// What the server will write for a gesture, as far as the page needs it.
function asEdited(act, names) {
    if (act.event !== "drawn") {
        return act;
    }
    const values = new Set(act.runs.flatMap(([, , before, after]) => [before, after]));
    const structure = [...values].filter((value) => value).map((value) => names.get(value)).join(", ");
    return { ...act, event: "edited", structure };
}

function base64Of(file) {
    return new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
        reader.addEventListener("error", () => reject(reader.error));
        reader.readAsDataURL(file);
    });
}

function ignoreLateAnswer() {}
