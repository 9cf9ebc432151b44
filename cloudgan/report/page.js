"use strict";
(() => {
  const PAGE = 24;
  const at = (id) => document.getElementById(id);
  const zones = JSON.parse(at("data").textContent);
  const state = { zone: 0, date: 0, page: 0, composite: "", layer: "none" };

  const zone = () => zones[state.zone];

  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function showComposites() {
    const field = at("composites");
    field.querySelectorAll("label").forEach((one) => one.remove());
    const keys = zone().composites.map(([key]) => key);
    if (!keys.includes(state.composite)) state.composite = keys[0] ?? "";
    for (const [key, title, bands] of zone().composites) {
      const label = make("label", undefined, { title: bands });
      const input = make("input", undefined, { type: "radio", name: "composite", value: key });
      input.checked = key === state.composite;
      input.addEventListener("change", () => { state.composite = key; showPictures(); });
      label.append(input, make("span", title));
      field.append(label);
    }
    field.hidden = keys.length < 1;
  }

  function showPictures() {
    const date = zone().dates[state.date];
    const source = JSON.parse(at(`pictures-${state.zone}-${state.date}`).textContent);
    const title = zone().composites.find(([key]) => key === state.composite)?.[1] ?? "";
    at("after").src = at("same").src = source[state.composite] ?? "";
    at("after").alt = `${title} of ${date.day}, declouded`;
    at("same").alt = `${title} of ${date.day}, as observed, masked places blank`;
    const mask = `url("${source.provenance}")`;
    at("blank").style.maskImage = mask;
    at("blank").style.webkitMaskImage = mask;
    const layer = at("layer");
    layer.hidden = state.layer === "none";
    if (layer.hidden) {
      layer.removeAttribute("src");
      layer.alt = "";
    } else {
      layer.src = source[state.layer];
      layer.alt = `${state.layer} of ${date.day}`;
    }
    at("legend").innerHTML = zone().legends[state.layer];
  }

  function showDate() {
    const { dates } = zone();
    const date = dates[state.date];
    at("day").textContent = date.day;
    at("previous").disabled = state.date === 0;
    at("next").disabled = state.date === dates.length - 1;
    const list = make("dl");
    for (const [name, value] of date.facts) {
      const row = make("div");
      row.append(make("dt", name), make("dd", value));
      list.append(row);
    }
    at("facts").replaceChildren(list);
    at("items").replaceChildren(...date.items.map((item) => make("li", item)));
    document.querySelectorAll(`.zone[data-zone="${state.zone}"] .cursor`).forEach((line) => {
      line.setAttribute("x1", date.place);
      line.setAttribute("x2", date.place);
    });
    showPictures();
    const page = Math.floor(state.date / PAGE);
    if (page !== state.page || !at("list").children.length) showPage(page);
    else markDate();
  }

  function markDate() {
    at("list").querySelectorAll("button").forEach((button) => {
      if (Number(button.dataset.date) === state.date) button.setAttribute("aria-current", "date");
      else button.removeAttribute("aria-current");
    });
  }

  function showPage(page) {
    const { dates } = zone();
    state.page = page;
    const first = page * PAGE;
    const shown = dates.slice(first, first + PAGE);
    at("list").replaceChildren(...shown.map((date, index) => {
      const entry = make("li");
      const share = `${Math.round(100 * date.observed)} %`;
      const button = make("button", date.day, {
        type: "button", "data-date": first + index, "aria-label": `${date.day}, ${share} observed`,
      });
      const bar = make("i");
      bar.style.setProperty("--share", `${100 * date.observed}%`);
      button.append(bar);
      button.addEventListener("click", () => { state.date = first + index; showDate(); });
      entry.append(button);
      return entry;
    }));
    const pages = Math.ceil(dates.length / PAGE);
    at("page").textContent = `dates ${first + 1} to ${first + shown.length} of ${dates.length}`;
    at("earlier").disabled = page === 0;
    at("later").disabled = page >= pages - 1;
    at("earlier").hidden = at("later").hidden = pages < 2;
    markDate();
  }

  function showZone() {
    document.querySelectorAll(".zone").forEach((one) => {
      one.hidden = Number(one.dataset.zone) !== state.zone;
    });
    const [width, height] = zone().size;
    at("summary").innerHTML = zone().summary;
    at("stage").style.aspectRatio = `${width} / ${height}`;
    at("stage").style.maxWidth = `calc(78vh * ${width / height})`;
    at("stage").classList.toggle("fine", Math.max(width, height) < 300);
    at("list").replaceChildren();
    showComposites();
    showDate();
  }

  function step(by) {
    const next = state.date + by;
    if (next >= 0 && next < zone().dates.length) {
      state.date = next;
      showDate();
    }
  }

  const slider = at("slider");
  slider.addEventListener("input", () => at("stage").style.setProperty("--at", `${slider.value}%`));
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("earlier").addEventListener("click", () => showPage(state.page - 1));
  at("later").addEventListener("click", () => showPage(state.page + 1));
  at("layers").addEventListener("change", (event) => { state.layer = event.target.value; showPictures(); });
  at("zone")?.addEventListener("change", (event) => {
    Object.assign(state, { zone: Number(event.target.value), date: 0, page: 0 });
    showZone();
  });
  // The first date that shows both: some of it observed, some generated.
  const { dates } = zone();
  const apart = dates.map((date) => Math.abs(date.observed - 0.5));
  state.date = apart.indexOf(Math.min(...apart));
  state.page = -1;
  showZone();
})();
