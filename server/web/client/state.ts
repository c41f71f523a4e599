// What a transaction shows: immutable values, each a whole state of affairs.

/** A value as JSON has it. */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [key: string]: Value }

export type Role = "party" | "host" | "viewer" | "auditor"

/** A candidate value of a field. */
export interface Option {
  readonly name: string
  readonly value: Value
  /** Where the value comes from, "" if it was not said. */
  readonly source: string
}

/** A disputed datum, as the host wrote it. */
export interface Field {
  readonly name: string
  readonly label: string
  readonly required: boolean
  /** By name, in the order of names. */
  readonly options: readonly Option[]
}

/** One user's choice for a field. */
export interface Pick {
  /** Names the pick, the same on every replica: Automerge's operation id. */
  readonly id: string
  readonly value: Value
  /** The user who picked. */
  readonly by: string
  /** Milliseconds since 1970 by the picker's clock. */
  readonly at: number
  /** The option that was picked; null if it was a value of the picker's own. */
  readonly option: string | null
}

/** What a field holds now. */
export interface Selection {
  readonly field: string
  /** The pick that Automerge chose, the same one for everybody. */
  readonly winner: Pick
  /** All live picks, the winner first. */
  readonly picks: readonly Pick[]
  /** Whether there is more than one live pick: somebody must pick again. */
  readonly contested: boolean
}

/** What the document says at some heads. */
export interface View {
  /** Hashes of the changes that the view is of, sorted. */
  readonly heads: readonly string[]
  /** By name. */
  readonly fields: readonly Field[]
  /** By field; a field for which nothing is picked is not there. */
  readonly selections: Readonly<Record<string, Selection>>
  /** Fields with more than one live pick, sorted. */
  readonly contested: readonly string[]
  /** Required fields for which nothing is picked, sorted. */
  readonly missing: readonly string[]
}

/** The change that ended a readiness. */
export interface Because {
  /** Null if the change did nothing to a field, or it is not known. */
  readonly field: string | null
  readonly user: string
  readonly change: string
}

/** A user who is here, however many tabs the user has open. */
export interface Participant {
  readonly user: string
  /** "" if the user gave none. */
  readonly name: string
  readonly role: Role
  readonly state: "online" | "reconnecting"
  readonly connections: number
  /** Ready for the heads that the server has. */
  readonly ready: boolean
  /** The field where the user is. */
  readonly focus: string | null
  /** When the user came, ms by the server's clock. */
  readonly since: number
  /** The round trip between the user and the server in ms, null if not known. */
  readonly rtt: number | null
  /** Why the user is not ready any more. */
  readonly lapsed: Because | null
}

/** An agreement, as the server keeps it. */
export interface Resolution {
  /** Counts the transaction's agreements from 1. */
  readonly n: number
  readonly heads: readonly string[]
  readonly parties: readonly string[]
  readonly quorum: number
  /** ms by the server's clock. */
  readonly at: number
  /** The server's signed word on it: keep it, and it can be proved. */
  readonly checkpoint: string
}

/** A readiness that a change undid. */
export interface Lapse {
  /** Counts from 1 since the transaction was opened here. */
  readonly n: number
  readonly user: string
  /** Null if the change is not known. */
  readonly because: Because | null
}

/** What a change, or a part of it, did to one field. */
export interface Event {
  readonly kind: "picked" | "withdrawn" | "field-set" | "field-removed"
  readonly field: string
  /** Of "picked". */
  readonly pick: Pick | null
  /** In whose name the author picks, "" if the author has not picked. */
  readonly user: string
  /** ms by the author's clock; whole seconds but for picks. */
  readonly at: number
  /** The change's hash: at([change]) shows the transaction as its author saw it. */
  readonly change: string
  /** The operation that did it, which orders events. */
  readonly op: string
}

/** Changes that the server refused. They are gone from the document here. */
export interface Rejection {
  /** Counts from 1 since the transaction was opened here. */
  readonly n: number
  /** One of the codes in PROTOCOL.md. */
  readonly code: string
  /** A sentence for people. */
  readonly message: string
  readonly changes: readonly string[]
  /** What these changes did, and what could not be made again without them. */
  readonly lost: readonly Event[]
  /**
   * Changes that other people made and that are gone here with these: a server that
   * was restored from an older copy takes each back from its author only. They come
   * back when those who made them connect.
   */
  readonly others: readonly string[]
}

/** Why the user cannot confirm just now. */
export interface Why {
  readonly code: "loading" | "offline" | "refused" | "no-transaction" | "not-a-party" | "contested" | "incomplete"
  /** A sentence for people. */
  readonly message: string
  readonly fields: readonly string[]
}

export interface Refusal {
  readonly code: string
  readonly message: string
  readonly fields: readonly string[]
}

export interface Readiness {
  /** The server knows that the user confirms what is shown. */
  readonly ready: boolean
  /** It was asked for, and the server has not said yes yet. */
  readonly pending: boolean
  /** Whether ready() can work now. */
  readonly can: boolean
  /** Why not. */
  readonly why: Why | null
  /** Why the last ready() came to nothing, until the next. */
  readonly refused: Refusal | null
}

