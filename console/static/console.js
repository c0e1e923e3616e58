// What a page needs in the browser besides NiceGUI: links that stay within the page, keys, relative times, copying.
// Loaded as a file, so that the content security policy needs no inline script of ours.

(() => {
  const root = document.documentElement;
  const words = () => root.lang || "en";

  // --- links: one page, one socket. Modified clicks, new tabs and copied links work as links do -------------------
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-nav]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target === "_blank") return;
    if (!window.did_handshake) return; // not connected yet: an ordinary load gets there too
    event.preventDefault();
    emitEvent("sentinel_go", { href: link.getAttribute("href") });
  });
  window.addEventListener("popstate", () =>
    emitEvent("sentinel_pop", { href: location.pathname + location.search }),
  );

  // --- keys ----------------------------------------------------------------------------------------------------------
  const writing = (element) => element?.closest?.("input, textarea, select, [contenteditable=true]");
  document.addEventListener("keydown", (event) => {
    const palette = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
    const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !writing(event.target);
    const search = document.getElementById("search");
    if ((palette || slash) && search && !document.querySelector(".q-dialog")) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  });

  // --- what a person does keeps the session alive, what the page does by itself does not -----------------------------
  let told = 0;
  const active = () => {
    if (Date.now() - told < 20000 || !window.did_handshake) return;
    told = Date.now();
    emitEvent("sentinel_active");
  };
  for (const kind of ["pointerdown", "keydown", "wheel"]) document.addEventListener(kind, active, { passive: true });

  // --- times: relative, absolute on hover, kept up to date -----------------------------------------------------------
  const UNITS = [
    ["year", 31536000],
    ["month", 2592000],
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ];
  const zone = () => (root.dataset.zone === "utc" ? "UTC" : undefined);
  // A list shows a hundred times, and to make a format takes longer than to use it: one of each is kept.
  const formats = new Map();
  const kept = (name, make) => {
    if (!formats.has(name)) formats.set(name, make());
    return formats.get(name);
  };
  const absolute = (at) =>
    kept(`at ${words()} ${zone()}`, () =>
      new Intl.DateTimeFormat(words() === "en" ? "en-GB" : words(), {
        year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
        hour12: false, timeZone: zone(), timeZoneName: "short",
      }),
    ).format(at);
  const relative = (at) => {
    const seconds = (at - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
    return kept(`ago ${words()}`, () =>
      new Intl.RelativeTimeFormat(words(), { numeric: "auto", style: "short" }),
    ).format(Math.trunc(seconds / size), unit);
  };
  class RelativeTime extends HTMLElement {
    static observedAttributes = ["datetime", "absolute"];
    connectedCallback() {
      this.show();
      this.timer = setInterval(() => this.show(), 10000);
    }
    disconnectedCallback() {
      clearInterval(this.timer);
    }
    attributeChangedCallback() {
      if (this.isConnected) this.show();
    }
    show() {
      const at = new Date(this.getAttribute("datetime"));
      if (isNaN(at)) return;
      const text = this.hasAttribute("absolute") ? absolute(at) : relative(at);
      if (this.textContent !== text) this.textContent = text;
      this.title = `${absolute(at)}\n${at.toISOString()}`;
    }
  }
  customElements.define("rel-time", RelativeTime);
  new MutationObserver(() => document.querySelectorAll("rel-time").forEach((each) => each.show())).observe(root, {
    attributes: true, attributeFilter: ["lang", "data-zone"],
  });

  // --- copying: also without TLS, where browsers have no clipboard ---------------------------------------------------
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const text = button.dataset.copy;
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  });

  // --- what the server asks for --------------------------------------------------------------------------------------
  const remember = (name, value) => {
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `${name}=${value}; path=${root.dataset.path || "/"}; max-age=31536000; samesite=lax${secure}`;
  };
  window.sentinel = {
    language(name, quasar) {
      remember("sentinel_language", name);
      root.lang = name;
      window.Quasar?.lang.set(Quasar.lang[quasar.replace("-", "")]);
      root.lang = name;
    },
    theme(name) {
      remember("sentinel_theme", name);
      root.dataset.theme = name;
      setDark(name === "system" ? null : name === "dark");
    },
    zone(name) {
      remember("sentinel_zone", name);
      root.dataset.zone = name;
    },
    place(href, title, push) {
      document.title = title;
      if (location.pathname + location.search !== href) history[push ? "pushState" : "replaceState"]({}, "", href);
    },
    settle() {
      window.scrollTo(0, 0);
      document.getElementById("content")?.focus({ preventScroll: true });
    },
  };
})();
