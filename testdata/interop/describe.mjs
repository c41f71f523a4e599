// A decoded frame as plain JSON, the form in which the Go tests compare frames:
// byte strings as {"hex": …}, undefined left out, and numbers as they are, so
// that a BigInt, which JSON cannot hold, shows up as {"bigint": …}.
export function describe(value) {
  if (typeof value === "bigint") return { bigint: value.toString() }
  if (value instanceof Uint8Array) return { hex: Buffer.from(value).toString("hex") }
  if (Array.isArray(value)) return value.map(describe)
  if (value === null || typeof value !== "object") return value
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, describe(v)]))
}
