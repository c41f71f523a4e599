// What the server has acknowledged is there after it was killed.
import * as Automerge from "@automerge/automerge"
import { decodeHeads } from "@automerge/automerge-repo"
import { acknowledged, client, joined, scenario, until } from "./client.mjs"
import { useServer } from "./server.mjs"

const server = useServer()
const skip = server.restartable ? false : "PARLEY_URL names a server that is not the tests' to kill"
const kills = 20

// writeUntilKilled edits as fast as the client syncs, and has the server killed
// once it has acknowledged something of this round, a random moment after.
async function writeUntilKilled(writer, handle) {
  const before = acknowledged(writer, handle)?.join()
  let writing = true
  const typing = (async () => {
    for (let i = 0; writing; i++) {
      handle.change(doc => (doc.fields[`field ${i % 50}`] = Math.random()))
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  })()
  await until("something is acknowledged", () => acknowledged(writer, handle)?.join() !== before)
  await new Promise(resolve => setTimeout(resolve, Math.random() * 250))
  await server.kill()
  writing = false
  await typing
}

scenario(`acknowledged changes are there after each of ${kills} kills`, { skip, timeout: 120_000 }, async t => {
  const writer = client(t, server)
  const handle = writer.repo.create({ fields: {} })
  for (let kill = 0; kill < kills; kill++) {
    await joined(writer)
    await writeUntilKilled(writer, handle)
    await until("the writer has seen the end", () => !writer.adapter.connected)
    const claimed = acknowledged(writer, handle)
    writer.adapter.goOffline() // or it would bring again what was lost

    await server.start()
    const reader = client(t, server)
    const found = await reader.find(handle.url)
    await until(
      `after kill ${kill + 1} the server gives back all that it has acknowledged`,
      () => Automerge.hasHeads(found.doc(), decodeHeads(claimed)),
      5_000
    )
    await reader.close()
    writer.adapter.goOnline()
  }
})
