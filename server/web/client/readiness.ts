// What the user has confirmed, and what the server is to be told of it. It says
// nothing itself: its owner sends what next() returns.
import type { Rejected, Roster, Up } from "./messages.js"
import { NotReadyError, type Because } from "./state.js"

interface Waiter {
  resolve(): void
  reject(why: Error): void
}

/** What the readiness needs to know of its surroundings. */
export interface Surroundings {
  readonly user: string
  /** The server has all that is here, and we have all that it has. */
  readonly inStep: boolean
  readonly heads: readonly string[]
  /** Finds the change that undid what was confirmed at heads. */
  causeSince(heads: readonly string[]): Because | null
  /** Whether a change is part of what was confirmed at heads. */
  contains(heads: readonly string[], change: string): boolean
}

// How often the server is reminded of what it has not answered, and how often what
// was picked here may not have come there yet, until it is given up.
const maxReminders = 5
const maxDelays = 20

const same = (a: readonly string[], b: readonly string[]) => a.length === b.length && a.every((x, i) => x === b[i])

export class Readiness {
  #heads: readonly string[] | undefined
  #asked = false // the server, on this connection
  #said = false // it may know, from whatever connection
  #shown = false // it has shown us ready on this connection
  #confirmed = false // or on an earlier one
  #taken = false // what was said was taken back, and the server may not know yet
  #waited = 0 // reminders since it was asked for, or since there is a connection
  #waiters: Waiter[] = []
  #outbox: Up[] = []

  get confirmed(): readonly string[] | undefined {
    return this.#confirmed ? this.#heads : undefined
  }

  get pending(): boolean {
    return this.#heads !== undefined && !this.#confirmed
  }

  /** The server has not shown on this connection that it knows. */
  get unanswered(): boolean {
    return this.#heads !== undefined && !this.#shown
  }

  /** Taken back, and the server may not know yet. */
  get takenBack(): boolean {
    return this.#taken
  }

  /** begin starts a conversation with a server that knows nothing of the last. */
  begin(): void {
    this.#asked = this.#shown = false
    this.#waited = 0
    this.#outbox = this.#taken ? [{ t: "unready" }] : []
  }

  /** next returns what the server is to be told now. */
  next(): Up[] {
    return this.#outbox.splice(0)
  }

  /** want confirms what is at heads, sorted; it settles when the server has taken note. */
  want(heads: readonly string[]): Promise<void> {
    if (this.#heads && !same(this.#heads, heads)) {
      const said = this.#said
      this.end(overtaken())
      if (said) this.#takeBack() // these heads may be refused, and then nothing is confirmed
    }
    this.#heads = heads
    this.#waited = 0
    if (this.#shown) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  /** takeBack ends what was confirmed, here and on every connection of the user. */
  takeBack(): void {
    this.end(overtaken())
    this.#takeBack()
  }

  #takeBack(): void {
    this.#taken = true
    this.#outbox = [{ t: "unready" }]
  }

  /** end forgets what was confirmed, and tells those who wait why. */
  end(why: Error): void {
    const waiters = this.#waiters
    this.#waiters = []
    this.#heads = undefined
    this.#asked = this.#said = this.#shown = this.#confirmed = false
    this.#outbox = this.#outbox.filter(m => m.t !== "ready" && m.t !== "roster")
    for (const waiter of waiters) waiter.reject(why)
  }

  /** giveUp answers those who wait when there will be no connection. */
  giveUp(why: Error): void {
    if (this.#waiters.length > 0) this.end(why)
  }

  /**
   * tend brings what was confirmed to the server when it is what there is; it
   * returns what undid it while we were away, if something did.
   */
  tend(around: Surroundings): { because: Because | null } | undefined {
    if (this.#heads === undefined || this.#asked || !around.inStep) return undefined
    if (same(this.#heads, around.heads)) {
      this.#asked = this.#said = true
      this.#outbox.push({ t: "ready", heads: this.#heads })
      return undefined
    }
    if (!this.#confirmed) {
      this.end(stale())
      return undefined
    }
    const because = around.causeSince(this.#heads)
    this.end(lapse(because))
    return { because }
  }

  /** remind says again what was not answered, since the answer may be lost; in the end it gives up. */
  remind(): void {
    if (!this.unanswered) return
    if (++this.#waited > (this.#asked ? maxReminders : maxDelays)) {
      const said = this.#said
      this.end(unanswered())
      if (said) this.#takeBack()
    } else if (this.#asked) {
      this.#outbox.push({ t: "ready", heads: this.#heads! }, { t: "roster" })
    }
  }

  /** takeRoster compares what the server says with what it was asked; it returns a lapse that was not told. */
  takeRoster(roster: Roster, user: string): { because: Because | null } | undefined {
    const me = roster.participants.find(p => p.user === user)
    if (this.#taken && !this.#outbox.some(m => m.t === "unready") && !me?.ready) this.#taken = false
    if (this.#heads === undefined || !this.#asked) return undefined
    if (!same(roster.heads, this.#heads)) {
      if (!this.#shown) return undefined
      const because = me?.lapsed ?? null
      this.end(lapse(because))
      return { because }
    }
    if (me?.ready) {
      this.#shown = this.#confirmed = true
      this.#taken = false
      for (const waiter of this.#waiters.splice(0)) waiter.resolve()
    } else if (this.#shown) {
      this.end(overtaken()) // taken back on another connection of ours
    }
    return undefined
  }

  /** takeLapse ends what a change has undone; one that was part of it undid something older. */
  takeLapse(because: Because, around: Surroundings): void {
    if (this.#heads && around.contains(this.#heads, because.change)) return
    this.#taken = false
    this.end(lapse(because))
  }

  /** takeRefusal hears that a ready was refused. */
  takeRefusal(refused: Rejected): void {
    const heads = [...(refused.heads ?? [])].sort()
    if (this.#heads === undefined || !same(heads, this.#heads)) return
    if (this.#confirmed && refused.code === "stale") {
      this.#asked = false // what came between is on its way to us
      return
    }
    this.end(new NotReadyError(refused.code, refused.message, refused.fields ?? []))
  }
}

const overtaken = () => new NotReadyError("overtaken", "it was taken back before the server had taken note of it")

const unanswered = () => new NotReadyError("unanswered", "the server does not answer: try again")

const stale = () =>
  new NotReadyError("stale", "the transaction has changed since: look at it as it is now, and confirm that")

const lapse = (because: Because | null) =>
  new NotReadyError("lapsed", "a change undid it", because?.field ? [because.field] : [], because)
