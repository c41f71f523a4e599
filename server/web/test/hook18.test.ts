// The hooks under React 18, which is in test/react18.
import { register } from "node:module"
import path from "node:path"
import { pathToFileURL } from "node:url"

const beside = pathToFileURL(path.resolve("test/react18/index.js"))
register(
  "data:text/javascript," +
    encodeURIComponent(`
      export const resolve = (name, context, next) =>
        next(name, /^react(-dom)?($|\\/)/.test(name) ? { ...context, parentURL: ${JSON.stringify(beside)} } : context)
    `)
)
process.env.REACT = "18"
await import("./hook.js")

export {}
