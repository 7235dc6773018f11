import { Router } from "tina4-nodejs";

const zones: Record<string, string> = { utc: "UTC", tokyo: "Asia/Tokyo", lima: "America/Lima" };

Router.websocket("/ws/clock/{city}", (connection, event) => {
  const zone = Object.hasOwn(zones, connection.params.city) && zones[connection.params.city];
  if (event === "open" && !zone) return connection.close(4404, `The cities are ${Object.keys(zones).join(", ")}.`);
  if (event === "open" && zone) connection.send(timeIn(zone));
});

// One push a city, however many are watching; where nobody is, it reaches nobody.
setInterval(() => {
  for (const [city, zone] of Object.entries(zones)) Router.pushToWebSocket(`/ws/clock/${city}`, timeIn(zone));
}, 1000);

function timeIn(timeZone: string): string {
  return new Date().toLocaleTimeString("en-GB", { timeZone });
}
