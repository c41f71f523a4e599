// A balancer without memory, as a process: node balancer.mjs SEED URL... prints the port of
// loopback where it listens, and leads each connection to any of the servers that take it.
import net from "node:net"
import { random } from "./random.mjs"

const [seed, ...servers] = process.argv.slice(2)
const next = random(+seed)
const retryEvery = 50 // ms

function lead(down, left) {
  if (down.destroyed) return
  if (left.length === 0) return void setTimeout(lead, retryEvery, down, servers) // until there is one
  const chosen = left[next(left.length)]
  const { hostname, port } = new URL(chosen)
  const up = net.connect(+port, hostname)
  const elsewhere = () => lead(down, left.filter(server => server !== chosen))
  up.once("error", elsewhere)
  up.once("connect", () => {
    up.off("error", elsewhere)
    up.on("error", () => down.destroy()).on("close", () => down.destroy())
    down.on("close", () => up.destroy()).pipe(up).pipe(down)
  })
}

const balancer = net.createServer(down => {
  down.on("error", () => {})
  lead(down, servers)
})
balancer.listen(0, "127.0.0.1", () => console.log(balancer.address().port))
process.stdin.on("end", () => process.exit()).resume() // with whom it was started by
