// Tokens for a server that is strict about who comes.
import { createHmac } from "node:crypto"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after } from "node:test"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "parley-web-keys-"))
after(() => fs.rmSync(folder, { recursive: true, force: true }))

const secret = "a secret that is long enough for the tests"

/** The file for --keys. */
export const keys = path.join(folder, "secret")
fs.writeFileSync(keys, secret)

/** token makes a JWT that is good for some seconds. */
export function token(sub: string, { role = "party", seconds = 60, jti = "" } = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
  const now = Math.floor(Date.now() / 1000)
  const claims = { aud: "parley", sub, role, transactions: ["*"], iat: now, exp: now + seconds, jti }
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`
}

/** spoiled is a token that no server takes. */
export const spoiled = (good: string): string => `${good.slice(0, -3)}AAA`
