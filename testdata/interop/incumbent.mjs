// automerge-repo's own sync server, for trying the tests out: with
// PARLEY_SERVER_JS=1 the suite runs against it instead of the binary. It knows
// two of the binary's flags and prints the same line when it listens.
import http from "node:http"
import { parseArgs } from "node:util"
import { WebSocketServer } from "ws"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"

const { values } = parseArgs({ options: { listen: { type: "string" }, data: { type: "string" } } })
const [host, port] = values.listen.split(":")

const wss = new WebSocketServer({ noServer: true })
new Repo({
  peerId: "storage-server-incumbent",
  network: [new WebSocketServerAdapter(wss)],
  storage: new NodeFSStorageAdapter(values.data),
  sharePolicy: async () => false,
  enableRemoteHeadsGossiping: true,
})
const server = http.createServer((request, response) => response.end("ok"))
server.on("upgrade", (request, socket, head) =>
  wss.handleUpgrade(request, socket, head, ws => wss.emit("connection", ws, request))
)
server.listen(+port, host, () => console.log(`listening on http://${host}:${server.address().port}`))
