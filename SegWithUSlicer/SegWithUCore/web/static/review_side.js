// Beside the views: who reviews, how far the review is, the order of regions, the budget, and files of verdicts.

import { ask, element, showText } from "./dom.js";
import { budgetText, progressText } from "./review_state.js";
import { ORDER_TEXTS, volumeText } from "./texts.js";

const FIRST_BUDGET = 10;

export class ReviewSide {
    // `actions` has start(name), setOrder(order), and, for a page that is a file, save() and load(file).
    constructor(review, description, worklist, settings, isFile, actions) {
        this.review = review;
        this.description = description;
        this.actions = actions;
        this.makeHead(worklist.orders, settings, isFile);
        this.makeBudget();
    }

    makeHead(orders, settings, isFile) {
        this.progress = element("p", { class: "progress", role: "status" });
        this.bar = element("progress", { max: 1, value: 0, "aria-label": "Regions decided" });
        const options = orders.map((order) => element("option", { value: order }, ORDER_TEXTS[order] ?? order));
        this.order = element(
            "select",
            { "aria-label": "Order of regions", on: { change: () => this.actions.setOrder(this.order.value) } },
            ...options,
        );
        this.name = element("input", {
            type: "text",
            value: settings.reviewer ?? "",
            autocomplete: "name",
            maxLength: 100,
        });
        const submit = (event) => {
            event.preventDefault();
            this.actions.start(this.name.value.trim());
        };
        this.form = element(
            "form",
            { class: "start", on: { submit } },
            element("label", { class: "field grow" }, "Your name", this.name),
            element("button", { class: "primary" }, "Start review"),
        );
        this.finish = element(
            "button",
            { class: "primary", hidden: true, on: { click: () => this.review.reveal() } },
            "Finish: show the blind places",
        );
        this.head = element(
            "div",
            { class: "review-head" },
            this.form,
            this.progress,
            this.bar,
            this.finish,
            isFile ? this.makeFileRow() : null,
            this.order,
        );
    }

    makeFileRow() {
        const picker = element("input", {
            type: "file",
            accept: ".json",
            hidden: true,
            "aria-label": "File of verdicts",
            on: {
                change: () => {
                    const [file] = picker.files;
                    picker.value = "";
                    if (file) {
                        this.actions.load(file);
                    }
                },
            },
        });
        this.save = element(
            "button",
            { class: "primary", disabled: true, on: { click: () => this.actions.save() } },
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
        this.number = element("input", {
            type: "number",
            min: 0,
            max: regions,
            value: Math.min(FIRST_BUDGET, regions),
            "aria-label": "Regions that you mean to look at",
            on: { input: () => this.sayBudget() },
        });
        this.line = element("p", { class: "budget-line" });
        this.rest = element("button", { on: { click: () => this.acceptRest() } }, "Accept the rest");
        this.budget = element(
            "section",
            { class: "budget", "aria-label": "Budget" },
            element("div", { class: "row" }, element("label", { class: "check" }, "Budget", this.number), this.rest),
            this.line,
        );
    }

    update() {
        const { review } = this;
        const { progress } = review.state;
        const hasRegions = review.regions.length > 0;
        const text = review.serverProgress && !review.pending.length ? review.serverProgress : progressText(progress);
        this.progress.textContent = hasRegions ? [text, this.closingText()].filter(Boolean).join(". ") : "";
        this.bar.value = progress.regions ? (progress.decided + progress.unseen) / progress.regions : 0;
        this.bar.hidden = this.order.hidden = this.budget.hidden = !hasRegions;
        this.form.hidden = review.isOpen || review.who !== null || Boolean(this.description.regions_trouble);
        this.finish.hidden = !(review.canWrite && review.isDone && review.blindPlaces && !review.revealed);
        this.rest.disabled = !review.canWrite || review.isDone;
        if (this.save) {
            this.save.disabled = !review.isOpen || review.lines.length < 2;
        }
        this.sayBudget();
    }

    closingText() {
        const { review } = this;
        if (!review.isDone) {
            return "";
        }
        const given = Object.values(review.state.verdicts);
        const count = (verdict) => given.filter((one) => one === verdict).length;
        const unseen = count("not looked at");
        const but = unseen ? ` but for ${unseen} that were not looked at` : "";
        return `All ${review.regions.length} regions are decided${but}: ${count("rejected")} rejected, ${count("needs second reader")} for a second reader`;
    }

    // Blind places take time but are none of the case's expected errors: the budget counts the case's own regions.
    sayBudget() {
        const { review } = this;
        const { regions, total_expected_wrong_mm3: total } = this.description;
        if (total === null || total === undefined) {
            showText(this.line, "");
            return;
        }
        const number = Number(this.number.value) || 0;
        const isReached = review.canWrite && review.state.progress.decided >= number && !review.isDone;
        const reached = isReached ? " You have looked at as many: the rest can be accepted." : "";
        showText(this.line, budgetText(regions, total, review.order, number, volumeText) + reached);
    }

    async acceptRest() {
        const isOpen = ({ id }) => this.review.state.verdicts[id] === undefined;
        const count = this.review.regions.filter(isOpen).length;
        const { regions, total_expected_wrong_mm3: total } = this.description;
        const wrong = regions.filter(isOpen).reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
        const share = total > 0 ? Math.min(100, Math.ceil((100 * wrong) / total)) : 0;
        const question = `Take the ${count} regions without a verdict as they are, without a look? They hold ${volumeText(wrong)} of expected error, ${share} % of this case's. They are logged as "not looked at" and counted apart; undo takes all of it back.`;
        if (count && (await ask(question, "Accept the rest"))) {
            this.review.acceptRest();
        }
    }
}
