/* One room. Whatever came from another person is put into the page with textContent, never as markup. */
"use strict";

const MAX_SHOWN = 500;
const TYPING_SHOWN = 3000;
const TYPING_EVERY = 2000;

const byId = (id) => document.getElementById(id);
const room = byId("room").dataset.room;
const messages = byId("messages");
const text = byId("text");
const ask = byId("ask");

const people = new Map(); // name by connection id
const waiting = new Map(); // what I wrote and has not come back yet: its element by number
const typing = new Map(); // timer by connection id
let myId = "";
let myName = localStorage.getItem("name") || "";
let ws = null;
let written = 0;
let lastTyping = 0;

/* ---- Elements ---- */

function element(tag, className, content) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content;
  return node;
}

/** One of twelve colours, the same for the same name. */
function colourOf(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return "c" + (hash % 12);
}

function badge(name) {
  const node = element("span", "badge " + colourOf(name), [...name][0].toUpperCase());
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** Adds a line at the end, and follows it unless the reader has scrolled up. */
function append(node) {
  const follows = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 60;
  messages.append(node);
  while (messages.childElementCount > MAX_SHOWN) messages.firstElementChild.remove();
  if (follows) messages.scrollTop = messages.scrollHeight;
}

function note(content) {
  append(element("li", "note", content));
}

function bubble({ id, name, text, at }) {
  const mine = id === myId || id === "me";
  const previous = messages.lastElementChild;
  const goesOn = previous && previous.dataset.from === id;
  const item = element("li", "message" + (mine ? " mine" : "") + (goesOn ? " goes-on" : ""));
  item.dataset.from = id;
  const head = element("p", "who");
  head.append(element("b", "", name), " ");
  const time = element("time", "", at ? clock(at) : "");
  if (at) time.dateTime = at;
  head.append(time);
  const body = element("div", "bubble");
  body.append(head, element("p", "text", text));
  item.append(badge(name), body);
  return item;
}

function clock(at) {
  return new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function showPeople(online) {
  if (online !== undefined) byId("online").textContent = online;
  byId("people").replaceChildren(...[...people].map(([id, name]) => {
    const item = element("li", id === myId ? "me" : "");
    item.append(badge(name), element("span", "", name));
    return item;
  }));
}

function showStatus(status, content) {
  byId("status").dataset.status = status;
  byId("status").textContent = content;
}

/* ---- Typing ---- */

function showTyping() {
  const names = [...typing.keys()].map((id) => people.get(id)).filter(Boolean);
  let content = "";
  if (names.length === 1) content = names[0] + " is typing…";
  else if (names.length === 2) content = names.join(" and ") + " are typing…";
  else if (names.length > 2) content = "Several people are typing…";
  byId("typing").textContent = content;
}

function setTyping(id, is) {
  clearTimeout(typing.get(id));
  typing.delete(id);
  if (is) typing.set(id, setTimeout(() => setTyping(id, false), TYPING_SHOWN));
  showTyping();
}

/* ---- What the server says ---- */

const on = {
  welcome({ id, name, online, people: list }) {
    myId = id;
    people.clear();
    for (const person of list) people.set(person.id, person.name);
    people.set(id, name);
    for (const id of [...typing.keys()]) setTyping(id, false);
    showPeople(online);
  },
  joined({ id, name, online }) {
    people.set(id, name);
    showPeople(online);
    note(name + " came in");
  },
  renamed({ id, name, earlier }) {
    people.set(id, name);
    showPeople();
    note(earlier + " is now called " + name);
  },
  left({ id, name, online }) {
    people.delete(id);
    setTyping(id, false);
    showPeople(online);
    note(name + " left");
  },
  said(message) {
    setTyping(message.id, false);
    const mine = message.id === myId && waiting.get(message.ref);
    if (!mine) return append(bubble(message));
    waiting.delete(message.ref);
    mine.classList.remove("waiting", "unsure");
    mine.dataset.from = message.id;
    const time = mine.querySelector("time");
    time.dateTime = message.at;
    time.textContent = clock(message.at);
  },
  typing({ id, name }) {
    people.set(id, name);
    setTyping(id, true);
  },
  problem({ text, ref }) {
    const mine = waiting.get(ref);
    waiting.delete(ref);
    if (mine) mark(mine, "refused");
    note(text);
  },
};

/* ---- The connection ---- */

function connect() {
  ws = frond.ws("/ws/room/" + encodeURIComponent(room));
  // Before anything that was written meanwhile: frond sends that after the open listeners.
  ws.on("open", () => {
    ws.send({ type: "hello", name: myName });
    showStatus("open", "Connected");
  });
  ws.on("message", (data) => {
    const message = JSON.parse(data);
    if (Object.hasOwn(on, message.type)) on[message.type](message);
  });
  ws.on("close", () => {
    showStatus("lost", "Connection lost");
    // These were on their way; whether they arrived, nobody can tell.
    for (const item of waiting.values()) mark(item, "unsure");
  });
  ws.on("reconnect", (attempt) => showStatus("lost", "Reconnecting, attempt " + attempt));
  ws.on("reconnect_failed", () => {
    showStatus("failed", "Not connected");
    for (const item of waiting.values()) if (item.classList.contains("waiting")) mark(item, "refused");
    waiting.clear();
    const item = element("li", "note", "The server cannot be reached. ");
    const again = element("button", "plain", "Try again");
    again.type = "button";
    again.addEventListener("click", () => { item.remove(); showStatus("connecting", "Connecting…"); connect(); });
    item.append(again);
    append(item);
  });
}

function say(content) {
  written += 1;
  const item = bubble({ id: myId || "me", name: myName, text: content });
  item.classList.add("waiting");
  append(item);
  messages.scrollTop = messages.scrollHeight;
  if (ws.send({ type: "say", text: content, ref: written })) waiting.set(written, item);
  else mark(item, "refused");
}

/** What became of a message of mine: "waiting", "unsure" or "refused". */
function mark(item, state) {
  item.classList.remove("waiting", "unsure");
  item.classList.add(state);
}

/* ---- Writing ---- */

function fit() {
  text.rows = 1;
  while (text.rows < 6 && text.scrollHeight > text.clientHeight) text.rows += 1;
}

byId("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = text.value.trim();
  text.focus();
  if (!content || !ws) return;
  say(content);
  text.value = "";
  lastTyping = 0;
  fit();
});

text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("write").requestSubmit();
});

text.addEventListener("input", () => {
  fit();
  // News of typing is worth nothing later, so it does not go into the buffer.
  if (!ws || ws.status !== "open" || !text.value || Date.now() - lastTyping < TYPING_EVERY) return;
  lastTyping = Date.now();
  ws.send({ type: "typing" });
});

/* ---- The name ---- */

byId("rename").addEventListener("click", () => {
  byId("ask-name").value = myName;
  ask.showModal();
});

ask.addEventListener("close", () => {
  const name = byId("ask-name").value.trim();
  if (!name) return myName || ask.showModal();
  if (name === myName && ws) return;
  myName = name;
  localStorage.setItem("name", name);
  if (!ws) connect();
  else if (ws.status === "open") ws.send({ type: "hello", name });
  text.focus();
});

if (myName) connect();
else ask.showModal();
