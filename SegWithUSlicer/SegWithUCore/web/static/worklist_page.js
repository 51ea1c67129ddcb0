// The list of cases: sorted, filtered, with the status of each and how far its review is.

import { element } from "./dom.js";

export class WorklistPage {
    // `actions` has open(id), reviewerChanged(), reload(), and compare(ids), which resolves to a table of changes.
    constructor(worklist, settings, actions) {
        this.worklist = worklist;
        this.settings = settings;
        this.actions = actions;
        // Column and direction; null is the worklist's own order.
        this.sorting = settings.sorting ?? null;
        // Ids of the cases to be compared.
        this.picked = new Set();
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
        this.compare = element(
            "button",
            {
                disabled: true,
                title: "Did a structure change? Tick two scans or more of one patient; the first by name is the baseline.",
                on: { click: () => this.showChanges() },
            },
            "Compare scans",
        );
        this.changes = element("section", { class: "changes", "aria-live": "polite" });
        this.headers = this.worklist.columns.map((column, index) => {
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
                element("label", { class: "check" }, this.flagged, "Only flagged"),
                element("label", { class: "check" }, this.waiting, "Open for you"),
                this.compare,
            ),
            this.alerts,
            this.summary,
            this.table,
            this.changes,
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
        const first = this.worklist.columns[index].largest_first ? "descending" : "ascending";
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
        const { cases, columns, sorted_by: sortedBy, summary } = this.worklist;
        const words = this.filter.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
        const shown = cases
            .filter((one) => words.every((word) => one.searched.toLocaleLowerCase().includes(word)))
            .filter((one) => (!this.flagged.checked || one.is_flagged) && (!this.waiting.checked || one.is_open));
        if (this.sorting) {
            sortCases(shown, this.sorting);
        }
        this.shown = shown.map((one) => one.id);
        this.headers.forEach((header, index) => {
            const worst = columns.findIndex(({ name }) => name === sortedBy);
            const { index: sorted, way } = this.sorting ?? { index: worst, way: "ascending" };
            header.setAttribute("aria-sort", sorted === index ? way : "none");
        });
        this.body.replaceChildren(...shown.map((one) => this.makeRow(one)));
        this.summary.textContent = shown.length === cases.length ? summary : `${shown.length} of ${summary}`;
    }

    makeRow(one) {
        const open = element(
            "button",
            { class: "link", disabled: !one.can_open, on: { click: () => this.actions.open(one.id) } },
            one.name,
        );
        const cells = this.worklist.columns.slice(1).map(({ name, number }, index) => {
            const [text] = one.cells[index + 1];
            const isChip = name === "light" && text;
            const content = isChip ? element("span", { class: "chip", "data-level": text }, text) : text;
            return element("td", { class: number ? "number" : one.can_open ? "" : "bad" }, content);
        });
        const tell = () => this.tell(one);
        const pick = element("input", {
            type: "checkbox",
            checked: this.picked.has(one.id),
            disabled: !one.can_open,
            "aria-label": `Compare ${one.name}`,
            on: {
                change: () => {
                    this.picked[pick.checked ? "add" : "delete"](one.id);
                    this.compare.disabled = this.picked.size < 2;
                },
            },
        });
        return element(
            "tr",
            {
                on: {
                    mouseenter: tell,
                    focusin: tell,
                    click: (event) => {
                        if (one.can_open && event.target !== open && event.target !== pick) {
                            this.actions.open(one.id);
                        }
                    },
                },
            },
            element("th", { scope: "row" }, pick, open),
            ...cells,
        );
    }

    // Shows how the structures of the ticked scans differ.
    async showChanges() {
        this.compare.disabled = true;
        this.changes.replaceChildren(element("p", { role: "status" }, "Comparing …"));
        try {
            const found = await this.actions.compare([...this.picked]);
            const header = found.header.map((title) => element("th", { scope: "col" }, title));
            const rows = found.rows.map(([name, ...cells]) =>
                element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((text) => element("td", {}, text))),
            );
            this.changes.replaceChildren(
                element("h2", {}, found.title),
                ...found.warnings.map((text) => element("p", { class: "banner alert" }, text)),
                element("table", {}, element("thead", {}, element("tr", {}, ...header)), element("tbody", {}, ...rows)),
                element("p", {}, found.basis),
            );
        } catch (error) {
            this.changes.replaceChildren(element("p", { class: "banner bad alert" }, error.message));
        }
        this.compare.disabled = this.picked.size < 2;
    }

    // Says why a case has its status.
    tell(one) {
        this.about.replaceChildren(element("strong", {}, one.name), ...one.about.map((line) => element("p", {}, line)));
    }
}

// Sorts cases by the keys of a column; those without one come last.
function sortCases(cases, { index, way }) {
    const sign = way === "ascending" ? 1 : -1;
    cases.sort((first, second) => {
        const [a, b] = [first.cells[index][1], second.cells[index][1]];
        if (a === null || b === null) {
            return Number(a === null) - Number(b === null);
        }
        return sign * (a < b ? -1 : a > b ? 1 : 0);
    });
}
