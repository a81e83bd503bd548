// All that the pages do by themselves. Without it every list and every execution still reads.
const $ = (sel, from = document) => from.querySelector(sel), $$ = (sel, from = document) => [...from.querySelectorAll(sel)];
const root = document.documentElement;
const pageAt = async address => { const answer = await fetch(address, { headers: { accept: "text/html" } }).catch(() => ({})); return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null; };

// Colours and times: chosen here, kept in this browser.
const kept = { get: k => { try { return localStorage[k]; } catch { return ""; } }, set: (k, v) => { try { localStorage[k] = v; } catch {} } };
const themes = ["", "light", "dark"], zones = ["relative", "local", "UTC"];
const paint = theme => theme ? root.dataset.theme = theme : delete root.dataset.theme;
const form = (iso, zone, ...parts) => new Date(iso).toLocaleString("en-GB", { ...Object.fromEntries(parts.map(p => [p, p === "weekday" || p === "month" ? "short" : p === "year" ? "numeric" : "2-digit"]).map(([p, v]) => p === "millisecond" ? ["fractionalSecondDigits", 3] : [p, v])), ...zone === "UTC" && { timeZone: "UTC" } });
const clocks = zone => {
  $$("time").forEach(t => {
    t.dataset.text ??= t.textContent;
    const day = t.matches(".abs") ? [] : ["day", "month"];
    t.textContent = zone === "relative" && !t.matches(".abs") ? t.dataset.text : form(t.dateTime, zone, ...day, "hour", "minute", "second");
    t.title = ["", "UTC"].map(z => form(t.dateTime, z, "weekday", "day", "month", "year", "hour", "minute", "second") + (z ? " UTC" : "")).join(" · ");
  });
  $$("[data-at]").forEach(t => t.textContent = form(t.dataset.at, zone, ...t.dataset.parts.split(" ")));
};
const setZone = zone => { kept.set("zone", zone); $$("[data-do=times]").forEach(b => b.textContent = "times: " + zone); clocks(zone); };
paint(kept.get("theme"));
setZone(kept.get("zone") || "relative");

