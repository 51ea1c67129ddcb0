// Begins the page: picks the source, shows worklist or case, and listens to the keys.

import { loadCase } from "./case_data.js";
import { CasePage } from "./case_page.js";
import { element, takesText } from "./dom.js";
import { FileSource, hasEmbeddedCase } from "./source_file.js";
import { ServerSource } from "./source_server.js";
import { WorklistPage } from "./worklist_page.js";

const SETTINGS_KEY = "segwithu-page";
const RELOAD_MS = 5_000;

class Application {
    constructor() {
        this.host = document.getElementById("page");
        this.source = hasEmbeddedCase() ? new FileSource() : new ServerSource();
        this.settings = { reviewer: null, order: "structure", ...storedSettings() };
        this.casePage = null;
        this.worklist = null;
        this.shown = [];
        // Counts what was asked for, so that an answer that comes after the next request is dropped.
        this.turn = 0;
        document.addEventListener("keydown", (event) => this.keyDown(event));
        document.addEventListener("keyup", (event) => this.keyUp(event));
        window.addEventListener("blur", () => this.casePage?.viewer.setBare(false));
    }

    async begin() {
        try {
            const wanted = await this.source.enter();
            this.worklist = await this.source.worklist(this.settings.reviewer ?? "");
            if (this.settings.reviewer === null || (!this.settings.reviewer && this.worklist.reviewer_default)) {
                this.settings.reviewer = this.worklist.reviewer_default ?? "";
            }
            await (wanted === null ? this.showWorklist() : this.showCase(wanted));
        } catch (error) {
            this.showError(error, () => this.begin());
        }
    }

    // Asks for the worklist; null where it cannot be had, or where something else was asked for meanwhile.
    async loadWorklist() {
        const turn = ++this.turn;
        try {
            const worklist = await this.source.worklist(this.settings.reviewer);
            return turn === this.turn ? worklist : null;
        } catch (error) {
            if (turn === this.turn) {
                this.showError(error, () => this.showWorklist());
            }
            return null;
        }
    }

    async showWorklist() {
        this.setState("loading");
        const worklist = await this.loadWorklist();
        if (worklist === null) {
            return;
        }
        this.worklist = worklist;
        const page = new WorklistPage(this.worklist, this.settings, {
            open: (id) => {
                this.shown = page.shown;
                this.showCase(id);
            },
            reviewerChanged: () => {
                this.keepSettings();
                this.refreshWorklist(page);
            },
            reload: () => this.refreshWorklist(page),
            compare: (ids) => this.source.compare(ids),
        });
        this.put(page.root, this.worklist.title || "Cases");
        this.setState("worklist");
    }

    // Only the rows are rebuilt: text that is being typed in a field next to them stays.
    // A field that changes because its page gives way to a case asks for no rows, which would drop that case.
    async refreshWorklist(page) {
        if (this.state !== "worklist") {
            return;
        }
        page.setBusy(true);
        const worklist = await this.loadWorklist();
        if (worklist !== null) {
            this.worklist = worklist;
            page.show(worklist);
            page.setBusy(false);
        }
    }

    async showCase(id) {
        if (!(await this.hasLeft())) {
            return;
        }
        const { turn } = this;
        this.setState("loading");
        const progress = element("progress", { max: 1, value: 0, "aria-label": "Loading" });
        this.put(
            element("main", { class: "loading" }, element("p", { role: "status" }, "Loading the case …"), progress),
            "Loading",
        );
        try {
            const data = await loadCase(this.source, id, (share) => {
                progress.value = share;
            });
            if (turn !== this.turn) {
                return;
            }
            const page = new CasePage(this.source, data, this.worklist, this.settings, {
                back: () => this.backToWorklist(),
                nextCase: () => this.nextCase(),
                settingsChanged: () => this.keepSettings(),
            });
            this.casePage = page;
            this.put(page.root, data.description.name);
            await page.start();
            if (turn === this.turn) {
                page.header.allowNext();
                this.setState("case");
            }
        } catch (error) {
            if (turn === this.turn) {
                this.showError(error, () => this.showCase(id));
            }
        }
    }

    async leaveCase() {
        const page = this.casePage;
        this.casePage = null;
        this.setState("loading");
        this.keepSettings();
        await page?.close();
    }

    // Leaves the case; false where something else was asked for before its review was closed.
    async hasLeft() {
        const turn = ++this.turn;
        await this.leaveCase();
        return turn === this.turn;
    }

    async backToWorklist() {
        if (await this.hasLeft()) {
            await this.showWorklist();
        }
    }

