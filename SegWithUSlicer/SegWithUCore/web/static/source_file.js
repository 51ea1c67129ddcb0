// One case and its review inside the page itself: nothing is fetched, verdicts leave it as a file.

import { lineOf, stampedLine } from "./log_lines.js";
import { ServerError } from "./source_server.js";

const DATA_ID = "segwithu-data";
export const FILE_FORMAT = "segwithu-page-review";
const FILE_VERSION = 1;

export function hasEmbeddedCase() {
    return document.getElementById(DATA_ID) !== null;
}

export class FileSource {
    constructor() {
        this.isFile = true;
        this.content = JSON.parse(document.getElementById(DATA_ID).textContent);
        this.lines_ = [];
        this.reviewer = "";
        this.unsaved = false;
        // Whether the browser keeps the lines when the page is closed.
        this.isKept = true;
    }

    get identity() {
        return this.content.case.identity;
    }

    async enter() {
        return "file";
    }

    async worklist() {
        return { title: "", version: "", reviewer: "", reviewer_default: "", cases: [], ...this.content.worklist };
    }

    async case() {
        return this.content.case;
    }

    async volume(_id, description, bytes) {
        const name = description.url.replace(/^volumes\//, "").replace(/\?.*$/, "");
        const packed = Uint8Array.from(atob(this.content.volumes[name]), (character) => character.charCodeAt(0));
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
        const unpacked = await new Response(stream).arrayBuffer();
        if (unpacked.byteLength !== bytes) {
            throw new ServerError("The file is damaged: ask for it again.", 0);
        }
        // The text is four times as large as the bytes and not needed again.
        delete this.content.volumes[name];
        return unpacked;
    }

    async open(_id, { reviewer }) {
        const name = reviewer.trim().replace(/\s+/g, " ");
        if (!name) {
            throw new ServerError("Enter your name: the log holds it.", 400);
        }
        if (name !== this.reviewer) {
            this.reviewer = name;
            this.lines_ = this.restored();
            this.unsaved = this.lines_.length > 0 && this.lines_.at(-1).event !== "closed";
        }
        if (!this.lines_.length) {
            this.lines_ = [this.header()];
        }
        return {
            session: "file",
            read_only: false,
            reviewer: name,
            lines: [...this.lines_],
            last: String(this.lines_.length),
            changed: false,
            notes: [],
            has_edits: false,
            labels: null,
        };
    }

    async alive() {
        return { last: String(this.lines_.length) };
    }

    async close() {
        return {};
    }

    async say(_id, { events }) {
        const before = this.lines_.length;
        if (this.lines_.at(-1)?.event === "closed") {
            this.lines_.push(this.header());
        }
        for (const event of events) {
            this.lines_.push(lineOf(event, this.reviewer, this.content.case.regions));
        }
        this.unsaved = true;
        this.isKept = this.remember();
        const trouble = this.isKept
            ? ""
            : "This browser cannot store verdicts for local pages: save them before you close the page.";
        return { lines: this.lines_.slice(before), last: String(this.lines_.length), stored: this.isKept, trouble };
    }

    async lines() {
        return { lines: [...this.lines_], last: String(this.lines_.length) };
    }

    header() {
        return stampedLine({ event: "opened", ...this.identity.opened }, this.reviewer);
    }

    // The text of the file that `segwithu merge-reviews` takes.
    fileText() {
        if (this.lines_.at(-1)?.event !== "closed") {
            this.lines_.push(stampedLine({ event: "closed" }, this.reviewer));
            this.remember();
        }
        this.unsaved = false;
        return reviewFileText(this.identity, this.reviewer, this.lines_);
    }

    // Goes on with a file that was saved before. Returns the reviewer's name.
    load(text) {
        let content;
        try {
            content = JSON.parse(text);
        } catch {
            throw new ServerError("This is no file of verdicts: choose one that Save verdicts wrote.", 400);
        }
        if (
            content?.format !== FILE_FORMAT ||
            content.format_version !== FILE_VERSION ||
            !Array.isArray(content.lines)
        ) {
            throw new ServerError("This is no file of verdicts: choose one that Save verdicts wrote.", 400);
        }
        if (canonical(content.identity) !== canonical(this.identity)) {
            throw new ServerError("This file belongs to another case: open that case's page.", 400);
        }
        this.reviewer = String(content.reviewer);
        this.lines_ = content.lines;
        this.remember();
        return this.reviewer;
    }

    get memoryKey() {
        return `segwithu:${this.identity.regions_sha256}:${this.identity.case_sha256 ?? ""}:${this.reviewer}`;
    }

    remember() {
        try {
            localStorage.setItem(this.memoryKey, JSON.stringify(this.lines_));
            return true;
        } catch {
            return false;
        }
    }

    restored() {
        try {
            const lines = JSON.parse(localStorage.getItem(this.memoryKey) ?? "[]");
            return Array.isArray(lines) ? lines : [];
        } catch {
            return [];
        }
    }
}

export function reviewFileText(identity, reviewer, lines) {
    return `${JSON.stringify({ format: FILE_FORMAT, format_version: FILE_VERSION, identity, reviewer, lines }, null, 1)}\n`;
}

// JSON with sorted keys, to compare what two files say.
function canonical(value) {
    if (Array.isArray(value)) {
        return `[${value.map(canonical).join(",")}]`;
    }
    if (value && typeof value === "object") {
        return `{${Object.keys(value)
            .sort()
            .map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`)
            .join(",")}}`;
    }
    return JSON.stringify(value) ?? "null";
}
