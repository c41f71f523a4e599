// The browser client of Parley: see ../README.md.
export { open, type OpenOptions } from "./transaction.js"
export { documentUrl } from "./document.js"
export * from "./state.js"
