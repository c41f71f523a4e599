// What the browser tests play on: the real server, as a process of its own, and
// Chromium, with a context for each person. Nothing here sleeps: everything waits
// for what it is about.
import assert from "node:assert/strict"
import { execFile, execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import { createRequire } from "node:module"
import os from "node:os"
import path from "node:path"
import { after, before } from "node:test"
import { fileURLToPath } from "node:url"
import { chromium } from "playwright-core"

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..")

export const binary = process.env.PARLEY_BIN ?? path.join(root, "bin/parley")

const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")

/** Where pictures go, for people to look at. */
export const pictures = path.join(root, "tmp/pictures")

/** How long anything that is waited for may take, in ms: longer than a server may go unnoticed. */
const patience = 40_000

export const parley = (...args) => execFileSync(binary, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })

/** parleyFails runs a command and returns its exit code and all it prints. */
export const parleyRuns = (...args) => new Promise(resolve => {
  execFile(binary, args, (error, stdout, stderr) => resolve({ code: error?.code ?? 0, text: stdout + stderr }))
})

export class Server {
  #flags
  #process
  #port = 0
  data = fs.mkdtempSync(path.join(os.tmpdir(), "parley-page-"))
  log = ""

  constructor(...flags) {
    this.#flags = flags.length > 0 ? flags : ["--dev"]
  }

  get url() {
    return `http://127.0.0.1:${this.#port}`
  }

