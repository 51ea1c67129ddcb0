// The list of cases: sorted, filtered, with their lights and how far each review is.

import { element } from "./dom.js";
import { LEVELS } from "./texts.js";

const COLUMNS = [
    { title: "Case", tip: "The name of the case.", key: (row) => row.name.toLocaleLowerCase() },
    { title: "Status", tip: "How many regions you have decided, then how many others have.", key: (row) => row.share },
    {
        title: "What to do",
        tip: "Whether to look at the case; hover or focus a row to see why below the table.",
        key: (row) => LEVELS.indexOf(row.case.light?.level),
    },
    {
        title: "Likely wrong",
        tip: "The expected wrong volume, missed tissue included, as a share of the segmented volume.",
        key: (row) => row.case.wrong_share,
        number: true,
    },
    { title: "Regions", tip: "Number of regions.", key: (row) => row.case.regions, number: true },
    {
        title: "Min",
        tip: "Minutes needed to review the regions that nobody has accepted or corrected.",
        key: (row) => (row.case.regions === null ? null : row.case.minutes),
        number: true,
    },
    {
        title: "Worst structure",
        tip: "The structure with the largest expected wrong volume.",
        key: (row) => row.case.worst_structure?.toLocaleLowerCase() ?? null,
    },
];

// The column that the worklist's own order goes by.
const WORST_FIRST = COLUMNS.findIndex(({ title }) => title === "Likely wrong");

export class WorklistPage {
    // `actions` has open(id), reviewerChanged(), reload().
    constructor(worklist, settings, actions) {
        this.worklist = worklist;
        this.settings = settings;
        this.actions = actions;
        // Column and direction; null is the worklist's own order.
        this.sorting = settings.sorting ?? null;
        this.make();
        this.fill();
    }

    make() {
        const { settings } = this;
        this.name = element("input", {
            type: "text",
            id: "reviewer",
            value: settings.reviewer,
            autocomplete: "name",
            maxLength: 100,
            on: { change: () => this.reviewerChanged() },
        });
        this.filter = element("input", {
            type: "search",
            id: "filter",
            value: settings.filter ?? "",
            on: { input: () => this.fill() },
        });
        this.flagged = element("input", {
            type: "checkbox",
            checked: settings.flagged ?? false,
            on: { change: () => this.fill() },
        });
        this.waiting = element("input", {
            type: "checkbox",
            checked: settings.waiting ?? false,
            on: { change: () => this.fill() },
        });
        this.alerts = element("div", { class: "messages" });
        this.summary = element("p", { class: "summary", role: "status" });
        this.about = element("div", { class: "about", "aria-live": "polite" });
        this.headers = COLUMNS.map((column, index) => {
            const button = element(
                "button",
                { title: column.tip, on: { click: () => this.sortBy(index) } },
                column.title,
            );
            return element("th", { scope: "col", class: column.number ? "number" : "" }, button);
        });
        this.body = element("tbody");
        this.table = element(
            "div",
            { class: "worklist-table", tabIndex: 0, role: "region", "aria-label": "Cases" },
            element("table", {}, element("thead", {}, element("tr", {}, ...this.headers)), this.body),
        );
        this.root = element(
            "main",
            { class: "worklist" },
            element(
                "header",
                {},
                element("h1", {}, this.worklist.title || "Cases"),
                element("button", { on: { click: () => this.actions.reload() } }, "Reload"),
            ),
            element(
                "div",
                { class: "worklist-controls" },
                element("label", { class: "field" }, "Your name", this.name),
                element("label", { class: "field grow" }, "Filter", this.filter),
                element("label", { class: "check" }, this.flagged, "With a sign of trouble"),
                element("label", { class: "check" }, this.waiting, "Open for you"),
            ),
            this.alerts,
            this.summary,
            this.table,
            this.about,
            element(
                "p",
                { class: "hint" },
                [
                    this.worklist.order,
                    this.worklist.pace,
                    this.worklist.version &&
                        `SegWithU ${this.worklist.version}. Research software, not for clinical use.`,
                ]
                    .filter(Boolean)
                    .join(" · "),
            ),
        );
    }

    // Shows the worklist as it is now, in the order and with the filter chosen.
    show(worklist) {
        this.worklist = worklist;
        this.fill();
    }

    setBusy(isBusy) {
        this.table.setAttribute("aria-busy", String(isBusy));
    }

    reviewerChanged() {
        this.settings.reviewer = this.name.value.trim();
        this.actions.reviewerChanged();
    }

    // Sorts at the first click, reverses at the second, and goes back to the worklist's order at the third.
    sortBy(index) {
        const first = COLUMNS[index].number || index === 1 ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        if (this.sorting?.index !== index) {
            this.sorting = { index, way: first };
        } else {
            this.sorting = this.sorting.way === first ? { index, way: other } : null;
        }
        this.fill();
    }

