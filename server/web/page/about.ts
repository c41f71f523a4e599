// The front page of a server that wants tokens: it puts a link together.

const form = document.querySelector<HTMLFormElement>("#go")!
form.addEventListener("submit", event => {
  event.preventDefault()
  const data = new FormData(form)
  const text = (name: string) => String(data.get(name) ?? "").trim()
  location.href = `/t/${encodeURIComponent(text("transaction"))}?token=${encodeURIComponent(text("token"))}`
})
