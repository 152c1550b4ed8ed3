/** A frame as it came. What a client does not know, it ignores. */
export interface Frame<Data = any, Name extends string = string> {
  event: Name;
  data: Data;
  /** Absent where an emission names several rooms. */
  room?: string;
  /** The place after this frame. Opaque; absent on what cannot be resumed. */
  at?: string;
  /** How many earlier events of the same key this one stands for. */
  skipped?: number;
}

/** What the server says of a connection that is live. */
export interface Welcome {
  connection: string;
  subject: string;
  roles: string[];
  /** All rooms of the connection, those that were asked for included. */
  rooms: string[];
  cursor: string;
  /**
   * Whether what was missed follows, with nothing between, missing or twice. `null` where no
   * cursor was sent: read a snapshot. `false`: a gap follows at once.
   */
  recovered: boolean | null;
  heartbeatMs: number;
}

/** Something is missing here: read the snapshot anew, and stay. */
export interface Gap {
  reason: "expired" | "limit" | "reset" | "overflow" | (string & {});
  rooms: string[];
}

/** What a close frame, or the client itself, says of why. */
export interface Reason {
  /** The server's, such as `slow`; or `silent`, `offline`, `hidden`, `overwhelmed`: noticed here. */
  name?: string;
  /** Come back at a random moment within. */
  withinMs?: number;
  /** Come back after it. */
  afterMs?: number;
}

export type State =
  | { name: "connecting" }
  | { name: "live"; recovered: boolean | null }
  /** `retryAt`: milliseconds since 1970; absent while the page is out of sight for good or for now. */
  | { name: "away"; code: number; reason: Reason; retryAt?: number }
  /** Before `connect()` without a code; otherwise for good, or until `connect()` is called. */
  | { name: "ended"; code?: number; reason?: Reason };

/** What the server refused, or could not be asked. */
export class FanoutError extends Error {
  constructor(code: string, message?: string, room?: string);
  /**
   * The server's: `bad_frame`, `bad_room`, `forbidden`, `too_many_rooms`, `rate_limited`,
   * `bad_token`. The client's: `disconnected` (whether it was done is not known, or it was not
   * sent), `closed` (it ended for good), `unsupported` (not over Server-Sent Events),
   * `unsubscribed` (a renewed token has no right to the room).
   */
  readonly code: string;
  readonly room?: string;
}

export interface Options {
  /** Default `"ws"`. */
  transport?: "ws" | "sse";
  /** Relative to the page, `http` or `ws`. Default `/ws`, or `/events` over Server-Sent Events. */
  url?: string | URL;
  /**
   * The token to show over WebSocket, asked for before each connection and by `renew()`. Left
   * out, or nothing returned: none is shown, and a cookie counts. `code` is why the last
   * connection ended; 4002 asks for another token than before. Failing is taken for a cut.
   */
  token?(why: { code?: number }): string | null | undefined | Promise<string | null | undefined>;
  /** A ticket that is good once, for `?ticket=`, asked for before each connection. */
  ticket?(): string | null | undefined | Promise<string | null | undefined>;
  /** Rooms beyond those that the identity is in by itself. */
  rooms?: Iterable<string>;
  /** What has been seen already, from a snapshot. Comes before what is stored. */
  cursor?: string | null;
  /**
   * Where in `sessionStorage` the cursor is kept, so that a reload goes on. Name it after the
   * person as well, or forget it on logging out: `client.cursor = null`.
   */
  storageKey?: string;
  /** Longest wait of the back-off, unless the server asks for longer. Default 30,000. */
  maxBackoffMs?: number;
  /** Send cookies to another origin over Server-Sent Events. */
  withCredentials?: boolean;
  /** Events that `"*"` is to get over Server-Sent Events besides those with handlers. */
  events?: Iterable<string>;
  onState?(state: State): void;
  /** Called in the order of the frames, and waited for, as is `onGap`. */
  onWelcome?(welcome: Welcome): unknown;
  onGap?(gap: Gap): unknown;
  /**
   * What went wrong and has no promise to say so: a handler threw or rejected (with its frame),
   * `token` or `ticket` failed, the server refused something. Default `console.error`.
   */
  onError?(error: unknown, frame?: Frame): void;
}

export type Handler<Data, Name extends string = string> = (data: Data, frame: Frame<Data, Name>) => unknown;

/**
 * One connection that comes back by itself.
 *
 * Handlers run one frame after the other; one that returns a promise is waited for, and later
 * frames with it. Only then does the frame count as seen. A handler that throws is reported to
 * `onError`, and its frame counts as seen all the same: it is not sent again.
 */
export class Fanout<Events = Record<string, any>> {
  constructor(options?: Options);

  readonly state: State;

  /**
   * Everything before has been seen. Opaque; `""` where nothing is known. Setting it takes a
   * snapshot's cursor instead of what was known: before `connect()`, or while `onGap` or
   * `onWelcome` is waited for. At other times, events that came since the snapshot was taken
   * may come twice. `null` forgets.
   */
  get cursor(): string;
  set cursor(cursor: string | null | undefined);

  /** Connects now: at first, after the end, or instead of waiting on. */
  connect(): void;

  /** Ends it. No callback and no handler is called any more. */
  close(): void;

  /** Calls `handler` for each such event, `"*"` for all. Returns what undoes it. */
  on<Name extends keyof Events & string>(event: Name, handler: Handler<Events[Name], Name>): () => void;
  on(event: "*", handler: Handler<Events[keyof Events]>): () => void;

  off<Name extends keyof Events & string>(event: Name, handler: Handler<Events[Name], Name>): void;
  off(event: "*", handler: Handler<Events[keyof Events]>): void;

  /**
   * Joins a room, now and after each reconnect, from this moment on. Asked while away, it waits.
   * @throws {FanoutError} as a rejection
   */
  subscribe(room: string): Promise<{ room: string }>;
  unsubscribe(room: string): Promise<{ room: string }>;

  /**
   * Sends an event of the application's; fulfilled once it was taken. Not repeated: where the
   * connection ends before the answer, whether it was taken is not known.
   * @throws {FanoutError} as a rejection
   */
  send(event: string, data?: unknown, room?: string): Promise<unknown>;

  /** Asks for a token and shows it on the live connection. */
  renew(): Promise<{ subject: string; roles: string[]; rooms: string[]; expiresAt: string | null }>;
}

/** Milliseconds until the next try after a close, or `null`: do not come back. */
export function comeBackAfter(code: number, reason: Reason, attempt: number, maxBackoffMs?: number): number | null;