  async start() {
    const args = ["serve", "--log", "debug", "--listen", `127.0.0.1:${this.#port}`, "--data", this.data, ...this.#flags]
    const child = (this.#process = spawn(binary, args, { stdio: ["ignore", "ignore", "pipe"] }))
    const began = this.log.length
    child.stderr.setEncoding("utf8")
    await new Promise((resolve, reject) => {
      child.once("exit", () => reject(new Error(`the server ended: ${this.log}`)))
      child.stderr.on("data", text => {
        this.log += text
        const found = this.log.slice(began).match(/listening on http:\/\/127\.0\.0\.1:(\d+)/)
        if (found) {
          this.#port = Number(found[1])
          resolve()
        }
      })
    })
  }

  /** kill ends the server as a crash would. */
  async kill() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = once(this.#process, "exit")
    this.#process.kill("SIGKILL")
    await ended
  }

  freeze() {
    this.#process.kill("SIGSTOP")
  }

  thaw() {
    this.#process.kill("SIGCONT")
  }

  /** transaction makes one, the sale of a house unless it is said otherwise, and returns its id. */
  async transaction({ id = `sale-${++count}`, token, fields = sale, parties = ["alice", "bob"], ...settings } = {}) {
    const answer = await fetch(`${this.url}/v1/transactions${token ? "" : "?user=holly&role=host"}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) },
      body: JSON.stringify({ id, fields, parties, ...settings }),
    })
    assert.ok(answer.ok, await answer.text())
    return id
  }
}

let count = 0

export const sale = {
  price: {
    label: "Price", required: true,
    options: {
      seller: { value: 412000, source: "offer of the seller, page 2" },
      buyer: { value: 398500, source: "offer of the buyer, page 1" },
    },
  },
  fixtures: {
    label: "Fixtures included", required: false,
    options: { all: { value: ["kitchen", "lamps", "shed"], source: "offer of the buyer, page 3" } },
  },
  remarks: { label: "Remarks", required: false, options: {} },
}

const args = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
]

/** Stage has one server and one browser for the tests of a file. */
export class Stage {
  constructor(...flags) {
    this.server = new Server(...flags)
    before(async () => {
      await this.server.start()
      this.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args })
    })
    after(async () => {
      await this.browser?.close()
      await this.server.kill()
      fs.rmSync(this.server.data, { recursive: true, force: true })
    })
  }

  /** person is somebody with a browser of their own; t closes it, and finds what it complained of. */
  async person(t, user, options = {}) {
    const { role, ...rest } = options
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...rest })
    context.setDefaultTimeout(patience)
    const person = new Person(this.server, context, user, role)
    t.after(async () => {
      await context.close()
      assert.deepEqual(person.complaints, [], `what the browser of ${user} complained of`)
    })
    return person
  }

  /** traced returns what the tasks of the main threads of all pages take meanwhile, in ms on the processor, the longest first. */
  async traced(act) {
    await this.browser.startTracing(undefined, { categories: ["disabled-by-default-devtools.timeline", "devtools.timeline", "toplevel"] })
    let trace
    try {
      await act()
    } finally {
      trace = JSON.parse((await this.browser.stopTracing()).toString())
    }
    const mains = new Set(trace.traceEvents.filter(e => e.name === "thread_name" && e.args.name === "CrRendererMain").map(e => `${e.pid} ${e.tid}`))
    const tasks = trace.traceEvents.filter(e => e.name === "RunTask" && e.ph === "X" && mains.has(`${e.pid} ${e.tid}`))
    return tasks.map(task => task.tdur / 1000).sort((a, b) => b - a)
  }

  /** two are Alice and Bob, each at the transaction and online. */
  async two(t, id, options = {}) {
    const alice = await this.person(t, "alice", options)
    const bob = await this.person(t, "bob", options)
    await Promise.all([alice.open(id), bob.open(id)])
    return [alice, bob]
  }
}

export class Person {
  complaints = []

  constructor(server, context, user, role) {
    Object.assign(this, { server, context, user, role })
  }

  get name() {
    return this.user[0].toUpperCase() + this.user.slice(1)
  }

  address(id) {
    const role = this.role ? `&role=${this.role}` : ""
    return `${this.server.url}/t/${id}?user=${this.user}&name=${this.name}${role}`
  }

  /** tab opens another page of this person, and makes it the one that is used. */
  async tab(address) {
    this.page = await this.context.newPage()
    this.page.on("pageerror", error => this.complaints.push(error.stack ?? error.message))
    this.page.on("console", message => {
      if (/Content Security Policy|Refused to/.test(message.text())) this.complaints.push(message.text())
    })
    this.page.on("dialog", dialog => dialog.accept()) // of leaving with something unsaved
    await this.page.goto(address)
    return this.page
  }

  async open(id) {
    await this.tab(this.address(id))
    await this.saved()
    await this.see(".field")
  }

  see(selector, options) {
    return this.page.waitForSelector(selector, options)
  }

  gone(selector) {
    return this.page.waitForSelector(selector, { state: "detached" })
  }

  /** saved waits until this person is online, and the server has everything. */
  saved() {
    return this.see("[data-state=online][data-saved=true]")
  }

  /** kept waits until the service worker has the page. */
  kept() {
    return this.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined))
  }

  card(field, value) {
    return `[data-field=${field}] button.card[data-value="${value}"]`
  }

  pick(field, value) {
    return this.page.click(this.card(field, value))
  }

  async type(field, text) {
    await this.page.fill(`[data-field=${field}] input`, text)
    await this.page.press(`[data-field=${field}] input`, "Enter")
  }

  /** sees waits until somebody's pick of a value is shown. */
  sees(field, value, who) {
    return this.see(`[data-field=${field}] .card.picked:has-text("${value}"):has-text("${who} picked this")`)
  }

  async ready() {
    await this.see(".ready-button[aria-disabled=false]")
    await this.page.click(".ready-button")
    await this.see(".ready-button[aria-pressed=true], .dock.agreed")
  }

  /** says waits until the dock says something. */
  says(text) {
    return this.see(`.dock:has-text("${text}")`)
  }

  /** watch notes in which states somebody is shown from now on; it returns what reads them. */
  async watch(user) {
    await this.page.evaluate(user => {
      const states = (window.watched = [])
      const note = () => {
        const found = document.querySelectorAll(`.person[data-user="${user}"]`)
        const state = found.length === 1 ? found[0].className.replace(/person|ready/g, "").trim() : `${found.length} times`
        if (states.at(-1) !== state) states.push(state)
      }
      note()
      new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true })
    }, user)
    return () => this.page.evaluate(() => window.watched)
  }

  async picture(name) {
    fs.mkdirSync(pictures, { recursive: true })
    await this.page.screenshot({ path: path.join(pictures, `${name}.png`) })
  }
}

/** scan lets axe-core look at a page in all its rules, WCAG AA among them. */
export async function scan(person, name) {
  await person.page.evaluate(() => Promise.all(document.getAnimations().map(a => a.finished)))
  await person.page.evaluate(axe)
  const { violations } = await person.page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }))
  await person.picture(name.replaceAll(" ", "-"))
  const found = violations.map(v => `${v.id}: ${v.help}: ${v.nodes.map(n => n.html.slice(0, 120)).join(" | ")}`)
  assert.deepEqual(found, [], name)
}
