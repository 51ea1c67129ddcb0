// Beside the views: who reviews, how far the review is, the order of regions, the rest, and files of verdicts.

import { ask, element, showText } from "./dom.js";
import { countText, progressText } from "./review_state.js";
import { ORDER_TEXTS, volumeText } from "./texts.js";

export class ReviewSide {
    // `actions` has start(name), setOrder(order), and, for a page that is a file, save() and load(file).
    constructor(review, description, worklist, settings, isFile, actions) {
        this.review = review;
        this.description = description;
        this.actions = actions;
        this.makeHead(worklist.orders, settings, isFile);
        this.rest = element("button", { class: "rest", on: { click: () => this.acceptRest() } }, "Accept the rest");
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
        this.head = element(
            "div",
            { class: "review-head" },
            this.form,
            this.progress,
            this.bar,
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

    update() {
        const { review } = this;
        const { progress } = review.state;
        const hasRegions = review.regions.length > 0;
        const text = review.serverProgress && !review.pending.length ? review.serverProgress : progressText(progress);
        this.progress.textContent = hasRegions ? [text, this.closingText()].filter(Boolean).join(". ") : "";
        this.bar.value = progress.regions ? (progress.decided + progress.unseen) / progress.regions : 0;
        this.bar.hidden = this.order.hidden = this.rest.hidden = !hasRegions;
        this.form.hidden = review.isOpen || review.who !== null || Boolean(this.description.regions_trouble);
        this.rest.disabled = !review.canWrite || review.isDone;
        if (this.save) {
            this.save.disabled = !review.isOpen || review.lines.length < 2;
        }
    }

    closingText() {
        const { review } = this;
        if (!review.isDone) {
            return "";
        }
        const { unseen } = review.state.progress;
        const but = unseen ? ` but for ${unseen} that were not looked at` : "";
        const counts = countText(review.state, review.regions);
        return `All ${review.regions.length} regions are decided${but}: ${counts}${review.corrected ? `. ${review.corrected}` : ""}`;
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