    fill() {
        Object.assign(this.settings, {
            filter: this.filter.value,
            flagged: this.flagged.checked,
            waiting: this.waiting.checked,
            sorting: this.sorting,
        });
        const alerts = this.worklist.warnings.map((text) => element("p", { class: "banner bad alert" }, text));
        this.alerts.replaceChildren(...alerts);
        const rows = this.worklist.cases.map((one) => worklistRow(one, this.worklist.reviewer));
        const words = this.filter.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
        const shown = rows
            .filter((row) => words.every((word) => row.text.includes(word)))
            .filter(
                (row) => (!this.flagged.checked || row.hasSign) && (!this.waiting.checked || row.isWaiting),
            );
        if (this.sorting) {
            sortRows(shown, COLUMNS[this.sorting.index].key, this.sorting.way);
        }
        this.shown = shown.map((row) => row.case.id);
        this.headers.forEach((header, index) => {
            const { index: sorted, way } = this.sorting ?? { index: WORST_FIRST, way: "descending" };
            header.setAttribute("aria-sort", sorted === index ? way : "none");
        });
        this.body.replaceChildren(...shown.map((row) => this.makeRow(row)));
        const counts = LEVELS.map((level) => `${rows.filter((row) => row.case.light?.level === level).length} ${level}`);
        const waiting = rows.filter((row) => row.isWaiting).length;
        const text = `${rows.length === 1 ? "One case" : `${rows.length} cases`}, ${counts.join(", ")}, ${waiting} open for ${this.worklist.reviewer || "you"}`;
        this.summary.textContent = shown.length === rows.length ? text : `${shown.length} of ${text}`;
    }

    makeRow(row) {
        const { case: one } = row;
        const open = element(
            "button",
            { class: "link", disabled: Boolean(one.trouble), on: { click: () => this.actions.open(one.id) } },
            one.name,
        );
        const cells = one.trouble
            ? [element("td", { class: "bad" }, "cannot be read"), ...COLUMNS.slice(2).map(() => element("td"))]
            : [
                  element("td", {}, row.status),
                  element("td", {}, element("span", { class: "chip", "data-level": one.light.level }, one.light.level)),
                  element("td", { class: "number" }, one.share_text),
                  element("td", { class: "number" }, one.regions === null ? "" : String(one.regions)),
                  element("td", { class: "number" }, one.regions === null ? "" : one.minutes.toFixed(1)),
                  element("td", {}, one.worst_structure ?? ""),
              ];
        const tell = () => this.tell(one);
        return element(
            "tr",
            {
                on: {
                    mouseenter: tell,
                    focusin: tell,
                    click: (event) => {
                        if (!one.trouble && event.target !== open) {
                            this.actions.open(one.id);
                        }
                    },
                },
            },
            element("th", { scope: "row" }, open),
            ...cells,
        );
    }

    // Says why a case has its light.
    tell(one) {
        const reasons = one.trouble ? [one.trouble] : [one.light.reason, ...one.flags.map(({ message }) => message)];
        const lines = new Set([...reasons, ...one.notes]);
        this.about.replaceChildren(element("strong", {}, one.name), ...[...lines].map((line) => element("p", {}, line)));
    }
}

function worklistRow(one, reviewer) {
    const own = one.reviews.find((review) => review.own);
    const decided = own ? own.decided + own.unseen : 0;
    return {
        case: one,
        name: one.name,
        hasSign: !one.light || one.light.level !== LEVELS.at(-1),
        status: statusText(one, own, reviewer),
        share: one.regions ? decided / one.regions : null,
        isWaiting: !one.trouble && Boolean(one.regions) && decided < one.regions,
        text: [
            one.name,
            one.worst_structure ?? "",
            one.trouble,
            one.light?.level ?? "",
            ...one.flags.flatMap(({ rule, message }) => [rule, message]),
            ...one.reviews.map((review) => review.reviewer),
        ]
            .join("\n")
            .toLocaleLowerCase(),
    };
}

function statusText(one, own, reviewer) {
    if (one.regions === null) {
        return "not calibrated";
    }
    if (one.regions === 0) {
        return "no region";
    }
    const others = one.reviews
        .filter((review) => review !== own)
        .map((review) => `${review.reviewer}: ${partText(review)}`);
    if (!reviewer) {
        return others.join("; ") || "not started";
    }
    return [own ? partText(own) : "not started", ...others].join("; ");
}

function partText({ decided, regions, unseen }) {
    if (unseen) {
        return `${decided} of ${regions}, ${unseen} not looked at`;
    }
    return decided >= regions ? "done" : `${decided} of ${regions}`;
}

// Sorts rows by a key; those without one come last.
function sortRows(rows, key, way) {
    const sign = way === "ascending" ? 1 : -1;
    rows.sort((first, second) => {
        const [a, b] = [key(first), key(second)];
        if (a === null || a === undefined || b === null || b === undefined) {
            return Number(a === null || a === undefined) - Number(b === null || b === undefined);
        }
        return sign * (a < b ? -1 : a > b ? 1 : 0);
    });
}
