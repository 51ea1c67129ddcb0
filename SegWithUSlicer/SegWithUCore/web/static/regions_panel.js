// The list of regions with thumbnails, and the card of the current one: why, verdict, comment.

import { element, showText } from "./dom.js";
import { KIND_TEXTS, volumeText } from "./texts.js";

const THUMBNAIL_PX = 48;

export class RegionsPanel {
    // `drawPicture(canvas, region)` draws a thumbnail, `onChosen(id)` is called when the reviewer chooses a region.
    constructor(verdicts, drawPicture, onChosen) {
        this.kinds = new Map(verdicts.map((kind) => [kind.value, kind]));
        this.drawPicture = drawPicture;
        this.onChosen = onChosen;
        this.items = new Map();
        this.ids = [];
        this.list = element("ul", {
            class: "regions",
            role: "listbox",
            tabIndex: 0,
            "aria-label": "Regions",
            on: { keydown: (event) => this.moveByKey(event) },
        });
        this.empty = element("p", { class: "hint" });
        this.root = element("div", { class: "regions-box" }, this.list, this.empty);
        this.seen = new IntersectionObserver((entries) => this.drawSeen(entries), {
            root: this.list,
            rootMargin: "200px",
        });
    }

    // Shows these regions in this order; `trouble` says why there are none.
    fill(regions, trouble) {
        this.seen.disconnect();
        this.items.clear();
        this.ids = regions.map(({ id }) => id);
        this.list.replaceChildren(...regions.map((region) => this.makeItem(region)));
        this.list.hidden = !regions.length;
        showText(
            this.empty,
            regions.length ? "" : trouble || "No region: nothing is expected to be wrong.",
        );
    }

    makeItem(region) {
        const picture = element("canvas", { width: 2 * THUMBNAIL_PX, height: 2 * THUMBNAIL_PX, "aria-hidden": "true" });
        const verdict = element("span", { class: "verdict" });
        const item = element(
            "li",
            {
                role: "option",
                id: `region-${region.id}`,
                "aria-selected": "false",
                on: { click: () => this.onChosen(region.id) },
            },
            picture,
            element("span", { class: "rank" }, String(region.rank)),
            element(
                "span",
                { class: "what" },
                element("span", { class: "structure" }, region.structure),
                element(
                    "span",
                    { class: "kind" },
                    `${KIND_TEXTS[region.kind] ?? region.kind} · ${volumeText(region.expected_wrong_mm3)}`,
                ),
                verdict,
            ),
        );
        this.items.set(region.id, { item, picture, verdict, region, isDrawn: false });
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

    // Redraws all thumbnails, for example in another image window.
    redraw() {
        for (const found of this.items.values()) {
            if (found.isDrawn) {
                this.drawPicture(found.picture, found.region);
            }
        }
    }

    update(verdicts, pendingIds) {
        for (const [id, { item, verdict }] of this.items) {
            const kind = this.kinds.get(verdicts[id]);
            verdict.textContent = kind ? `${kind.sign} ${kind.text}${pendingIds.has(id) ? " …" : ""}` : "";
            item.dataset.tone = kind?.tone ?? "";
        }
    }

    select(id) {
        for (const [other, { item }] of this.items) {
            item.setAttribute("aria-selected", String(other === id));
        }
        const found = this.items.get(id);
        if (found) {
            this.list.setAttribute("aria-activedescendant", found.item.id);
            // By hand: scrollIntoView would move the page as well.
            const { offsetTop, offsetHeight } = found.item;
            const { scrollTop, clientHeight } = this.list;
            this.list.scrollTop = Math.min(Math.max(scrollTop, offsetTop + offsetHeight - clientHeight), offsetTop);
        }
        this.current = id;
    }

    moveByKey(event) {
        const at = this.ids.indexOf(this.current);
        const targets = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.ids.length - 1 };
        const target = event.altKey || event.ctrlKey || event.metaKey ? undefined : targets[event.key];
        if (target !== undefined) {
            event.preventDefault();
            const id = this.ids[Math.min(Math.max(target, 0), this.ids.length - 1)];
            if (id !== undefined && id !== this.current) {
                this.onChosen(id);
            }
        }
    }
}

// Why a region is uncertain, and what the reviewer says about it.
export class VerdictCard {
    // `verdicts` are the rows of the table of verdicts. `actions` has judge, undo, comment, judgeStructure.
    constructor(verdicts, actions) {
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
            element(
                "details",
                { class: "more" },
                this.structure,
                element("div", { class: "row" }, ...this.structureButtons),
                element("label", { class: "check" }, this.goOn, "Go on after a verdict"),
            ),
        );
    }

    // Says what a key or a button has just done.
    say(text) {
        this.said.textContent = text;
    }

    // Shows a region's card. `structure` is its structure's status in the review.
    show(region, { verdict, comment, structure, canWrite, canUndo, hasEdits }) {
        showText(this.why, region?.why ?? "");
        this.buttons.forEach((button, index) => {
            const { value, needs_edit: needsEdit } = this.given[index];
            const isGiven = value === verdict;
            button.setAttribute("aria-pressed", String(isGiven));
            button.disabled = !canWrite || !region;
            // There is nothing to correct with in the page: only what was edited in Slicer can be called corrected.
            button.hidden = needsEdit && !hasEdits && !isGiven;
        });
        this.undo.disabled = !canWrite || !canUndo;
        this.comment.disabled = !canWrite || !region;
        if (document.activeElement !== this.comment) {
            this.comment.value = comment;
        }
        showText(this.structure, region && structure ? structureText(region.structure, structure) : "");
        for (const button of this.structureButtons) {
            button.disabled = !canWrite || !region;
        }
        this.structureButtons.at(-1).disabled ||= !structure?.explicit;
    }
}

function structureText(name, { kind, decided, regions, unseen }) {
    const text = kind ? `${kind.sign} ${kind.text}` : "no verdict yet";
    const notLooked = unseen ? `, ${unseen} not looked at` : "";
    return `${name}: ${text} (${decided} of ${regions} regions${notLooked})`;
}
