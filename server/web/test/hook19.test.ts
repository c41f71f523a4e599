// The hooks under React 19, the one that is next to us.
process.env.REACT = "19"
await import("./hook.js")

export {}
