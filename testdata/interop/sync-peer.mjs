// Automerge replicas for the tests of sync/protocol. Reads one JSON command a
// line on standard input and answers each with one line; bytes are base64.
// Random edits follow from the command's seed alone.
import * as A from "@automerge/automerge";
import { createInterface } from "node:readline";

const replicas = new Map(); // id -> { doc, states: conn -> sync state }

const bytes = (base64) => new Uint8Array(Buffer.from(base64 ?? "", "base64"));
const text = (data) => Buffer.from(data).toString("base64");

function random(seed) {
  let state = seed >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
  };
}

function edit(doc, rnd) {
  const key = `key${rnd(4)}`;
  switch (rnd(6)) {
    case 0:
      doc.map ??= {};
      doc.map[key] = rnd(1000);
      break;
    case 1:
      if (!Array.isArray(doc.list)) doc.list = ["js"];
      else if (doc.list.length > 0 && rnd(3) === 0) doc.list.splice(rnd(doc.list.length), 1);
      else doc.list.push(rnd(1000));
      break;
    case 2:
      delete doc[key];
      break;
    case 3: // long enough for a deflated change
      doc[key] = new A.ImmutableString(`long ${rnd(1000)} `.repeat(60));
      break;
    default:
      doc[key] = new A.ImmutableString(`js ${rnd(1000)}`);
  }
}

const commands = {
  new({ id, actor }) {
    if (replicas.has(id)) A.free(replicas.get(id).doc);
    replicas.set(id, { doc: A.init({ actor }), states: new Map() });
  },
  edit({ id, seed }) {
    const r = replicas.get(id);
    const before = r.doc;
    r.doc = A.change(r.doc, { time: seed % 100000 }, (doc) => edit(doc, random(seed)));
    if (r.doc === before) r.doc = A.emptyChange(r.doc, { time: seed % 100000 });
  },
  edits({ id, seed }) { // seed small changes of one key
    const r = replicas.get(id);
    for (let i = 0; i < seed; i++) {
      r.doc = A.change(r.doc, { time: 0 }, (doc) => { doc[`field${i % 50}`] = i; });
    }
  },
  lose({ id, actor, seed }) { // all but the first changes
    const r = replicas.get(id);
    const changes = A.getAllChanges(r.doc);
    A.free(r.doc);
    r.doc = A.init({ actor });
    for (const c of changes.slice(0, seed % (changes.length + 1))) r.doc = A.loadIncremental(r.doc, c);
  },
  connect({ id, conn, data, readOnly }) {
    const r = replicas.get(id);
    const state = data && !readOnly ? A.decodeSyncState(bytes(data)) : A.initSyncState({ readOnly: !!readOnly });
    r.states.set(conn, state);
  },
  disconnect({ id, conn }) {
    const r = replicas.get(id);
    const data = text(A.encodeSyncState(r.states.get(conn)));
    r.states.delete(conn);
    return { data };
  },
  generate({ id, conn }) {
    const r = replicas.get(id);
    const [state, message] = A.generateSyncMessage(r.doc, r.states.get(conn));
    r.states.set(conn, state);
    return message ? { data: text(message) } : {};
  },
  receive({ id, conn, data }) {
    const r = replicas.get(id);
    const [doc, state] = A.receiveSyncMessage(r.doc, r.states.get(conn), bytes(data));
    r.doc = doc;
    r.states.set(conn, state);
  },
  heads: ({ id }) => ({ hashes: A.getHeads(replicas.get(id).doc) }),
  has({ id, hashes }) {
    return { ok: A.hasHeads(replicas.get(id).doc, hashes ?? []) };
  },
  json: ({ id }) => ({ json: A.toJS(replicas.get(id).doc) }),
  save: ({ id }) => ({ data: text(A.save(replicas.get(id).doc)) }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = commands[command.op](command) ?? {};
  } catch (e) {
    answer = { error: String(e?.stack ?? e) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
