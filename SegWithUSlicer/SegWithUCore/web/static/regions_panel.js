// The list of regions with thumbnails, structure by structure, and the card of the current one: why, verdict, comment.

import { element, showText } from "./dom.js";
import { isOpen } from "./review_state.js";
import { KIND_TEXTS, shortName, volumeText } from "./texts.js";

const THUMBNAIL_PX = 48;

export class RegionsPanel {
    // `drawPicture(canvas, region)` draws a thumbnail; `actions` has choose(id), chooseStructure(name), finish(name),
    // reopen(name).
    constructor(verdicts, drawPicture, actions) {
        this.kinds = new Map(verdicts.map((kind) => [kind.value, kind]));
        this.drawPicture = drawPicture;
        this.actions = actions;
        this.items = new Map();
        this.groups = new Map();
        // Finished structures whose regions are shown nevertheless.
        this.unfolded = new Set();
        this.filter = element("input", {
            type: "search",
            "aria-label": "Filter regions",
            placeholder: "Filter",
            title: "Finds structures, kinds, verdicts and comments",
            on: { input: () => this.hide() },
        });
        this.list = element("div", {
            class: "regions",
            role: "grid",
            tabIndex: 0,
            "aria-label": "Regions",
            on: { keydown: (event) => this.moveByKey(event) },
        });
        // The card below grows with its text.
        new ResizeObserver(() => this.reveal()).observe(this.list);
        this.empty = element("p", { class: "hint" });
        this.root = element("div", { class: "regions-box" }, this.list, this.empty);
        this.seen = new IntersectionObserver((entries) => this.drawSeen(entries), {
            root: this.list,
            rootMargin: "200px",
        });
    }

    // Shows groups of regions in this order, each [structure, regions] under a heading: null for the blind sample, undefined
    // for none. `trouble` says why there are no regions.
    fill(groups, asked, trouble) {
        this.seen.disconnect();
        this.items.clear();
        this.groups.clear();
        const rows = groups.flatMap(([structure, regions]) => [
            ...(structure === undefined ? [] : [this.makeHeading(structure, regions, asked)]),
            ...regions.map((region) => this.makeItem(region, structure)),
        ]);
        this.list.replaceChildren(...rows);
        this.list.hidden = !rows.length;
        showText(this.empty, rows.length ? "" : trouble || "No region: nothing is expected to be wrong.");
    }

    makeHeading(structure, regions, asked) {
        const title = structure === null ? "Blind sample" : shortName(structure);
        const isOther = structure !== null && !asked.includes(structure);
        const name = element(
            "button",
            { class: "link", title: structure ?? title, on: { click: () => this.headingClicked(structure) } },
            title + (isOther ? " (not measured)" : ""),
        );
        const count = element("span", { class: "count" });
        const clicked = () => this.actions[this.state.finished.has(structure) ? "reopen" : "finish"](structure);
        const finish = structure && element("button", { class: "small", on: { click: clicked } });
        const row = element(
            "div",
            { class: "heading", role: "row" },
            element("div", { role: "rowheader" }, name),
            element("div", { class: "heading-end", role: "gridcell" }, count, finish),
        );
        this.groups.set(structure, { row, name, count, finish, regions });
        return row;
    }

    headingClicked(structure) {
        if (!this.state.finished.has(structure)) {
            this.actions.chooseStructure(structure);
        } else if (!this.unfolded.delete(structure)) {
            this.unfolded.add(structure);
        }
        this.hide();
    }

    makeItem(region, structure) {
        const picture = element("canvas", { width: 2 * THUMBNAIL_PX, height: 2 * THUMBNAIL_PX, "aria-hidden": "true" });
        const verdict = element("span", { class: "verdict" });
        const size = region.expected_wrong_mm3 ?? region.volume_mm3;
        const mm3 = size >= 0.5 ? ` · ${volumeText(size)}` : "";
        const item = element(
            "div",
            {
                class: "item",
                role: "row",
                id: `region-${region.id}`,
                title: region.structure,
                "aria-selected": "false",
                on: { click: () => this.actions.choose(region.id) },
            },
            picture,
            element("span", { class: "rank", role: "rowheader" }, String(region.rank)),
            element(
                "span",
                { class: "what", role: "gridcell" },
                region.structure === structure
                    ? null
                    : element("span", { class: "structure" }, shortName(region.structure)),
                element("span", { class: "kind" }, `${kindText(region, structure)}${mm3}`),
                verdict,
            ),
        );
        this.items.set(region.id, { item, picture, verdict, region, structure, isDrawn: false });
        this.seen.observe(item);
        return item;
    }

