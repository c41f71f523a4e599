// A verifier written by FORMAT.md alone, with nothing of Parley's: the zip, the
// hashes, the log and the signatures, but not the schema of the changes.
//   node stranger.mjs RECORD PUBLIC-KEY
import assert from "node:assert/strict"
import { createHash, createPublicKey, verify } from "node:crypto"
import { readFileSync } from "node:fs"
import { crc32, inflateRawSync } from "node:zlib"

const [recordPath, keyPath] = process.argv.slice(2)
const record = readFileSync(recordPath)
const sha = (...parts) => createHash("sha256").update(Buffer.concat(parts.map(p => Buffer.from(p)))).digest()

// 1. The zip
const names = ["document.automerge", "changes.jsonl", "receipts.jsonl", "record.json", "report.html", "statement.note"]
const files = {}
let at = 0
for (const name of names) {
  const size = record.readUInt32LE(at + 18)
  at += 30 + name.length
  files[name] = record.subarray(at, at += size)
}
const numbers = list => Buffer.concat(list.map(([bytes, n]) => {
  const b = Buffer.alloc(bytes)
  bytes === 4 ? b.writeUInt32LE(n) : b.writeUInt16LE(n)
  return b
}))
const crc = crc32 ?? (bytes => {
  let c = ~0
  for (const b of bytes) {
    c ^= b
    for (let k = 0; k < 8; k++) c = c & 1 ? c >>> 1 ^ 0xedb88320 : c >>> 1
  }
  return ~c >>> 0
})
const local = [], central = []
let offset = 0
for (const name of names) {
  const content = files[name]
  const common = [[2, 20], [2, 0], [2, 0], [2, 0], [2, 0x21], [4, crc(content)], [4, content.length], [4, content.length], [2, name.length], [2, 0]]
  const header = numbers([[4, 0x04034b50], ...common])
  local.push(header, Buffer.from(name), content)
  central.push(numbers([[4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), Buffer.from(name))
  offset += header.length + name.length + content.length
}
const directory = Buffer.concat(central)
const end = numbers([[4, 0x06054b50], [2, 0], [2, 0], [2, 6], [2, 6], [4, directory.length], [4, offset], [2, 0]])
assert(Buffer.concat([...local, directory, end]).equals(record), "the zip")

// 2. The signature
const [keyName, , ...rest] = readFileSync(keyPath, "utf8").trim().split("+")
const key = Buffer.from(rest.join("+"), "base64").subarray(1)
const publicKey = createPublicKey({ key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key]), format: "der", type: "spki" })
const open = note => {
  const cut = note.lastIndexOf("\n\n") + 1
  const [origin, size, root, ...says] = note.slice(0, cut - 1).split("\n")
  const [dash, signer, text] = note.slice(cut + 1).trimEnd().split(" ")
  const signature = Buffer.from(text, "base64")
  assert.equal(`${dash} ${signer}`, `— ${origin}`)
  assert.deepEqual(signature.subarray(0, 4), sha(origin, "\n", [1], key).subarray(0, 4))
  assert(verify(null, Buffer.from(note.slice(0, cut)), publicKey, signature.subarray(4)), "the signature")
  return { origin, size: Number(size), root, says }
}
const statement = open(files["statement.note"].toString())

// 3. The files
const said = JSON.parse(files["record.json"])
assert.deepEqual(statement.says, [
  "format parley-record/1", `transaction ${said.transaction}`, `heads ${said.heads.join(",")}`,
  ...names.slice(0, 5).map(name => `file ${name} ${sha(files[name]).toString("hex")}`),
])
assert.equal(statement.origin, `${keyName}/${said.document}`)

// 4. The document's id
const uuid = createHash("sha1").update(Buffer.from("6d477204aff44124a0809205b639d762", "hex")).update(`conflict-resolution:${said.transaction}`).digest().subarray(0, 16)
uuid[6] = uuid[6] & 0x0f | 0x50
uuid[8] = uuid[8] & 0x3f | 0x80
let n = BigInt(`0x${Buffer.concat([uuid, sha(sha(uuid)).subarray(0, 4)]).toString("hex")}`), id = ""
for (; n > 0n; n /= 58n) id = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[Number(n % 58n)] + id
assert.equal(said.document, id)

// 5. Chunks and receipts
const lines = name => {
  const all = files[name].toString().split("\n")
  assert.equal(all.pop(), "")
  return all
}
const leb = n => n < 128 ? [n] : [n % 128 + 128, ...leb(Math.floor(n / 128))]
const document = files["document.automerge"], chunks = []
for (let at = 0; at < document.length;) {
  let to = at + 9, length = 0, scale = 1
  do { length += document[to] % 128 * scale; scale *= 128 } while (document[to++] >= 128)
  let body = document.subarray(to, to + length)
  if (document[at + 8] === 2) body = inflateRawSync(body)
  const hash = sha([1], leb(body.length), body)
  assert.equal(document.subarray(at, at + 4).toString("hex"), "856f4a83")
  assert.deepEqual(document.subarray(at + 4, at + 8), hash.subarray(0, 4))
  chunks.push({ n: chunks.length, hash: hash.toString("hex"), offset: at, length: to + length - at })
  at = to + length
}
const receipts = lines("receipts.jsonl")
assert.deepEqual(receipts.map(r => JSON.parse(r).change), chunks.map(c => c.hash))
assert.deepEqual(lines("changes.jsonl").map(JSON.parse).map(({ n, hash, offset, length }) => ({ n, hash, offset, length })), chunks)

// 6. The log and the agreements
const rootOf = leaves => {
  if (leaves.length === 1) return sha([0], leaves[0])
  let k = 1
  while (2 * k < leaves.length) k *= 2
  return sha([1], rootOf(leaves.slice(0, k)), rootOf(leaves.slice(k)))
}
assert.equal(statement.size, receipts.length)
assert.equal(statement.root, rootOf(receipts).toString("base64"))
for (const r of said.resolutions) {
  const checkpoint = open(r.checkpoint)
  assert.equal(checkpoint.origin, statement.origin)
  assert.equal(checkpoint.root, rootOf(receipts.slice(0, r.size)).toString("base64"))
  assert.deepEqual(checkpoint.says, [
    `transaction ${said.transaction}`, `resolution ${r.n}`, `heads ${r.heads.join(",")}`,
    `parties ${JSON.stringify(r.parties)}`, `needed ${JSON.stringify(r.needed)}`, `quorum ${r.quorum}`, `at ${r.at}`,
  ])
}
console.log(`${receipts.length} changes, ${said.resolutions.length} agreements`)
