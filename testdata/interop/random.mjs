// random returns a source of whole numbers below a bound; the same seed, the same numbers.
export function random(seed) {
  let state = seed
  return below => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}