    drawSeen(entries) {
        for (const entry of entries) {
            const found = entry.isIntersecting ? this.items.get(Number(entry.target.id.slice("region-".length))) : null;
            if (found && !found.isDrawn) {
                found.isDrawn = true;
                this.drawPicture(found.picture, found.region);
            }
        }
    }

    // Shows a state of the review. `pendingIds` are regions whose verdict is not stored yet.
    update(state, pendingIds, canWrite) {
        this.state = state;
        for (const [id, { item, verdict }] of this.items) {
            const kind = this.kinds.get(state.verdicts[id]);
            verdict.textContent = kind ? `${kind.sign} ${kind.text}${pendingIds.has(id) ? " …" : ""}` : "";
            item.dataset.tone = kind?.tone ?? "";
        }
        for (const [structure, { row, name, count, finish, regions }] of this.groups) {
            const isFinished = state.finished.has(structure);
            const open = regions.filter((region) => isOpen(state, region)).length;
            const kind = isFinished ? this.kinds.get(state.structures[structure][0]) : null;
            row.dataset.tone = kind?.tone ?? "";
            name.dataset.sign = kind?.sign ?? "";
            count.textContent = kind?.text ?? (open ? `${open} of ${regions.length} open` : "none open");
            if (finish) {
                finish.textContent = isFinished ? "Reopen" : "Finish";
                finish.setAttribute("aria-label", `${finish.textContent} ${structure}`);
                finish.title = isFinished ? "" : "Looked through in three planes, it is right now (D or Ctrl+Alt+F)";
                finish.disabled = !canWrite;
            }
        }
        this.hide();
    }

    // Hides what the filter does not find, and the regions of finished structures.
    hide() {
        const words = this.filter.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
        const found = new Set();
        for (const { item, region, structure } of this.items.values()) {
            const kind = this.kinds.get(this.state.verdicts[region.id]);
            const said = [kind?.text, this.state.comments[region.id]];
            const text = [region.structure, shortName(region.structure), region.kind, region.why, ...said].join(" ");
            const isFound = words.every((word) => text.toLocaleLowerCase().includes(word));
            item.hidden = !isFound || (this.isFolded(structure) && !words.length);
            if (isFound) {
                found.add(structure);
            }
        }
        for (const [structure, { row, name }] of this.groups) {
            row.hidden = words.length > 0 && !found.has(structure);
            name.setAttribute("aria-expanded", String(!this.isFolded(structure)));
        }
    }

    isFolded(structure) {
        return this.state.finished.has(structure) && !this.unfolded.has(structure);
    }

    // Numbers of the regions that are shown, from the top.
    get shownIds() {
        return [...this.items.keys()].filter((id) => !this.items.get(id).item.hidden);
    }

    // Selects a region by its number, or a structure without one.
    select(id, structure = null) {
        for (const [other, { item }] of this.items) {
            item.setAttribute("aria-selected", String(other === id));
        }
        for (const [other, { row }] of this.groups) {
            row.classList.toggle("current", other === structure);
        }
        const found = this.items.get(id);
        if (found && this.isFolded(found.structure)) {
            this.unfolded.add(found.structure);
            this.hide();
        }
        this.list.setAttribute("aria-activedescendant", found?.item.id ?? "");
        this.current = id;
        this.row = found?.item ?? this.groups.get(structure)?.row;
        this.reveal();
    }

    // Scrolls to what is selected; by hand: scrollIntoView would move the page as well.
    reveal() {
        const { offsetTop = 0, offsetHeight = 0 } = this.row ?? {};
        const { scrollTop, clientHeight } = this.list;
        const least = Math.max(scrollTop, offsetTop + offsetHeight - clientHeight);
        const heading = this.list.querySelector(".heading")?.offsetHeight ?? 0;
        this.list.scrollTop = Math.min(least, Math.max(0, offsetTop - heading));
    }

    moveByKey(event) {
        const ids = this.shownIds;
        const at = ids.indexOf(this.current);
        const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: ids.length - 1 };
        const target = event.altKey || event.ctrlKey || event.metaKey ? undefined : targets[event.key];
        if (target !== undefined) {
            event.preventDefault();
            const id = ids[Math.min(Math.max(target, 0), ids.length - 1)];
            if (id !== undefined && id !== this.current) {
                this.actions.choose(id);
            }
        }
    }
}

