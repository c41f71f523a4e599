// Package load puts people on a Parley server who pick, and measures how long
// it takes until a pick is acknowledged, and until each other person has it.
//
// The picks are real ones, by people who each have a connection and a replica
// of their own; but a replica is a few bits here, since the people of one
// transaction share the changes themselves (ledger). So thousands fit into one
// process. They trust the server: it is measured here and not checked, but for
// one thing: what it acknowledged it must have.
//
// Load is open-loop. A pick is due at a time, whether the server keeps up or
// not, and its latency counts from there; who has no connection picks offline,
// as people do, and sends it later.
//
// A [Crowd] is opened, measured in as many windows as wanted, verified and
// closed. [Search] decides how much load to try next. Only cmd/parley imports
// this package; what is printed is its business.
package load
