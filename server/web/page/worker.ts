// The service worker: it keeps the page, so that it opens without a network. It
// keeps nothing of a transaction, which the client keeps in IndexedDB, and no
// address, which may hold a token.

// By the build: every file under /assets/, and a name for all of them together.
declare const ASSETS: string[]
declare const VERSION: string

type Extendable = Event & { waitUntil(done: Promise<unknown>): void }
type Fetch = Extendable & { request: Request; respondWith(answer: Promise<Response>): void }

const worker = self as unknown as {
  addEventListener(type: "install" | "activate", listen: (event: Extendable) => void): void
  addEventListener(type: "fetch", listen: (event: Fetch) => void): void
  skipWaiting(): Promise<void>
  clients: { claim(): Promise<void> }
  location: Location
}

const cacheName = `parley-${VERSION}`

// The pages by the address under which they are kept: all transactions have one.
const shells = ["/", "/t/-"]

/** How long a server may take to answer before the page that is kept is shown, in ms. */
const patience = 3000

worker.addEventListener("install", event => {
  event.waitUntil(keep().then(() => worker.skipWaiting()))
})

async function keep(): Promise<void> {
  const cache = await caches.open(cacheName)
  await Promise.all(ASSETS.map(async url => {
    const there = await caches.match(url)
    await (there ? cache.put(url, there) : cache.add(url))
  }))
  await Promise.all(shells.map(url => refresh(url)))
}

async function refresh(url: string): Promise<Response> {
  const answer = await fetch(url, { cache: "no-cache", headers: { Accept: "text/html" } })
  if (answer.ok) await (await caches.open(cacheName)).put(url, answer.clone())
  return answer
}

worker.addEventListener("activate", event => {
  event.waitUntil(forget().then(() => worker.clients.claim()))
})

async function forget(): Promise<void> {
  for (const name of await caches.keys()) {
    if (name.startsWith("parley-") && name !== cacheName) await caches.delete(name)
  }
}

worker.addEventListener("fetch", event => {
  const { request } = event
  const url = new URL(request.url)
  if (request.method !== "GET" || url.origin !== worker.location.origin) return
  if (url.pathname.startsWith("/assets/")) event.respondWith(asset(request))
  else if (request.mode === "navigate" && shellOf(url.pathname)) event.respondWith(page(shellOf(url.pathname)!))
})

function shellOf(path: string): string | undefined {
  if (path === "/") return "/"
  return path.startsWith("/t/") ? "/t/-" : undefined
}

// An asset never changes under its name.
async function asset(request: Request): Promise<Response> {
  return (await caches.match(request, { ignoreVary: true })) ?? fetch(request)
}

// A page is asked for anew each time. If nobody answers soon, the one that is kept
// is shown: it has its assets, whatever the server has by now.
async function page(shell: string): Promise<Response> {
  const fresh = refresh(shell)
  const late = new Promise<undefined>(resolve => setTimeout(resolve, patience))
  const answer = await Promise.race([fresh.catch(() => undefined), late])
  if (answer?.ok) return answer
  return (await caches.match(shell, { ignoreVary: true })) ?? fresh
}
