// Who opens the page: what the address says, or what this tab was told before.

export interface Identity {
  readonly transaction: string
  readonly token: string | null
  readonly user: string | null
  readonly name: string | null
  readonly role: string | null
  /** What the token says of that; the server checks it, the page only shows it. */
  readonly claims: { readonly name: string | null; readonly role: string | null }
  /** The server believes who people say they are. */
  readonly dev: boolean
}

/**
 * readIdentity takes the token out of the address, where it would be seen, copied
 * and kept, and leaves it to this tab alone, reloads included.
 */
export function readIdentity(): Identity {
  const transaction = decoded(location.pathname.replace(/^\/t\//, "").replace(/\/$/, ""))
  const query = new URLSearchParams(location.search)
  const given = query.get("token")
  const key = `parley token ${transaction}`
  if (given !== null) {
    sessionStorage.setItem(key, given)
    query.delete("token")
    const rest = query.toString()
    history.replaceState(history.state, "", location.pathname + (rest && `?${rest}`) + location.hash)
  }
  const token = given ?? sessionStorage.getItem(key)
  return {
    transaction,
    token,
    claims: claimsOf(token),
    user: query.get("user"),
    name: query.get("name"),
    role: query.get("role"),
    dev: document.documentElement.hasAttribute("data-dev"),
  }
}

// decoded leaves what is no good as it is, for the client to say so.
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

// claimsOf reads a JWT (RFC 7519) as far as it can be read.
function claimsOf(token: string | null): Identity["claims"] {
  try {
    const payload = token!.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")
    const bytes = Uint8Array.from(atob(payload), char => char.charCodeAt(0))
    const { name, role } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>
    return { name: typeof name === "string" ? name : null, role: typeof role === "string" ? role : null }
  } catch {
    return { name: null, role: null }
  }
}

/** request adds to a request to this server who makes it. */
export function request(who: Identity, path: string): Promise<Response> {
  const url = new URL(path, location.origin)
  if (who.token === null) {
    for (const key of ["user", "name", "role"] as const) if (who[key]) url.searchParams.set(key, who[key])
    return fetch(url)
  }
  return fetch(url, { headers: { Authorization: `Bearer ${who.token}` } })
}