// The timeline: the tracks get wider inside a box that scrolls; the labels stay.
const tl = $(".tl:not(.alone)"), over = $(".over");
const lab = () => $(".lab", tl).offsetWidth * (getComputedStyle($(".lab", tl)).position === "sticky");
const zoomTo = (start, end) => {
  const width = Math.min(1, Math.max(end - start, .005)), view = tl.clientWidth - lab();
  $(".tl-in").style.setProperty("--zoom", 1 / width);
  tl.scrollLeft = start * view / width;
  show();
};
const range = () => { const all = tl.scrollWidth - lab(), view = tl.clientWidth - lab(); return [tl.scrollLeft / all, Math.min(1, (tl.scrollLeft + view) / all)]; };
const show = () => { const [a, b] = range(), win = $(".win rect"); win?.setAttribute("x", `${a * 100}%`); win?.setAttribute("width", `${(b - a) * 100}%`); clearTimeout(asking); asking = setTimeout(narrow, 200); };
const zoom = factor => { const [a, b] = range(), mid = (a + b) / 2, half = (b - a) / 2 / factor; zoomTo(Math.max(0, Math.min(mid - half, 1 - 2 * half)), Math.max(0, mid - half) + 2 * half); };
// Where rows stand for several operations, those of the part that is shown are folded anew by the server.
let asking = 0, shown = "";
const view = () => { const [a, b] = range(); return b - a > .995 ? "" : `${a.toFixed(4)},${b.toFixed(4)}`; };
const narrow = async () => {
  const wanted = view(), address = new URL(location.href);
  if (!tl.hasAttribute("data-folds") || wanted === shown) return;
  shown = wanted;
  ["from", "to", "view"].forEach(key => address.searchParams.delete(key));
  if (wanted) address.searchParams.set("view", wanted);
  const fresh = await pageAt(address);
  if (!fresh || wanted !== shown) return;
  const open = $$(".tl-in > details[open]").map(d => d.id);
  $$(".tl-in > .row").forEach(row => row.remove());
  $$(".tl-in > .row", fresh).forEach(row => { row.open = open.includes(row.id); $(".tl-in").append(document.importNode(row, true)); });
  $("[data-part=extent]").innerHTML = $("[data-part=extent]", fresh).innerHTML;
  $$(".tl-in [data-part]", fresh).forEach(part => texts.set(part.dataset.part, part.innerHTML));
  address.searchParams.delete("view");
  new URLSearchParams($(".tl", fresh).dataset.address).forEach((value, key) => address.searchParams.set(key, value));
  history.replaceState(null, "", address);
  ["from", "to"].forEach(key => {
    const value = address.searchParams.get(key) ?? "";
    $$("main a[href^='?']").forEach(a => { const to = new URL(a.href); if (value) to.searchParams.set(key, value); else to.searchParams.delete(key); a.setAttribute("href", to.search || "?"); });
    $$(`main form [name=${key}]`).forEach(field => field.value = value);
  });
};
// The members of a group come page by page, into the row that is open.
const turn = async (box, address, focus) => {
  const found = $("[data-members]", await pageAt(address) ?? document.createElement("p"));
  if (!found) return;
  box.dataset.shown = address;
  box.innerHTML = found.innerHTML;
  if (focus) $("a[aria-current]", box)?.focus();
  clocks(kept.get("zone") || "relative");
};
document.addEventListener("click", e => {
  const link = e.target.closest?.("[data-inside] a[data-page]");
  if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault();
  turn(link.closest("[data-inside]"), link.href, true);
});
// A child opens in place, drawn where it stands in the time of its parent.
document.addEventListener("toggle", async e => {
  const box = e.target.open && $(":scope > [data-child]", e.target);
  if (!box || box.dataset.read) return;
  box.dataset.read = "true";
  const answer = await fetch(box.dataset.child);
  if (answer.ok) box.innerHTML = await answer.text(); else delete box.dataset.read;
}, true);
if (tl) {
  tl.addEventListener("scroll", show, { passive: true });
  tl.addEventListener("wheel", e => { if (e.ctrlKey) { e.preventDefault(); zoom(e.deltaY < 0 ? 1.4 : 1 / 1.4); } }, { passive: false });
  let from = null;
  const at = e => Math.min(1, Math.max(0, (e.clientX - over.getBoundingClientRect().left) / over.clientWidth));
  over?.addEventListener("pointerdown", e => { from = at(e); over.setPointerCapture(e.pointerId); });
  over?.addEventListener("pointermove", e => { if (from !== null && Math.abs(at(e) - from) > .01) zoomTo(Math.min(from, at(e)), Math.max(from, at(e))); });
  over?.addEventListener("pointerup", () => from = null);
  over?.addEventListener("dblclick", () => zoomTo(0, 1));
  if (tl.dataset.window) { const [a, b] = tl.dataset.window.split(" ").map(x => x / 100); zoomTo(a, b); shown = view(); }
}

// A list: what is selected decides which actions there are, and for how many.
const boxes = () => $$("[data-list] tbody input[type=checkbox]");
const count = () => {
  const on = boxes().filter(b => b.checked), bulk = $("[data-bulk]");
  boxes().forEach(b => b.closest("tr").classList.toggle("picked", b.checked));
  if (!bulk) return;
  bulk.hidden = !on.length;
  $("[data-n]", bulk).textContent = `${on.length} selected`;
  $$("[data-act]", bulk).forEach(b => { const n = on.filter(o => o.dataset.can.split(" ").includes(b.dataset.act)).length; $("i", b).textContent = n; b.disabled = !n; });
};
let last = null;
document.addEventListener("click", e => {
  if (!e.target.matches?.("[data-list] tbody input")) return;
  const all = boxes(), [a, b] = [all.indexOf(last), all.indexOf(e.target)].sort((x, y) => x - y);
  if (e.shiftKey && last) all.slice(a, b + 1).forEach(x => x.checked = e.target.checked);
  last = e.target; count();
});
const rows = () => $$("[data-list] tbody tr, .evs > li:not([hidden])");
const move = step => { const all = rows(), to = all[Math.max(0, Math.min(all.length - 1, all.findIndex(x => x.classList.contains("at")) + step))]; if (!to) return; all.forEach(x => x.classList.toggle("at", x === to)); to.scrollIntoView({ block: "nearest" }); $("a, summary", to)?.focus(); };

