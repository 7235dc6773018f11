/** What a visitor sends, checked. Everything here comes from strangers. */

export const MAX_NAME = 32;
export const MAX_ROOM = 64;
export const MAX_TEXT = 2000;
/** Characters of one WebSocket message; the longest text fits in any spelling of JSON. */
export const MAX_MESSAGE = 16 * 1024;

export type Input =
  | { type: "hello"; name: string }
  | { type: "say"; text: string; ref: number }
  | { type: "typing" };

/** Checks one message. Returns a sentence for the sender where it is no valid one. */
export function readInput(data: string): Input | string {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(data);
  } catch {
    return "That was not JSON.";
  }
  switch (value?.type) {
    case "hello": {
      const name = tidy(value.name);
      if (name === "" || length(name) > MAX_NAME) return `A name has 1 to ${MAX_NAME} characters.`;
      return { type: "hello", name };
    }
    case "say": {
      const text = typeof value.text === "string" ? value.text.trim() : "";
      if (text === "" || length(text) > MAX_TEXT) return `A message has 1 to ${MAX_TEXT} characters.`;
      return { type: "say", text, ref: Number(value.ref) || 0 };
    }
    case "typing":
      return { type: "typing" };
    default:
      return 'The type of a message is "hello", "say" or "typing".';
  }
}

/** One line without control characters and without those that turn the direction of the text around them. */
function tidy(text: unknown): string {
  if (typeof text !== "string") return "";
  return text.replace(/[\p{Cc}\u202A-\u202E\u2066-\u2069]/gu, " ").replace(/\s+/g, " ").trim();
}

/** Length in characters as people count them, nearly: an emoji outside the basic plane is one. */
export function length(text: string): number {
  return [...text].length;
}

/** Lets `burst` messages through at once and one more every `interval` milliseconds. */
export class Pace {
  private left: number;
  private at = performance.now();

  constructor(private readonly burst: number, private readonly interval: number) {
    this.left = burst;
  }

  /** Whether one more message is within the pace. */
  take(): boolean {
    const now = performance.now();
    this.left = Math.min(this.burst, this.left + (now - this.at) / this.interval);
    this.at = now;
    if (this.left < 1) return false;
    this.left -= 1;
    return true;
  }
}
