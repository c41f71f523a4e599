// The hooks. Each component renders again when what it reads has changed, and only then.
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react"
import type {
  Connection, Event, Field, Me, Participant, Readiness, Selection, State, Transaction, Value,
} from "../client/state.js"
import type { OpenOptions } from "../client/transaction.js"
import { keyOf, Shared } from "./shared.js"

export interface TransactionOptions extends OpenOptions {
  readonly transactionId: string
}

/**
 * useTransaction opens a transaction for as long as the component is there.
 * Components that ask for the same one share it, and its connection. It is the same
 * object until the transaction, the server, the user or the storage is another; a
 * token or what gets one may be new in each render.
 */
export function useTransaction({ transactionId, ...options }: TransactionOptions): Transaction {
  const key = keyOf(transactionId, options)
  const shared = useMemo(() => new Shared(transactionId, options), [key]) // which stands for all that matters
  useEffect(() => shared.use(options))
  useEffect(() => shared.hold(), [shared])
  return shared
}

/** useSelected reads a part of the state; select must return the same for the same state. */
function useSelected<T>(transaction: Transaction, select: (state: State) => T): T {
  const subscribe = useCallback((listener: () => void) => transaction.subscribe(listener), [transaction])
  const snapshot = () => select(transaction.getState())
  return useSyncExternalStore(subscribe, snapshot, snapshot)
}

const whole = (state: State) => state
const theParticipants = (state: State) => state.participants
const theReadiness = (state: State) => state.readiness
const theConnection = (state: State) => state.connection

/** useTransactionState reads everything, and renders again whenever anything changes. */
export const useTransactionState = (transaction: Transaction): State => useSelected(transaction, whole)

export interface FieldHook {
  /** The field as the host wrote it; undefined if there is none of that name. */
  readonly field: Field | undefined
  /** What is picked; undefined if nothing is. */
  readonly selection: Selection | undefined
  readonly contested: boolean
  readonly missing: boolean
  /** Who is at the field, besides the user. */
  readonly others: readonly Participant[]
  readonly pick: (value: Value, option?: string) => Promise<string>
  readonly pickOption: (option: string) => Promise<string>
  readonly withdraw: () => Promise<string>
  /** For onFocus and onBlur. */
  readonly focus: () => void
  readonly blur: () => void
}

/** useField reads one field, and what one can do to it. */
export function useField(transaction: Transaction, name: string): FieldHook {
  const field = useSelected(transaction, state => state.fields.find(f => f.name === name))
  const selection = useSelected(transaction, state => state.selections[name])
  const missing = useSelected(transaction, state => state.missing.includes(name))
  const participants = useSelected(transaction, theParticipants)
  const me = useSelected(transaction, state => state.me.user)
  const others = useMemo(() => participants.filter(p => p.focus === name && p.user !== me), [participants, name, me])
  const hands = useMemo(
    () => ({
      pick: (value: Value, option?: string) => transaction.pick(name, value, option),
      pickOption: (option: string) => transaction.pickOption(name, option),
      withdraw: () => transaction.withdraw(name),
      focus: () => transaction.focus(name),
      blur: () => transaction.focus(null),
    }),
    [transaction, name]
  )
  return { field, selection, contested: selection?.contested ?? false, missing, others, ...hands }
}

export interface ParticipantsHook {
  readonly participants: readonly Participant[]
  readonly me: Me
  /** Who must be ready, and how many of them. */
  readonly needed: readonly string[]
  readonly quorum: number
  readonly otherPartyDisconnected: boolean
}

/** useParticipants reads who is here, each user once. */
export function useParticipants(transaction: Transaction): ParticipantsHook {
  return {
    participants: useSelected(transaction, theParticipants),
    me: useSelected(transaction, state => state.me),
    needed: useSelected(transaction, state => state.needed),
    quorum: useSelected(transaction, state => state.quorum),
    otherPartyDisconnected: useSelected(transaction, state => state.otherPartyDisconnected),
  }
}

export interface ReadinessHook extends Readiness {
  readonly lapses: State["lapses"]
  readonly resolution: State["resolution"]
  /** Confirms the state that this render shows. */
  readonly confirm: () => Promise<void>
  readonly takeBack: () => void
}

/** useReadiness reads whether the user has confirmed, may, and what came of it. */
export function useReadiness(transaction: Transaction): ReadinessHook {
  const readiness = useSelected(transaction, theReadiness)
  const lapses = useSelected(transaction, state => state.lapses)
  const resolution = useSelected(transaction, state => state.resolution)
  const heads = useSelected(transaction, state => state.heads)
  const confirm = useCallback(() => transaction.ready(heads), [transaction, heads])
  const takeBack = useCallback(() => transaction.unready(), [transaction])
  return { ...readiness, lapses, resolution, confirm, takeBack }
}

export interface ConnectionHook extends Connection {
  readonly isConnected: boolean
  readonly saved: boolean
  readonly pending: number
  readonly roundTrip: number | null
  readonly reconnect: () => void
}

/** useConnection reads how it stands with the server. */
export function useConnection(transaction: Transaction): ConnectionHook {
  const connection = useSelected(transaction, theConnection)
  const saved = useSelected(transaction, state => state.saved)
  const pending = useSelected(transaction, state => state.pending)
  const roundTrip = useSelected(transaction, state => state.roundTrip)
  const reconnect = useCallback(() => transaction.reconnect(), [transaction])
  return { ...connection, isConnected: connection.state === "online", saved, pending, roundTrip, reconnect }
}

/** useHistory reads everything that was ever done. */
export function useHistory(transaction: Transaction): readonly Event[] {
  const heads = useSelected(transaction, state => state.heads)
  return useMemo(() => transaction.history(), [transaction, heads]) // it is that of the heads
}

export interface SharedConflictResolution {
  /** What is picked, by field: of a contested field the pick that everybody sees as the winner. */
  readonly sharedSelections: Readonly<Record<string, Value>>
  readonly participants: readonly Participant[]
  readonly selectField: (field: string, value: Value, option?: string) => void
  /** Confirms what this render shows, or takes it back. What comes of it is in `state.readiness`. */
  readonly setReady: (ready: boolean) => void
  readonly isConnected: boolean
  readonly otherPartyDisconnected: boolean
  /** All there is. */
  readonly state: State
  /** For the other hooks, and for what they do not do. */
  readonly transaction: Transaction
}

/** useSharedConflictResolution is everything in one hook, in the shape of the one before Parley. */
export function useSharedConflictResolution(options: TransactionOptions): SharedConflictResolution {
  const transaction = useTransaction(options)
  const state = useTransactionState(transaction)
  const { selections, heads } = state
  const sharedSelections = useMemo(
    () => Object.fromEntries(Object.values(selections).map(s => [s.field, s.winner.value])),
    [selections]
  )
  const selectField = useCallback(
    (field: string, value: Value, option?: string) => void transaction.pick(field, value, option),
    [transaction]
  )
  const setReady = useCallback(
    (ready: boolean) => {
      if (ready) transaction.ready(heads).catch(() => {}) // it is in state.readiness.refused
      else transaction.unready()
    },
    [transaction, heads]
  )
  return {
    sharedSelections, participants: state.participants, selectField, setReady,
    isConnected: state.connection.state === "online", otherPartyDisconnected: state.otherPartyDisconnected,
    state, transaction,
  }
}