// What buttons and keys do.
const deeds = {
  times: () => setZone(zones[(zones.indexOf(kept.get("zone") || "relative") + 1) % 3]),
  theme: () => { const next = themes[(themes.indexOf(root.dataset.theme ?? "") + 1) % 3]; kept.set("theme", next); paint(next); },
  in: () => tl && zoom(1.6), out: () => tl && zoom(1 / 1.6), fit: () => tl && zoomTo(0, 1),
  all: b => { boxes().forEach(x => x.checked = b.checked); count(); }, none: () => { boxes().forEach(x => x.checked = false); count(); },
  dialog: b => $("#" + b.dataset.for)?.showModal(), shut: b => b.closest("dialog").close(),
  copy: async b => { await navigator.clipboard?.writeText(b.dataset.copy ?? b.closest(".pay, .cmd, .tb, li")?.innerText ?? location.href); if (b.dataset.copy) b.textContent = "Copied"; },
  open: () => $("tr.at th a")?.click(), pick: () => $("tr.at input")?.click(), find: () => $("[data-key='/']")?.focus(),
  idle: () => $("[data-scale] a:not([aria-current])")?.click(), help: () => $("#keys").showModal(), fresh: () => $("[data-key=r]")?.click(),
  wrong: () => { const all = $$(".evs .failed, .row > .lab .failed").map(x => x.closest("li, .row")), next = all[(all.findIndex(x => x.classList.contains("at")) + 1) % all.length]; all.forEach(x => x.classList.toggle("at", x === next)); next?.scrollIntoView({ block: "center" }); },
};
const pages = { e: "executions", w: "workflows", s: "schedules", l: "workers", i: "limits", d: "doctor" };
const keys = { z: "times", "+": "in", "=": "in", "-": "out", 0: "fit", "/": "find", x: "pick", o: "open", i: "idle", f: "wrong", r: "fresh", "?": "help" };
let go = 0;
document.addEventListener("click", e => { const b = e.target.closest?.("[data-do]"); if (b && deeds[b.dataset.do]) deeds[b.dataset.do](b); });
document.addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input:not([type=checkbox]), textarea, select") || $("dialog[open]:not(.flat)")) return;
  if (e.key === "g") go = e.timeStamp; else if (e.timeStamp - go < 1000 && pages[e.key]) location.href = `${document.body.dataset.root}/${pages[e.key]}`;
  else if (e.key === "j" || e.key === "k") move(e.key === "j" ? 1 : -1); else if (keys[e.key]) deeds[keys[e.key]](); else return;
  e.preventDefault();
});
$$("[data-filter]").forEach(f => f.addEventListener("input", () => $$(f.dataset.filter).forEach(x => x.hidden = !x.textContent.toLowerCase().includes(f.value.toLowerCase()))));
count();

// An event and the row of what it is about are marked together, and the event stands in the address.
document.addEventListener("click", e => {
  const line = e.target.closest?.(".evs > li"), row = e.target.closest?.(".tl-in .row > .lab, .tl-in .row > summary")?.parentElement;
  if (!line && !row) return;
  const other = line ? document.getElementById(line.dataset.op ?? "") : $(`.evs > li[data-op="${CSS.escape(row.id)}"]`);
  $$(".evs > li.at, .tl-in .row.at").forEach(x => x.classList.remove("at"));
  [line ?? row, other].forEach(x => x?.classList.add("at"));
  if (line) history.replaceState(null, "", "#" + line.id); else other?.scrollIntoView({ block: "nearest" });
});

