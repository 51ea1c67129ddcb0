// Beside the views: who reviews, what is measured, how far the review is, the order of regions, the rest, and files of verdicts.

import { ask, element } from "./dom.js";
import { countText, inQuestion, minutesLeft, progressText, openRest } from "./review_state.js";
import { ORDER_TEXTS, namesText, volumeText } from "./texts.js";

// A button that asks for a file.
function makePicker(text, accept, take, style = "") {
    const picker = element("input", {
        type: "file",
        accept,
        hidden: true,
        "aria-label": text,
        on: {
            change: () => {
                const [file] = picker.files;
                picker.value = "";
                if (file) {
                    take(file);
                }
            },
        },
    });
    return element("span", {}, element("button", { class: style, on: { click: () => picker.click() } }, text), picker);
}

export class ReviewSide {
    // `actions` has start(name), setOrder(order), and, for a page that is a file, save() and load(file).
    // `filter` is the field that filters the regions.
    constructor(review, description, worklist, settings, isFile, filter, actions) {
        this.review = review;
        this.description = description;
        this.actions = actions;
        this.makeHead(worklist.orders, settings, isFile, filter);
        this.rest = element("button", { class: "small", on: { click: () => this.acceptRest() } }, "Accept the rest");
        this.mask = isFile
            ? null
            : makePicker("Take a mask as my edit...", ".nii,.gz,.nrrd,.mha,.mgz,.mgh", (file) => this.takeMask(file), "small");
    }

    makeHead(orders, settings, isFile, filter) {
        this.question = element("p", { class: "question" });
        this.progress = element("p", { class: "progress", role: "status" });
        this.bar = element("progress", { max: 1, value: 0, "aria-label": "Structures finished" });
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
        this.sign = element("button", { class: "small", on: { click: () => this.signVolumes() } }, "Sign...");
        this.head = element(
            "div",
            { class: "review-head" },
            this.form,
            this.question,
            this.progress,
            this.bar,
            this.sign,
            isFile ? this.makeFileRow() : null,
            (this.row = element("div", { class: "list-row" }, filter, this.order)),
        );
    }

    makeFileRow() {
        this.save = element(
            "button",
            { class: "primary", disabled: true, on: { click: () => this.actions.save() } },
            "Save verdicts",
        );
        return element(
            "div",
            { class: "row" },
            this.save,
            makePicker("Continue from a file", ".json", (file) => this.actions.load(file)),
        );
    }

    update() {
        const { review } = this;
        const { asked, progress, regions } = review.state;
        const hasRegions = regions.length > 0;
        const all = this.description.structures.length;
        this.question.textContent = `Measure ${asked.length} of ${all} structures: ${namesText(asked)}`;
        this.question.title = asked.join(", ");
        const text = review.serverProgress && !review.pending.length ? review.serverProgress : progressText(progress);
        // What matters most first: that it is finished, or how far it is.
        const signed = review.signedAt && `Signed at ${review.signedAt.replace("T", " ").replace("Z", " UTC")}`;
        const texts = review.isDone
            ? [this.closingText(), signed, text, review.corrected]
            : [text, signed, this.closingText()];
        this.progress.textContent = hasRegions ? texts.filter(Boolean).join(". ") : "";
        this.bar.value = progress.structures ? progress.finished / progress.structures : 0;
        this.question.hidden = this.bar.hidden = this.row.hidden = this.rest.hidden = !hasRegions;
        this.form.hidden = review.isOpen || review.who !== null || Boolean(this.description.regions_trouble);
        if (this.mask) {
            this.mask.firstChild.disabled = !review.canWrite;
        }
        // A page that is a file has nothing to sign: only a server measures what was reviewed.
        this.sign.hidden = !review.toSign.length || Boolean(review.signedAt) || !review.canWrite;
        this.sign.disabled = review.pending.length > 0;
        this.sign.title = review.toSign.join("\n");
        this.rest.disabled = !review.canWrite || !openRest(review.state).length;
        if (this.save) {
            this.save.disabled = !review.isOpen || review.lines.length < 2;
        }
    }

    closingText() {
        const { review } = this;
        const { state } = review;
        if (!review.isDone) {
            const minutes = Math.ceil(minutesLeft(state));
            return minutes ? `About ${minutes} min left` : "";
        }
        const { unseen } = state.progress;
        const but = unseen ? ` but for ${unseen} regions that were not looked at` : "";
        const counts = countText(state, review.queue);
        return `The review is finished${but}: ${counts}`;
    }

    async takeMask(file) {
        const question = "The mask replaces your edited segmentation of this case, which cannot be had back.";
        if (!this.review.hasEdits || (await ask(question, "Replace it"))) {
            this.actions.takeMask(file);
        }
    }

    async signVolumes() {
        const { toSign, reviewer, state } = this.review;
        const left = state.asked.length - toSign.length;
        const others = left ? ` ${left} asked structures are neither finished nor measured, and are not signed.` : "";
        const question = `${reviewer} signs: ${toSign.join("; ")}.${others} Any later change takes the signature back.`;
        if (await ask(question, "Sign")) {
            this.review.sign();
        }
    }

    async acceptRest() {
        const { state } = this.review;
        const wrong = (regions) => regions.reduce((sum, region) => sum + region.expected_wrong_mm3, 0);
        const rest = openRest(state);
        const total = wrong(inQuestion(state));
        const share = total > 0 ? Math.min(100, Math.ceil((100 * wrong(rest)) / total)) : 0;
        const hold =
            total > 0
                ? `They hold ${volumeText(wrong(rest))} of expected error, ${share} % of that in their regions. `
                : "";
        const question = `Take the ${rest.length} open regions of the structures to be measured as they are, without a look? ${hold}They are logged as "not looked at" and counted apart; they finish no structure; undo takes all of it back.`;
        if (rest.length && (await ask(question, "Accept the rest"))) {
            this.review.acceptRest();
        }
    }
}
