// The window: somebody looks, the network is back or gone, the tab is about to
// close. It does nothing where there is no window.

const signs = ["focus", "online", "pageshow"]

export class WindowWatch {
  #awake: () => void
  #doubt: () => void
  #warns = false

  /** awake is called when what was waited for should be tried at once, doubt when the network is gone. */
  constructor(awake: () => void, doubt: () => void) {
    this.#doubt = doubt
    this.#awake = () => {
      if (document.visibilityState !== "hidden") awake()
    }
  }

  begin(): void {
    if (typeof window === "undefined") return
    for (const sign of signs) window.addEventListener(sign, this.#awake)
    window.addEventListener("offline", this.#doubt)
    document.addEventListener("visibilitychange", this.#awake)
  }

  end(): void {
    this.warn(false)
    if (typeof window === "undefined") return
    for (const sign of signs) window.removeEventListener(sign, this.#awake)
    window.removeEventListener("offline", this.#doubt)
    document.removeEventListener("visibilitychange", this.#awake)
  }

  /** warn says whether the user is asked before the tab closes. It listens only
   * while it must: browsers do not keep a page that does, for going back to. */
  warn(wanted: boolean): void {
    if (typeof window === "undefined" || wanted === this.#warns) return
    this.#warns = wanted
    if (wanted) window.addEventListener("beforeunload", ask)
    else window.removeEventListener("beforeunload", ask)
  }
}

function ask(event: BeforeUnloadEvent): void {
  event.preventDefault()
  event.returnValue = "" // what older browsers want
}
