// A process that picks without a server, and ends: offline.js FOLDER ID VALUE.
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { open } from "../client/index.js"
import "./room.js"

const [folder, id, value] = process.argv.slice(2)
const away = open(id!, { user: "al/ice", storage: new NodeFSStorageAdapter(folder!) })
await away.pick("price", value!)
process.exit() // without a close: what is kept is kept
