"use strict";
(async () => {
  const EDGE = 256;
  const at = (id) => document.getElementById(id);
  const state = { zone: 0, date: 0, picture: "", state: "declouded", layer: "none" };
  // In the address, so that a view can be bookmarked and sent to a colleague with the same store.
  const asked = new URLSearchParams(location.hash.slice(1));
  let store, map, ground, mark;
  const shown = { picture: null, layer: null }, coming = { picture: null, layer: null };

  const zone = () => store.zones[state.zone];

  function tell(text) { at("message").textContent = text; }

  async function fetchText(url) {
    let reply;
    try {
      reply = await fetch(url);
    } catch {
      throw new Error("The server does not answer: it has ended, or the network is gone.");
    }
    const text = await reply.text();
    if (!reply.ok) throw new Error(text);
    return text;
  }

  const Tiles = L.TileLayer.extend({
    getTileUrl(place) {
      const { zone: number, date, content, values } = this.options;
      const path = [number, date, content, values, -place.z, place.y, place.x].join("/");
      return `tiles/${path}.png?v=${store.token}`;
    },
  });

  function makeTiles(content, kind) {
    const [width, height] = zone().size;
    const tiles = new Tiles("", {
      zone: state.zone, date: state.date, content, values: kind === "layer" ? "declouded" : state.state,
      tileSize: EDGE, minNativeZoom: -zone().levels, maxNativeZoom: 0, minZoom: map.getMinZoom(),
      maxZoom: map.getMaxZoom(), noWrap: true, className: "sharp", opacity: kind === "layer" ? 0.65 : 1,
      bounds: L.latLngBounds([-height, 0], [0, width]), zIndex: kind === "layer" ? 2 : 1, keepBuffer: 1,
    });
    tiles.on("tileerror", (event) => {
      fetchText(event.tile.src).catch((error) => tell(`A part of the map is missing: ${error.message}`));
    });
    return tiles;
  }

  // The former tiles stay until those of the new date are there: the map does not flicker.
  function replace(kind, content) {
    coming[kind]?.remove();
    coming[kind] = null;
    if (content === null) {
      shown[kind]?.remove();
      shown[kind] = null;
      return;
    }
    const next = makeTiles(content, kind);
    coming[kind] = next;
    next.once("load", () => {
      if (coming[kind] !== next) return;
      shown[kind]?.remove();
      shown[kind] = next;
      coming[kind] = null;
    });
    next.addTo(map);
  }

  function showTiles() {
    tell("");
    replace("picture", state.picture);
    replace("layer", state.layer === "none" ? null : state.layer);
    const ramp = zone().pictures.find(([key]) => key === state.picture)?.[2] ?? "";
    at("legend").innerHTML = ramp + zone().legends[state.layer];
    const words = { zone: zone().name, date: zone().dates[state.date].day, picture: state.picture,
      state: state.state, layer: state.layer };
    history.replaceState(null, "", `#${new URLSearchParams(words)}`);
  }

  function showDate() {
    const { dates } = zone();
    const date = dates[state.date];
    at("day").textContent = date.day;
    at("date").max = dates.length - 1;
    at("date").value = state.date;
    at("date").setAttribute("aria-valuetext", date.day);
    at("previous").disabled = state.date === 0;
    at("next").disabled = state.date === dates.length - 1;
    at("facts").textContent = date.facts.join("; ");
    showTiles();
  }

  function step(by) {
    const next = state.date + by;
    if (next < 0 || next >= zone().dates.length) return;
    state.date = next;
    showDate();
  }

  function makeChoice(name, value, title, checked) {
    const label = document.createElement("label"), input = document.createElement("input");
    const text = document.createElement("span");
    Object.assign(input, { type: "radio", name, value, checked });
    text.textContent = title;
    label.append(input, text);
    return label;
  }

  function showZone() {
    const [width, height] = zone().size;
    const keys = zone().pictures.map(([key]) => key);
    if (!keys.includes(state.picture)) state.picture = keys[0];
    state.date = Math.min(state.date, zone().dates.length - 1);
    at("pictures").querySelectorAll("label").forEach((one) => one.remove());
    at("pictures").append(...zone().pictures.map(
      ([key, title]) => makeChoice("picture", key, title, key === state.picture)));
    at("hint").hidden = !zone().has_curve;
    closeCurve();
    for (const kind of ["picture", "layer"]) {
      for (const some of [shown, coming]) {
        some[kind]?.remove();
        some[kind] = null;
      }
    }
    map?.remove();
    const { resolution } = zone();
    // A unit of the map is a pixel of the store: there is nothing to project, and nothing is resampled.
    const crs = L.extend({}, L.CRS.Simple, {
      distance: (one, other) => resolution * Math.hypot(one.lat - other.lat, one.lng - other.lng),
    });
    const bounds = L.latLngBounds([-height, 0], [0, width]);
    map = L.map("map", { crs, minZoom: -zone().levels - 2, maxZoom: 5, zoomSnap: 0.5, fadeAnimation: false,
      maxBounds: bounds.pad(0.6) });
    map.attributionControl.setPrefix(false).addAttribution("Contains modified Copernicus Sentinel data");
    L.control.scale({ imperial: false, position: "topright" }).addTo(map);
    ground = map.createPane("ground");
    ground.classList.add("leaflet-ground-pane");
    const square = document.createElement("div");
    square.className = "ground";
    ground.append(square);
    const place = () => {
      const corner = map.latLngToLayerPoint([0, 0]), end = map.latLngToLayerPoint([-height, width]);
      Object.assign(square.style, { position: "absolute", left: `${corner.x}px`, top: `${corner.y}px`,
        width: `${end.x - corner.x}px`, height: `${end.y - corner.y}px` });
    };
    map.on("zoomend viewreset", place);
    map.on("click", (event) => showCurve(Math.floor(-event.latlng.lat), Math.floor(event.latlng.lng)));
    map.fitBounds(bounds);
    place();
    showDate();
  }

  async function showCurve(row, col) {
    const [width, height] = zone().size;
    if (!zone().has_curve || row < 0 || col < 0 || row >= height || col >= width) return;
    const { resolution, corner, epsg } = zone();
    mark?.remove();
    mark = L.rectangle([[-row, col], [-row - 1, col + 1]], { color: "#ff2d95", weight: 3, fill: false,
      interactive: false }).addTo(map);
    try {
      const drawn = await fetchText(`curve/${state.zone}/${row}/${col}.svg`);
      const x = corner[0] + (col + 0.5) * resolution, y = corner[1] - (row + 0.5) * resolution;
      at("place").textContent = `NDVI at ${x.toFixed(0)} E, ${y.toFixed(0)} N (EPSG:${epsg}): `
        + "circles observed; diamonds generated, with their expected error";
      at("chart").innerHTML = drawn || "<p>This pixel has no data.</p>";
      at("curve").hidden = false;
      map.invalidateSize();
    } catch (error) {
      tell(error.message);
    }
  }

  function closeCurve() {
    mark?.remove();
    mark = null;
    at("curve").hidden = true;
    map?.invalidateSize();
  }

  function restore() {
    const named = store.zones.findIndex((one) => one.name === asked.get("zone"));
    state.zone = Math.max(named, 0);
    const { dates, pictures } = zone();
    state.date = Math.max(dates.findIndex((one) => one.day === asked.get("date")), 0);
    if (pictures.some(([key]) => key === asked.get("picture"))) state.picture = asked.get("picture");
    for (const name of ["state", "layer"]) {
      const input = [...document.getElementsByName(name)].find((one) => one.value === asked.get(name));
      if (input) {
        input.checked = true;
        state[name] = input.value;
      }
    }
  }

  at("date").addEventListener("input", () => { state.date = Number(at("date").value); showDate(); });
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("close").addEventListener("click", closeCurve);
  document.addEventListener("keydown", (event) => {
    if (event.target === at("date") || event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { PageUp: 1, PageDown: -1 }[event.key];
    if (by && store) {
      event.preventDefault();
      step(by);
    }
  });
  for (const [id, name] of [["states", "state"], ["pictures", "picture"], ["layers", "layer"]]) {
    at(id).addEventListener("change", (event) => { state[name] = event.target.value; showTiles(); });
  }
  at("zone").addEventListener("change", () => {
    Object.assign(state, { zone: Number(at("zone").value), date: 0 });
    showZone();
  });
  try {
    store = JSON.parse(await fetchText("store.json"));
    restore();
    at("zones").hidden = store.zones.length < 2;
    at("zone").append(...store.zones.map((one, number) => new Option(one.name, number)));
    at("zone").value = state.zone;
    showZone();
  } catch (error) {
    tell(error.message);
  }
})();
