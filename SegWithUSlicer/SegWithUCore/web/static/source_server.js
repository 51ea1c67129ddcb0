// Cases and reviews from `segwithu web`. All addresses are relative: a proxy may show the page under a prefix.

const TOKEN_KEY = "segwithu-token";
const INVALID_LINK = "This link is no longer valid: start segwithu web again, or open the link that it printed.";

// An answer of the server that is no success. `kind` says what to do; `status` 0: there was no answer.
export class ServerError extends Error {
    constructor(sentence, status, content = {}) {
        super(sentence);
        this.status = status;
        this.kind = content.kind ?? "";
        this.content = content;
    }
}

export class ServerSource {
    constructor() {
        this.token = "";
        this.isFile = false;
    }

    // Takes the token out of the address bar. Returns the case that the link names, or null.
    async enter() {
        const parts = new URLSearchParams(`token=${location.hash.slice(1)}`);
        const [token, once, wanted] = ["token", "once", "case"].map((name) => parts.get(name));
        if (token?.startsWith("once=") || once) {
            const key = once ?? token.slice("once=".length);
            this.token = (await this.ask("api/enter", { body: { once: key } })).token;
        } else if (token && !token.startsWith("case=")) {
            this.token = token;
        } else {
            this.token = kept(TOKEN_KEY) ?? "";
        }
        keep(TOKEN_KEY, this.token);
        history.replaceState(null, "", location.pathname + location.search);
        return wanted ?? (token?.startsWith("case=") ? token.slice("case=".length) : null);
    }

    worklist(reviewer) {
        return this.ask(`api/worklist?reviewer=${encodeURIComponent(reviewer)}`);
    }

    compare(ids) {
        return this.ask(`api/compare?cases=${ids.join(",")}`);
    }

    case(id) {
        return this.ask(caseAddress(id));
    }

    // The bytes of a volume, in chunks of whole slices where it is large. `description` is { url, dtype, box }.
    async volume(id, description, bytes) {
        const answer = await this.fetch(`${caseAddress(id)}/${description.url}`);
        const target = new Uint8Array(bytes);
        let filled = 0;
        const reader = answer.body.getReader();
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
            if (filled + part.value.length > bytes) {
                throw new ServerError("The server sent more voxels than the case has: reload the page.", 0);
            }
            target.set(part.value, filled);
            filled += part.value.length;
        }
        if (filled !== bytes) {
            throw new ServerError("The volume was truncated: reload the page.", 0);
        }
        return target.buffer;
    }

    open(id, wish) {
        return this.ask(`${caseAddress(id)}/open`, { body: wish });
    }

    alive(id, session) {
        return this.ask(`${caseAddress(id)}/alive`, { body: { session } });
    }

    close(id, session) {
        return this.ask(`${caseAddress(id)}/close`, { body: { session }, keepalive: true });
    }

    lines(id, session) {
        return this.ask(`${caseAddress(id)}/lines?session=${encodeURIComponent(session)}`);
    }

    say(id, act) {
        return this.ask(`${caseAddress(id)}/events`, { body: act });
    }

    positions(id, session, structure, region) {
        return this.ask(`${caseAddress(id)}/scroll`, { body: { session, structure, region } });
    }

    // A segmentation from another program becomes the reviewer's version.
    takeMask(id, session, name, content) {
        return this.ask(`${caseAddress(id)}/mask`, { body: { session, name, content } });
    }

    async ask(address, options = {}) {
        const answer = await this.fetch(address, options);
        try {
            return await answer.json();
        } catch (error) {
            throw new ServerError(`The server's response was truncated (${error.message}).`, 0);
        }
    }

    async fetch(address, { body, keepalive = false } = {}) {
        const headers = { Authorization: `Bearer ${this.token}` };
        const request = { headers, keepalive, cache: "no-store", credentials: "omit", redirect: "error" };
        if (body !== undefined) {
            headers["Content-Type"] = "application/json";
            request.method = "POST";
            request.body = JSON.stringify(body);
        }
        let answer;
        try {
            answer = await fetch(address, request);
        } catch {
            throw new ServerError("The server does not respond. Is segwithu web still running?", 0);
        }
        if (answer.ok) {
            return answer;
        }
        const content = await answer.json().catch(() => ({}));
        const sentence =
            answer.status === 401 ? INVALID_LINK : (content.error ?? `The server answered ${answer.status}.`);
        throw new ServerError(sentence, answer.status, content);
    }
}

function caseAddress(id) {
    return `api/cases/${encodeURIComponent(id)}`;
}

// What the browser keeps for this tab; browsers may forbid it.
function kept(key) {
    try {
        return sessionStorage.getItem(key);
    } catch {
        return null;
    }
}

function keep(key, text) {
    try {
        sessionStorage.setItem(key, text);
    } catch {
        // The link still works; only a reload asks for it again.
    }
}
