// The React hooks of Parley: see ../README.md.
export * from "./hooks.js"
export type { OpenOptions } from "../client/index.js"
