// A PostgreSQL of the machine's own installation, in a folder that goes with it.
// As a program it says by its exit code whether there is one.
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"

const startDeadline = 30_000 // ms until it must listen

// Where its programs are: POSTGRES_BIN, Debian's newest, or the path's; undefined if
// there are none.
function programs() {
  const debian = "/usr/lib/postgresql"
  const versions = fs.existsSync(debian) ? fs.readdirSync(debian).sort((a, b) => +b - +a) : []
  const dirs = [process.env.POSTGRES_BIN, ...versions.map(v => path.join(debian, v, "bin")), ...process.env.PATH.split(":")]
  return dirs.find(dir => dir && fs.existsSync(path.join(dir, "initdb")))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = programs() ? 0 : 1

// Who it runs as: it refuses to be root.
function owner() {
  if (process.getuid() !== 0) return {}
  const id = kind => +execFileSync("id", [kind, "postgres"], { encoding: "utf8" })
  return { uid: id("-u"), gid: id("-g") }
}

// It stops when nobody holds its standard input any more, so that it does not outlive
// tests that were killed, and takes its folder with it.
const watched = `"$@" </dev/null & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf "$PWD"`

export class Postgres {
  #dir
  #process

  static async start() {
    const postgres = new Postgres()
    const bin = programs()
    if (!bin) throw new Error("no PostgreSQL is installed: install it (Debian: apt-get install postgresql), or name the folder of its programs in POSTGRES_BIN")
    const as = owner()
    postgres.#dir = fs.mkdtempSync(path.join(os.tmpdir(), "parley-postgres-"))
    if (as.uid !== undefined) fs.chownSync(postgres.#dir, as.uid, as.gid)
    const data = path.join(postgres.#dir, "data")
    const options = { cwd: postgres.#dir, stdio: "ignore", ...as }
    execFileSync(path.join(bin, "initdb"), ["-D", data, "-U", "parley", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"], options)
    postgres.port = await freePort()
    const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=32MB", "max_connections=200"]
    const server = [path.join(bin, "postgres"), "-D", data, "-p", String(postgres.port), ...settings.flatMap(s => ["-c", s])]
    postgres.#process = spawn("/bin/sh", ["-c", watched, "sh", ...server], { ...options, stdio: ["pipe", "ignore", "ignore"] })
    await postgres.#ready(path.join(bin, "pg_isready"))
    return postgres
  }

  get url() {
    return `postgres://parley@127.0.0.1:${this.port}/postgres`
  }

  async #ready(program) {
    for (const end = Date.now() + startDeadline; ; await sleep(20)) {
      const { status } = spawnSync(program, ["-q", "-h", "127.0.0.1", "-p", String(this.port)])
      if (status === 0) return
      if (Date.now() > end || this.#process.exitCode !== null) throw new Error("PostgreSQL does not start")
    }
  }

  async close() {
    const ended = once(this.#process, "exit")
    this.#process.stdin.end()
    await ended
  }
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address()
  server.close()
  await once(server, "close")
  return port
}