export interface Connection {
  /**
   * - connecting: the first try, or one that reconnect() asked for
   * - online: the server has let us in
   * - reconnecting: lost, or a try failed; more tries follow
   * - refused: the same again cannot work; reconnect() tries all the same
   * - offline: there is no server to try, or the transaction is closed
   */
  readonly state: "connecting" | "online" | "reconnecting" | "refused" | "offline"
  /** When the next try is, ms since 1970; null while it tries, or if there is none. */
  readonly nextTry: number | null
  /** Tries that failed since it was last online. */
  readonly tries: number
  /** Why the connection was lost, or the last try failed. */
  readonly reason: string | null
  /** The WebSocket close code that said so. */
  readonly code: number | null
  /** The server is there, but has no such transaction for us yet: none that anybody made, or picked on. */
  readonly unavailable: boolean
}

/** Who works here. */
export interface Me {
  /** "" until it is known: a token says it, or an earlier visit. */
  readonly user: string
  readonly name: string
  /** As the server says; as the options say until it does; null if neither. */
  readonly role: Role | null
  /** The user among those who are here. */
  readonly participant: Participant | null
}

/** All there is to show. The same object until something changes. */
export interface State extends View {
  readonly id: string
  /** Whether what was kept here on an earlier visit has been read. */
  readonly loaded: boolean
  /** Whether what is picked here outlives the tab, without the server. */
  readonly kept: boolean
  readonly me: Me
  readonly participants: readonly Participant[]
  /** By user, the names of those who are here or were, as last heard and as kept here; who gave none is not in it. */
  readonly names: Readonly<Record<string, string>>
  /** Who must be ready, and how many of them. */
  readonly needed: readonly string[]
  readonly quorum: number
  /** What becomes of changes after an agreement. */
  readonly policy: "reopen" | "lock"
  readonly readiness: Readiness
  /** The newest 100, oldest first; so are the next two. */
  readonly lapses: readonly Lapse[]
  readonly rejections: readonly Rejection[]
  /** All agreements, as far as the server could be asked. */
  readonly resolutions: readonly Resolution[]
  /** The agreement over what is shown. */
  readonly resolution: Resolution | null
  readonly connection: Connection
  /** The server has everything that was made here, on its disk. */
  readonly saved: boolean
  /** Changes that the server is not known to have. */
  readonly pending: number
  /** The server can be reached, and nothing gets to its disk at the moment: it saves what it is sent later. */
  readonly stalled: boolean
  /** Between here and the server in ms, null if not known. */
  readonly roundTrip: number | null
  /** A party who was here is not online now. */
  readonly otherPartyDisconnected: boolean
}

/** Why somebody is not ready: the server's code, or "lapsed", "stale", "offline", "unanswered", "overtaken", "closed". */
export class NotReadyError extends Error {
  override readonly name = "NotReadyError"
  constructor(
    readonly code: string,
    message: string,
    readonly fields: readonly string[] = [],
    readonly because: Because | null = null
  ) {
    super(message)
  }
}

/** A pick that cannot be made, with a code as the server would give it. */
export class PickError extends Error {
  override readonly name = "PickError"
  constructor(readonly code: string, message: string) {
    super(message)
  }
}

/** What a transaction lets one do; open() in transaction.ts makes it. */
export interface Transaction {
  readonly id: string
  /** The document's automerge-repo URL. */
  readonly url: string
  getState(): State
  /** Calls listener after each change of the state, until the function that it returns is called. */
  subscribe(listener: () => void): () => void
  /**
   * Picks a value for a field. Picks made in one go, before the next await, are one
   * change. Resolves with the change's hash when it is in the document, and on disk if
   * there is storage that works; `saved` says whether the server has it. Throws a PickError at once
   * for what no server takes.
   */
  pick(field: string, value: Value, option?: string): Promise<string>
  /** Picks one of the field's options. */
  pickOption(field: string, option: string): Promise<string>
  /** Takes back what is picked for a field, whoever picked it. */
  withdraw(field: string): Promise<string>
  /**
   * Confirms what was shown: the state that is given, or the heads, or else the
   * state as it is now. Resolves when the server has taken note, first bringing it
   * what was picked here; rejects with a NotReadyError. What was confirmed stands
   * until it is taken back or a change undoes it, over lost connections too.
   */
  ready(shown?: View | readonly string[]): Promise<void>
  unready(): void
  /** Says at which field the user is. */
  focus(field: string | null): void
  /** Says that the user goes; ready and focus bring the user back. */
  leave(): void
  /** Tries to connect now, also after a refusal. */
  reconnect(): void
  /** Everything that was ever done, in an order that is the same on every replica. */
  history(): readonly Event[]
  /** The transaction as it was at heads; undefined if they are not here. */
  at(heads: readonly string[]): View | undefined
  /** Lets go of the connection and the storage, after what is being written. */
  close(): Promise<void>
}