    // Opens the next case of the list that still waits for this reviewer.
    async nextCase() {
        if (this.source.isFile) {
            return;
        }
        if (this.state !== "case") {
            return;
        }
        const current = this.casePage.data.id;
        const worklist = (await this.hasLeft()) ? await this.loadWorklist() : null;
        if (worklist === null) {
            return;
        }
        this.worklist = worklist;
        const waits = new Map(this.worklist.cases.map((one) => [one.id, one.is_open]));
        const ids = this.shown.length ? this.shown : [...waits.keys()];
        const start = ids.indexOf(current) + 1;
        const ring = [...ids.slice(start), ...ids.slice(0, start)];
        const next = ring.find((id) => id !== current && waits.get(id));
        await (next === undefined ? this.showWorklist() : this.showCase(next));
    }

    put(root, title) {
        this.host.replaceChildren(root);
        document.title = `${title} – SegWithU review`;
    }

    showError(error, again) {
        const retry = element("button", { class: "primary", on: { click: again } }, "Try again");
        this.put(
            element(
                "main",
                { class: "loading" },
                element("p", { class: "banner bad", role: "alert" }, error.message),
                retry,
            ),
            "Trouble",
        );
        this.setState("error");
        if (error.status === 0) {
            setTimeout(() => {
                if (retry.isConnected) {
                    again();
                }
            }, RELOAD_MS);
        } else if (error.status === undefined) {
            console.error(error);
        }
    }

    get state() {
        return document.documentElement.dataset.state;
    }

    setState(state) {
        document.documentElement.dataset.state = state;
        performance.mark(`segwithu-${state}`);
    }

    // -- keys --

    keyDown(event) {
        const page = this.casePage;
        const isOffered = page?.contour || page?.preparing;
        const isTyped = takesText(event.target) && !(isOffered && event.target.matches("select"));
        if (!page || this.state === "error" || isTyped || document.querySelector("dialog[open]")) {
            return;
        }
        const ofContour = isOffered && { Enter: () => page.takeContour(), Escape: () => page.endContour() }[event.key];
        const isMore = event.repeat && !"[]".includes(event.key);
        const action = isMore ? undefined : (ofContour ?? this.singleKey(event, page) ?? this.actionOf(event, page));
        if (action) {
            event.preventDefault();
            action();
        }
    }

    // What a key does; on macOS the command key stands for Ctrl, as in Slicer.
    actionOf(event, page) {
        const control = event.ctrlKey || event.metaKey;
        if (control && event.altKey) {
            const key = `Ctrl+Alt+${event.code.replace(/^(Digit|Numpad)/, "")}`;
            const kind = this.worklist.verdicts.find((one) => one.key === key);
            if (kind) {
                return () => page.judge(kind.value);
            }
            return {
                KeyZ: () => page.undo(),
                KeyC: () => page.writeComment(),
                KeyF: () => page.finish(),
                KeyN: () => this.nextCase(),
                KeyP: () => page.addPlace(),
            }[event.code];
        }
        return undefined;
    }

    // What a key alone does, unless single keys are switched off.
    singleKey(event, page) {
        if (this.settings.singleKeys === false || event.ctrlKey || event.metaKey || event.altKey) {
            return undefined;
        }
        if (/^\d$/.test(event.key)) {
            return () => page.typeNumber(event.key);
        }
        const kind = this.worklist.verdicts.find((one) => one.single_key === event.key.toUpperCase());
        if (kind) {
            return () => page.judge(kind.value);
        }
        return {
            u: () => page.undo(),
            c: () => page.writeComment(),
            d: () => page.finish(),
            m: () => page.addPlace(),
            n: () => (event.shiftKey ? page.previous() : page.next()),
            p: () => page.viewer.setBare(true),
            w: () => page.viewer.fit(),
            e: () => page.scroll(event.shiftKey),
            b: () => page.header.useTool(page.header.tool === "brush" || !page.viewer.brush ? "crosshair" : "brush"),
            "[": () => page.moveContour(-1),
            "]": () => page.moveContour(1),
        }[event.key.toLowerCase()];
    }

    keyUp(event) {
        if (event.key.toLowerCase() === "p") {
            this.casePage?.viewer.setBare(false);
        }
    }

    keepSettings() {
        try {
            const { reviewer, order, smooth, singleKeys } = this.settings;
            localStorage.setItem(SETTINGS_KEY, JSON.stringify({ reviewer, order, smooth, singleKeys }));
        } catch {
            // Without storage the name is asked for again.
        }
    }
}

function storedSettings() {
    try {
        const kept = JSON.parse(localStorage.getItem(SETTINGS_KEY) ?? "{}");
        return kept && typeof kept === "object" ? kept : {};
    } catch {
        return {};
    }
}

new Application().begin();