// Streams: of one that is open, what is written to it comes as text, behind what is there.
const most = 500000;
const tail = d => {
  if (!d.open || d.source || d.ended) { if (!d.open) { d.source?.close(); d.source = null; } return; }
  const pre = $("pre", d), state = $("[data-state]", d), more = $("a", d);
  if (more) return;
  const source = d.source = new EventSource(`${d.dataset.stream}&after=${d.dataset.after}`);
  source.addEventListener("open", () => state.textContent = "live");
  source.addEventListener("error", () => state.textContent = "not live");
  source.addEventListener("message", e => {
    const low = pre.scrollTop + pre.clientHeight > pre.scrollHeight - 20;
    pre.append(JSON.parse(e.data));
    if (pre.textContent.length > most) pre.textContent = "… " + pre.textContent.slice(-most / 2);
    d.dataset.after = e.lastEventId;
    if (low) pre.scrollTop = pre.scrollHeight;
  });
  source.addEventListener("over", e => { source.close(); d.source = null; d.ended = true; state.textContent = JSON.parse(e.data) || "at its end"; });
};
const follow = d => { if (!window.EventSource) return; d.addEventListener("toggle", () => tail(d)); tail(d); };
$$("[data-stream]").forEach(follow);

// Live: the server says that something has changed, and the parts that differ are taken from the page as
// it is now. What is open or selected stays so, and nothing moves: a list says that there is more, and waits.
const live = document.body.dataset.live, mark = $("[data-mark]");
const texts = new Map($$("[data-part]").map(part => [part.dataset.part, part.innerHTML]));
const refresh = async () => {
  const fresh = await pageAt(location.href);
  if (!fresh) return false;
  const list = $("[data-fresh]");
  if (list) {
    const here = $$("[data-list] tr[id]").map(r => r.id), there = $$("[data-list] tr[id]", fresh).map(r => r.id), more = there.filter(id => !here.includes(id)).length;
    list.hidden = here.join() === there.join();
    $("span", list).textContent = more ? `${more} new: show ${more > 1 ? "them" : "it"}` : "This list has changed: show it";
  }
  $$("[data-part]", fresh).forEach(part => {
    const name = part.dataset.part, html = part.innerHTML, here = $$("[data-part]").find(p => p.dataset.part === name);
    if (here && texts.get(name) !== html && !here.contains(document.activeElement)) {
      const open = $$("details[open]", here).map(d => d.closest("[id]")?.id), picked = $$("input:checked", here).map(b => b.value);
      here.className = part.className;
      here.innerHTML = html;
      $$("input[type=checkbox]", here).forEach(b => b.checked = picked.includes(b.value));
      open.forEach(id => id && $(`[id="${CSS.escape(id)}"] details`, here)?.setAttribute("open", ""));
    } else if (!here && part.matches(".tl-in > .row")) $(".tl-in")?.append(document.importNode(part, true));
    texts.set(name, html);
  });
  $$("[data-streams] > [data-stream]", fresh).forEach(d => { if (!$$("[data-stream]").some(here => here.dataset.stream === d.dataset.stream)) { const made = document.importNode(d, true); $("[data-streams]").append(made); follow(made); } });
  $$("details[open] > [data-shown]").forEach(box => turn(box, box.dataset.shown));
  count();
  document.title = fresh.title;
  $("link[rel=icon]").href = $("link[rel=icon]", fresh).getAttribute("href");
  clocks(kept.get("zone") || "relative");
  return true;
};
// Where the stream of changes has ended, the page asks every 10 s; what it shows stays, and its time is told.
if (live && window.EventSource) {
  const source = new EventSource(live);
  let asking = 0, seen = new Date();
  const say = (text, on) => { mark.hidden = false; mark.textContent = text; mark.classList.toggle("off", !on); };
  const ask = async () => {
    const found = await refresh();
    if (found) seen = new Date();
    if (asking) say(found ? "every 10 s" : `not live: of ${form(seen, kept.get("zone"), "hour", "minute", "second")}`, false);
  };
  const rest = () => { clearInterval(asking); asking = 0; };
  source.addEventListener("open", () => { rest(); say("live", true); });
  source.addEventListener("error", () => { if (!asking) { asking = setInterval(ask, 10000); say("every 10 s", false); } });
  source.addEventListener("changed", ask);
  source.addEventListener("ended", () => { source.close(); rest(); ask().then(() => mark.hidden = true); });
  source.addEventListener("gone", () => { source.close(); rest(); say("deleted", false); });
}
