// How the page opens a transaction: with the engine that the build put beside it.
import wasm from "@automerge/automerge/automerge.wasm"
import { initializeWasm } from "@automerge/automerge/slim"
import { open, type Role, type Transaction } from "../client"
import type { Identity } from "./identity"

export async function connect(who: Identity): Promise<Transaction> {
  await initializeWasm(wasm)
  return open(who.transaction, {
    server: location.origin.replace(/^http/, "ws"),
    ...(who.token !== null && { token: who.token }),
    ...(who.user !== null && { user: who.user }),
    ...((who.claims.name ?? who.name) !== null && { name: (who.claims.name ?? who.name)! }),
    // What is believed until the server has said so: offline, too, a viewer only looks.
    role: roleOf(who),
  })
}

const roles: readonly string[] = ["party", "host", "viewer", "auditor"] satisfies Role[]

function roleOf({ role, claims }: Identity): Role {
  const said = claims.role ?? role
  return said !== null && roles.includes(said) ? (said as Role) : "party"
}
