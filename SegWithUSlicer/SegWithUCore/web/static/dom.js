// Elements of the page. Texts are set as text, never as markup: names in cases may come from anybody.

// Makes an element. `properties` are set as properties; `class`, `role`, `for`, names with a dash and those in ATTRIBUTES as
// attributes; `on` holds listeners by event. Children are elements, texts, or null for nothing.
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (value === undefined || value === null) {
            continue;
        }
        if (name === "on") {
            for (const [event, listener] of Object.entries(value)) {
                made.addEventListener(event, listener);
            }
        } else if (name.includes("-") || ATTRIBUTES.has(name)) {
            made.setAttribute(name, value);
        } else {
            made[name] = value;
        }
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
}

const ATTRIBUTES = new Set(["class", "role", "for", "scope"]);

// Shows one of the texts of a page's line, and hides the line without one.
export function showText(target, text) {
    if (target.textContent !== text) {
        target.textContent = text;
    }
    target.hidden = !text;
}

// Asks a question over the page. Resolves to whether it was answered by `yes`.
export function ask(question, yes, no = "Cancel") {
    return new Promise((resolve) => {
        const agree = element("button", { class: "primary", value: "yes" }, yes);
        const dialog = element(
            "dialog",
            {
                "aria-label": question,
                on: {
                    close: () => {
                        dialog.remove();
                        resolve(dialog.returnValue === "yes");
                    },
                },
            },
            element(
                "form",
                { method: "dialog" },
                element("p", {}, question),
                element("div", { class: "buttons" }, agree, element("button", { value: "no" }, no)),
            ),
        );
        document.body.append(dialog);
        dialog.showModal();
        agree.focus();
    });
}

// Offers a text as a file to be saved.
export function download(name, text) {
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const link = element("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// Whether what is typed goes into this element.
export function takesText(target) {
    if (!(target instanceof Element)) {
        return false;
    }
    const kinds = ["text", "search", "number"];
    return target.matches("textarea, select") || (target.matches("input") && kinds.includes(target.type));
}
