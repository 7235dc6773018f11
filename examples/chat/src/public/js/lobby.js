/* The page to choose a name and a room on, and to see which rooms are open. */
"use strict";

const form = document.getElementById("enter");
const nameField = document.getElementById("name");
const roomField = document.getElementById("room");
const list = document.getElementById("rooms");

nameField.value = localStorage.getItem("name") || "";
if (nameField.value) roomField.focus();

// The browser resolves "." and ".." in an address away, so no room of such a name can be reached.
roomField.addEventListener("input", () => {
  const dots = /^\s*\.{1,2}\s*$/.test(roomField.value);
  roomField.setCustomValidity(dots ? "A room cannot be called by dots alone." : "");
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const room = roomField.value.trim();
  const name = nameField.value.trim();
  if (!room || !name) return;
  localStorage.setItem("name", name);
  location.href = "/room/" + encodeURIComponent(room);
});

list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  roomField.value = button.dataset.room;
  if (form.reportValidity()) form.requestSubmit();
});

function show(rooms) {
  list.replaceChildren(...rooms.map(({ name, people }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.room = name;
    const title = document.createElement("b");
    title.textContent = name;
    const count = document.createElement("span");
    count.textContent = people;
    button.append(title, " ", count);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  document.getElementById("no-rooms").hidden = rooms.length > 0;
}

frond.ws("/ws/lobby", { maxReconnectAttempts: Infinity }).on("message", (data) => {
  const message = JSON.parse(data);
  if (message.type === "rooms") show(message.rooms);
});
