// The real server, as a process that tests may stop, freeze and start again on the
// same port and data. PARLEY_BIN says which binary; by default the tree's own.
import { execFileSync, spawn, type ChildProcess } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { after, before } from "node:test"

const startDeadline = 15_000 // ms until it must listen

const binary = process.env.PARLEY_BIN ?? path.resolve("../../bin/parley")

export class Server {
  url = ""
  #process: ChildProcess | undefined
  #port = 0
  #data = fs.mkdtempSync(path.join(os.tmpdir(), "parley-web-"))
  #flags: string[]

  constructor(flags: string[]) {
    this.#flags = flags
  }

  async start(): Promise<void> {
    const args = ["serve", "--listen", `127.0.0.1:${this.#port}`, "--data", this.#data, ...this.#flags]
    const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] })
    this.#process = child
    let output = ""
    this.#port = await new Promise((resolve, reject) => {
      const fail = () => reject(new Error(`the server does not listen: ${output}`))
      const timer = setTimeout(fail, startDeadline)
      const read = (text: string) => {
        output = (output + text).slice(-20_000)
        const found = output.match(/listening on http:\/\/[^\s:]+:(\d+)/)
        if (!found) return
        clearTimeout(timer)
        resolve(Number(found[1]))
      }
      child.stdout!.setEncoding("utf8").on("data", read)
      child.stderr!.setEncoding("utf8").on("data", read)
      child.once("error", reject)
      child.once("exit", fail)
    })
    this.url = `ws://127.0.0.1:${this.#port}`
  }

  /** kill ends the process as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, "exit")
    child.kill("SIGKILL")
    await ended
  }

  /** forget makes a killed server one that has nothing, as from an old backup. */
  forget(): void {
    fs.rmSync(this.#data, { recursive: true, force: true })
    fs.mkdirSync(this.#data)
  }

  /** freeze leaves the connections as they are, and answers nothing. */
  freeze(): void {
    this.#process!.kill("SIGSTOP")
  }

  thaw(): void {
    this.#process!.kill("SIGCONT")
  }

  /** fill leaves no room on the disk for whatever is written; empty gives it back. */
  fill(): void {
    this.#limitFiles("0")
  }

  empty(): void {
    this.#limitFiles("unlimited")
  }

  #limitFiles(bytes: string): void {
    execFileSync("prlimit", ["--pid", String(this.#process!.pid), `--fsize=${bytes}:unlimited`])
  }

  async close(): Promise<void> {
    await this.kill()
    fs.rmSync(this.#data, { recursive: true, force: true })
  }
}

/** useServer gives a test file a server of its own. */
export function useServer(...flags: string[]): Server {
  const server = new Server(flags.length > 0 ? flags : ["--dev"])
  before(() => server.start())
  after(() => server.close())
  return server
}
