// Who the user is, and how the server is told.
import type { Role } from "./state.js"

export interface Identity {
  /** A JWT, or what gets one; it is asked at every connect, so that a fresh one follows one that expires. */
  readonly token?: string | (() => string | Promise<string>) | undefined
  /** The user's id. With a token: its subject, which is the default. */
  readonly user?: string | undefined
  /** What a server in development is told, where there is no token. */
  readonly name?: string | undefined
  readonly role?: Role | undefined
}

const tokenWithin = 10_000 // ms that getting a token may take

/** tokenSource returns what gets a token, undefined where there is none. It gives up waiting after a while. */
export function tokenSource({ token }: Identity): () => Promise<string | undefined> {
  if (typeof token !== "function") return async () => token
  return () => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no token came within 10 s")), tokenWithin)
    new Promise<string>(got => got(token())).then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/**
 * subjectOf reads whom a JWT (RFC 7519) is about, "" if it cannot be read. Whether
 * that is true is for the server to check.
 */
export function subjectOf(token: string | undefined): string {
  try {
    const payload = token!.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")
    const bytes = Uint8Array.from(atob(payload), char => char.charCodeAt(0))
    const { sub } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown }
    return typeof sub === "string" ? sub : ""
  } catch {
    return ""
  }
}

/** urlFor returns what makes the URL to connect to, with a token or with what a server in development is told. */
export function urlFor(server: string, { user, name, role }: Identity): (token: string | undefined) => string {
  const base = new URL(server)
  base.protocol = base.protocol.replace(/^http/, "ws")
  if (base.protocol !== "ws:" && base.protocol !== "wss:") throw new Error(`${server} is no ws, wss, http or https URL`)
  return token => {
    const url = new URL(base)
    tell(url, token ? { token } : { user, name, role })
    return url.href
  }
}

/** apiRequest returns what asks the server about a transaction by HTTP. */
export function apiRequest(server: string, { user, name, role }: Identity, id: string, token: string | undefined): Request {
  const url = new URL(server)
  url.protocol = url.protocol.replace(/^ws/, "http")
  url.pathname = `${url.pathname.replace(/\/(sync)?$/, "")}/v1/transactions/${id}`
  if (!token) tell(url, { user, name, role })
  return new Request(url, token ? { headers: { Authorization: `Bearer ${token}` } } : {})
}

function tell(url: URL, told: Record<string, string | undefined>): void {
  for (const [key, value] of Object.entries(told)) if (value) url.searchParams.set(key, value)
}
