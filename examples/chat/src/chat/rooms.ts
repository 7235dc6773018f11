/** Who is in which room of this process. A room exists while somebody is in it. */

/** What the lobby shows of a room. */
export interface RoomSummary {
  name: string;
  people: number;
}

interface Room {
  name: string;
  /** Names by connection id; the order of arrival. */
  people: Map<string, string>;
}

const rooms = new Map<string, Room>();

/** Puts a person into the room of that path, under a new name if already there. Returns the earlier name. */
export function enter(path: string, roomName: string, id: string, name: string): string | undefined {
  let room = rooms.get(path);
  if (!room) rooms.set(path, (room = { name: roomName, people: new Map() }));
  const earlier = room.people.get(id);
  room.people.set(id, name);
  return earlier;
}

/** Takes a person out of the room of that path. Returns their name, `undefined` for one who never gave any. */
export function leave(path: string, id: string): string | undefined {
  const room = rooms.get(path);
  const name = room?.people.get(id);
  room?.people.delete(id);
  if (room?.people.size === 0) rooms.delete(path);
  return name;
}

export function nameOf(path: string, id: string): string | undefined {
  return rooms.get(path)?.people.get(id);
}

/** At most `limit` people of a room, in the order they came. */
export function peopleIn(path: string, limit: number): { id: string; name: string }[] {
  const people = rooms.get(path)?.people ?? new Map<string, string>();
  const list = [];
  for (const [id, name] of people) {
    if (list.length === limit) break;
    list.push({ id, name });
  }
  return list;
}

/** The busiest rooms, at most `limit` of them. */
export function busiest(limit: number): RoomSummary[] {
  return [...rooms.values()]
    .map((room) => ({ name: room.name, people: room.people.size }))
    .sort((a, b) => b.people - a.people || a.name.localeCompare(b.name))
    .slice(0, limit);
}
