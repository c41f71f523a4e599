// A transaction of thousands of fields is there in a moment: Automerge's own part,
// which is to apply its changes, is the measure of the rest.
import assert from "node:assert/strict"
import { test, type TestContext } from "node:test"
import * as A from "@automerge/automerge/slim"
import { build, genesis, type Doc } from "../client/document.js"
import { Replica } from "../client/replica.js"
import "./room.js"

const count = 5_000
const tries = 3 // what is slow is slow each time; the machine may be busy

function large(): Doc {
  const text = (of: string) => new A.ImmutableString(of)
  return A.change(build([genesis("x")]), { time: 0 }, draft => {
    for (let n = 0; n < count; n++) {
      draft.fields[`field-${n}`] = {
        label: text(`Term ${n}`), required: n % 2 === 0,
        options: { a: { value: n, source: text("page 1") }, b: { value: n + 1, source: text("page 2") } },
      }
    }
  })
}

// spent returns the ms on the processor that something takes.
function spent(act: () => void): number {
  const before = process.cpuUsage()
  act()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

// within tries until something takes at most so many times what applying does.
async function within(t: TestContext, most: number, applying: number, act: () => Promise<number>): Promise<void> {
  const times: number[] = []
  while (times.length < tries && !(times.at(-1)! <= most)) times.push((await act()) / applying)
  t.diagnostic(`${times.map(time => time.toFixed(1)).join(", ")} times, of ${most}`)
  assert.ok(times.at(-1)! <= most)
}

test(`${count} fields are shown as soon as they come, and a pick is at once`, async t => {
  let host = large()
  const changes = A.getAllChanges(host)
  const apply = () => spent(() => A.getBackend(A.init()).applyChanges(changes))
  apply() // once before it counts: what is new to the machine takes longer
  const applying = apply()

  // receive returns what it takes a new replica to hear all that the host has.
  let replica!: Replica
  const receive = async () => {
    replica = await Replica.open("x", "alice", undefined, () => {}, () => {})
    let [mine, theirs, time] = [replica.begin(), A.initSyncState(), 0]
    while (replica.view.fields.length === 0) {
      const [next, asked] = replica.say(mine)
      if (asked) [host, theirs] = A.receiveSyncMessage(host, theirs, asked)
      const [after, answer] = A.generateSyncMessage(host, theirs)
      ;[mine, theirs] = [next, after]
      time += spent(() => { [mine] = replica.hear(mine, answer!) })
    }
    assert.equal(replica.view.fields.length, count)
    assert.equal(replica.history().length, count)
    return time
  }
  await within(t, 6, applying, receive)
  let n = 0
  await within(t, 0.2, applying, async () => spent(() => {
    const { change } = replica.edit([{ field: `field-${n}`, value: n++, option: "a", at: 0 }])
    assert.ok(replica.has([change]))
    assert.equal(replica.history().at(-1)!.change, change)
  }))
  A.free(host)
})
