// A TCP proxy between a client and the server, for links that fail without a word.
import { once } from "node:events"
import net from "node:net"

export class Proxy {
  #server
  #pairs = new Set()
  dropped = 0 // connections that the server has ended

  static async start(t, target) {
    const proxy = new Proxy()
    const { hostname, port } = new URL(target)
    proxy.#server = net.createServer(down => proxy.#join(down, net.connect(+port, hostname)))
    proxy.#server.listen(0, "127.0.0.1")
    await once(proxy.#server, "listening")
    t.after(() => proxy.close())
    return proxy
  }

  get url() {
    return `ws://127.0.0.1:${this.#server.address().port}`
  }

  #join(down, up) {
    const pair = { down, up }
    this.#pairs.add(pair)
    down.on("error", () => {}).on("data", bytes => pair.silent || up.write(bytes))
    up.on("error", () => {}).on("data", bytes => pair.silent || down.write(bytes))
    down.on("close", () => pair.silent || up.destroy())
    up.on("close", () => {
      this.dropped++
      this.#pairs.delete(pair)
      down.destroy()
    })
  }

  // goSilent leaves every connection open and passes on nothing more, not even
  // that an end has closed its side.
  goSilent() {
    for (const pair of this.#pairs) pair.silent = true
  }

  close() {
    this.#server.close()
    for (const { down, up } of this.#pairs) {
      down.destroy()
      up.destroy()
    }
  }
}