// Why a region is uncertain, and what the reviewer says about it.
export class VerdictCard {
    // `verdicts` are the rows of the table of verdicts. `actions` has judge, undo, comment, judgeStructure, addPlace.
    // `rest` is the button that accepts the rest, `drawing` and `mask` are what edits; null for none.
    constructor(verdicts, rest, drawing, mask, actions) {
        this.actions = actions;
        this.why = element("p", { class: "why", tabIndex: 0 });
        this.given = verdicts.filter(({ looked }) => looked);
        this.buttons = this.given.map(({ value, sign, text, tone, key, single_key: single }) =>
            element(
                "button",
                {
                    class: "verdict-button",
                    title: single ? `${single} or ${key}` : key,
                    "data-tone": tone,
                    "aria-keyshortcuts": `${single} ${key.replace("Ctrl", "Control")}`.trim(),
                    on: { click: () => actions.judge(value) },
                },
                `${sign} ${text[0].toUpperCase()}${text.slice(1)}`,
            ),
        );
        this.undo = element(
            "button",
            { title: "U or Ctrl+Alt+Z", "aria-keyshortcuts": "Control+Alt+Z", on: { click: () => actions.undo() } },
            "Undo",
        );
        this.comment = element("input", {
            type: "text",
            class: "comment",
            "aria-label": "Comment on this region",
            placeholder: "Comment",
            maxLength: 100_000,
            "aria-keyshortcuts": "Control+Alt+C",
            on: {
                change: () => actions.comment(this.comment.value.trim()),
                keydown: (event) => {
                    if (event.key === "Enter" || event.key === "Escape") {
                        actions.commentDone();
                    }
                },
            },
        });
        this.said = element("p", { class: "hint said", role: "status" });
        this.goOn = element("input", { type: "checkbox", checked: true });
        this.structure = element("summary", { class: "structure-line" });
        const offered = this.given.filter(({ structure }) => structure);
        this.add = element(
            "button",
            { class: "small", title: "M or Ctrl+Alt+P", "aria-keyshortcuts": "M Control+Alt+P", on: { click: () => actions.addPlace() } },
            "Add a place",
        );
        this.structureButtons = [...offered, { value: null, structure: "Clear" }].map(({ value, structure }) =>
            element("button", { class: "small", on: { click: () => actions.judgeStructure(value) } }, structure),
        );
        this.root = element(
            "section",
            { class: "card", "aria-label": "Verdict" },
            this.why,
            element("div", { class: "verdicts" }, ...this.buttons),
            element("div", { class: "comment-row" }, this.comment, this.undo),
            this.said,
            element("div", { class: "row acts" }, drawing, rest),
            element(
                "details",
                { class: "more" },
                this.structure,
                element("div", { class: "row" }, ...this.structureButtons, this.add),
                element("label", { class: "check" }, this.goOn, "Go on after a verdict"),
                mask,
            ),
        );
    }

    // Says what a key or a button has just done.
    say(text) {
        this.said.textContent = text;
    }

    // Shows a region's card, or, without a region, that of a structure by its `name`. `structure` is its status in the review.
    show(region, name, { why, verdict, comment, structure, canWrite, canUndo, hasEdits }) {
        showText(this.why, why);
        this.buttons.forEach((button, index) => {
            const { value, needs_edit: needsEdit } = this.given[index];
            const isGiven = value === verdict;
            button.setAttribute("aria-pressed", String(isGiven));
            button.disabled = !canWrite || !region;
            // Only what was edited can be called corrected.
            button.hidden = needsEdit && !hasEdits && !isGiven;
        });
        this.undo.disabled = !canWrite || !canUndo;
        this.comment.disabled = !canWrite || !region;
        if (document.activeElement !== this.comment) {
            this.comment.value = comment;
        }
        showText(this.structure, structure ? structureText(name, structure) : "");
        for (const button of this.structureButtons) {
            button.disabled = !canWrite || !structure;
        }
        this.add.disabled = !canWrite || !structure;
        this.structureButtons.at(-1).disabled ||= !structure?.explicit;
    }
}

// "with L cerebral WM": a confusion by the structure on the other side of it, else the kind.
function kindText({ kind, competing, structure }, listedUnder) {
    const pair = kind === "confusion" && competing[0];
    const other = pair && [pair.truth, pair.read_as].find((name) => name !== (listedUnder ?? structure));
    return other ? `with ${shortName(other)}` : (KIND_TEXTS[kind] ?? kind);
}

function structureText(name, { kind }) {
    return `${shortName(name)}: ${kind ? `${kind.sign} ${kind.text}` : "no verdict"}`;
}
