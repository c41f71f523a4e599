// The server under test, as a process that tests may stop, kill and start again
// on the same port and data. One of these says which it is:
//
//   PARLEY_BIN        the binary: it is started with serve --plain-documents, and
//                     --dev, unless there are --keys
//   PARLEY_NODES      with it: so many servers over one PostgreSQL, behind a balancer
//                     that sends each connection to any of them
//   PARLEY_SERVER_JS  if 1: automerge-repo's own server, see incumbent.mjs
//   PARLEY_URL        a server that runs already, ws://host:port; tests that
//                     would have to stop it are skipped
import { spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { after, before, beforeEach } from "node:test"
import { Postgres } from "./postgres.mjs"

const startDeadline = 15_000 // ms until it must listen
const stopDeadline = 15_000 // ms until it must have ended after SIGTERM

function command(listen, data, more) {
  const flags = ["--listen", listen, "--data", data]
  if (process.env.PARLEY_SERVER_JS === "1") {
    return [process.execPath, fileURLToPath(new URL("incumbent.mjs", import.meta.url)), ...flags]
  }
  const dev = more.includes("--keys") ? [] : ["--dev"]
  if (process.env.PARLEY_BIN) return [process.env.PARLEY_BIN, "serve", ...dev, "--plain-documents", ...flags, ...more]
  throw new Error("say which server to test: set PARLEY_BIN, PARLEY_SERVER_JS=1 or PARLEY_URL")
}

// One process, again and again on the same port.
class Process {
  #process
  #output = ""
  #port = 0

  get url() {
    return `ws://127.0.0.1:${this.#port}`
  }

  async start(data, flags) {
    const [program, ...args] = command(`127.0.0.1:${this.#port}`, data, flags)
    this.#output = ""
    this.#process = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] })
    const listening = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the server does not listen" + this.#tail())), startDeadline)
      const settle = (outcome, value) => {
        clearTimeout(timer)
        outcome(value)
      }
      const read = text => {
        this.#output = (this.#output + text).slice(-20_000)
        const found = this.#output.match(/listening on http:\/\/[^\s:]+:(\d+)/)
        if (found) settle(resolve, +found[1])
      }
      this.#process.stdout.setEncoding("utf8").on("data", read)
      this.#process.stderr.setEncoding("utf8").on("data", read)
      this.#process.once("error", error => settle(reject, error))
      this.#process.once("exit", () => settle(reject, new Error("the server ended at once" + this.#tail())))
    })
    this.#port = await listening
  }

  get running() {
    return this.#process?.exitCode === null && this.#process.signalCode === null
  }

  // stop asks the process to end, and fails if it does not.
  async stop() {
    if (!this.running) return
    const ended = once(this.#process, "exit")
    this.#process.kill("SIGTERM")
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), stopDeadline)
    await ended
    clearTimeout(timer)
    if (this.#process.signalCode === "SIGKILL") throw new Error("the server does not end on SIGTERM" + this.#tail())
  }

  // kill ends the process as a crash would.
  async kill() {
    if (!this.running) return
    const ended = once(this.#process, "exit")
    this.#process.kill("SIGKILL")
    await ended
  }

  // assertRunning fails, with the last of what it printed, if the process has ended.
  assertRunning() {
    if (!this.running) throw new Error("the server has ended" + this.#tail())
  }

  #tail() {
    return this.#output ? `; its last words:\n${this.#output.slice(-2_000)}` : ""
  }
}

// The processes that are the server: one, or PARLEY_NODES.
class Server {
  url = process.env.PARLEY_URL
  restartable = process.env.PARLEY_URL === undefined
  #nodes = []
  #flags
  #data
  #database
  #balancer

  constructor(flags) {
    const count = process.env.PARLEY_SERVER_JS === "1" ? 1 : +(process.env.PARLEY_NODES ?? 1)
    if (this.restartable) this.#nodes = Array.from({ length: count }, () => new Process())
    this.#flags = flags
  }

  // start begins, or goes on with the data and at the address of the last time.
  async start() {
    if (!this.restartable) return
    this.#data ??= fs.mkdtempSync(path.join(os.tmpdir(), "parley-interop-"))
    const flags = [...this.#flags]
    if (this.#nodes.length > 1) {
      this.#database ??= await Postgres.start()
      flags.push("--store", this.#database.url)
    }
    for (const node of this.#nodes) if (!node.running) await node.start(this.#data, flags)
    if (this.#nodes.length === 1) this.url = this.#nodes[0].url
    else if (!this.#balancer) await this.#balance()
  }

  async #balance() {
    const seed = process.env.PARLEY_SEED ?? String(Date.now() % 1_000_000)
    console.log(`connections go to any of ${this.#nodes.length} servers, by PARLEY_SEED=${seed}`)
    const program = fileURLToPath(new URL("balancer.mjs", import.meta.url))
    this.#balancer = spawn(process.execPath, [program, seed, ...this.#nodes.map(node => node.url)], { stdio: ["pipe", "pipe", "inherit"] })
    const [port] = await once(this.#balancer.stdout, "data")
    this.url = `ws://127.0.0.1:${+port}`
  }

  get running() {
    return this.#nodes.every(node => node.running)
  }

  // several reports whether connections may be to different processes.
  get several() {
    return this.#nodes.length > 1
  }

  // ensure starts the server again if the last test has been its end.
  async ensure() {
    if (!this.running) await this.start()
  }

  async stop() {
    await Promise.all(this.#nodes.map(node => node.stop()))
  }

  async kill() {
    await Promise.all(this.#nodes.map(node => node.kill()))
  }

  async close() {
    await this.kill()
    this.#balancer?.kill()
    await this.#database?.close()
    if (this.#data) fs.rmSync(this.#data, { recursive: true, force: true })
  }

  assertRunning() {
    for (const node of this.#nodes) node.assertRunning()
  }
}

// useServer gives a test file a server of its own. Flags are for the binary only.
export function useServer(...flags) {
  const server = new Server(flags)
  before(() => server.start())
  beforeEach(() => server.ensure())
  after(() => server.close())
  return server
}
